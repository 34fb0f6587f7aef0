package rotatetest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/storage"
)

// A record is what the store holds about one credential that rotates, whichever server wrote it.
type record struct {
	rotate.Record
	rows    Rows
	secrets map[string][]string // by the ID of the credential
}

// records returns all records of the mount.
func (h *Harness) records() (out []*record) {
	v := h.view()
	for _, rows := range h.plan.Rows {
		for e, err := range v.Scan(context.Background(), rows.Records, storage.PrefixEnd(rows.Records)) {
			if err != nil {
				h.Fatal(err)
			}
			r := &record{rows: rows, secrets: map[string][]string{}}
			if err := json.Unmarshal(e.Value, &r.Record); err != nil {
				h.Fatal(err)
			}
			r.Name = strings.TrimPrefix(e.Key, rows.Records)
			h.readSecrets(v, r)
			out = append(out, r)
		}
	}
	return out
}

func (h *Harness) readSecrets(v *barrier.View, r *record) {
	row, err := v.Get(context.Background(), r.rows.Secrets+r.Name)
	if err != nil {
		h.Fatal(err)
	}
	var sealed struct {
		Keys map[string]struct {
			Secret map[string][]byte `json:"hidden"`
		} `json:"keys"`
	}
	if row.Version == 0 {
		return
	}
	if err := json.Unmarshal(row.Value, &sealed); err != nil {
		h.Fatal(err)
	}
	for id, k := range sealed.Keys {
		for _, v := range k.Secret {
			r.secrets[id] = append(r.secrets[id], string(v))
		}
	}
}

// checkCall checks a call before it is made. The intent of the call must be durable, and the call
// must not retire or disable a credential in use.
func (h *Harness) checkCall(server int, c Call) {
	wrong := ""
	switch c.What {
	case "create":
		if !slices.ContainsFunc(h.records(), func(r *record) bool { return r.mayCreate(c.ID) }) {
			wrong = "no record has the attempt"
		}
	case "disable", "retire":
		rs := h.records()
		if !slices.ContainsFunc(rs, func(r *record) bool { return r.mayRetire(c.ID) }) {
			wrong = "no record is about to retire it"
		}
		if slices.ContainsFunc(rs, func(r *record) bool { return r.Current.Key() == c.ID }) {
			wrong = "it is current"
		}
	case "set":
		if !slices.ContainsFunc(h.records(), func(r *record) bool { return r.hasSecret(c.Value) }) {
			wrong = "the value is not durable"
		}
	default:
		return
	}
	h.Note("server %d calls %s %s%s", server, c.What, c.ID, c.Value)
	if wrong != "" {
		h.Note("this call is not allowed: %s", wrong)
		h.Errorf("server %d calls %s %s: %s", server, c.What, c.ID, wrong)
	}
}

// mayCreate reports whether a creating call with the marker is recorded and about to be made. An
// empty marker matches any call.
func (r *record) mayCreate(marker string) bool {
	return r.Turn != nil && slices.ContainsFunc(r.Turn.Attempts,
		func(a rotate.Attempt) bool { return (marker == "" || a.Marker == marker) && a.Outcome == "" })
}

// mayRetire reports whether a credential is about to be retired.
func (r *record) mayRetire(id string) bool {
	t := r.Turn
	if t == nil {
		return false
	}
	if t.Victim().Key() == id && t.State == rotate.Retiring {
		return true
	}
	return slices.ContainsFunc(t.Attempts, func(a rotate.Attempt) bool { return slices.Contains(a.IDs, id) })
}

// hasSecret reports whether a secret is stored.
func (r *record) hasSecret(value string) bool {
	for _, values := range r.secrets {
		if slices.Contains(values, value) {
			return true
		}
	}
	return false
}

// knows reports whether the record knows a credential, or a call that may have left it.
func (r *record) knows(l Live) bool {
	if l.Value != "" {
		return r.hasSecret(l.Value)
	}
	if slices.ContainsFunc(append(r.Idle, r.Current), func(c *rotate.Ref) bool { return c.Key() == l.ID }) {
		return true
	}
	t := r.Turn
	if t == nil {
		return false
	}
	return t.New.Key() == l.ID || t.Old.Key() == l.ID || slices.ContainsFunc(t.Attempts, func(a rotate.Attempt) bool {
		open := !a.Settled && (a.Outcome == "" || a.Outcome == rotate.Unknown.String())
		return slices.Contains(a.IDs, l.ID) || open && l.Label == "" || l.Label == a.Marker
	})
}

// checkKnown checks that the store knows each credential at the provider.
func (h *Harness) checkKnown() {
	live := h.subject.Live() // before the records: a call that ends between is known to both
	rs := h.records()
	for _, l := range live {
		if !slices.ContainsFunc(rs, func(r *record) bool { return r.knows(l) || h.madeEarlier(r, l) }) {
			h.Note("no record has %+v", l)
			h.Errorf("no record has %+v", l)
		}
	}
}

// madeEarlier reports whether an earlier rotation of the record made a credential and then took it
// for gone, because a list lagged or the provider lied. The next rotation finds the credential by
// its label.
func (h *Harness) madeEarlier(r *record, l Live) bool {
	return l.Label != "" && slices.ContainsFunc(h.past(r), func(t rotate.Turn) bool {
		return slices.ContainsFunc(t.Attempts, func(a rotate.Attempt) bool { return a.Marker == l.Label })
	})
}

// past returns the record's earlier rotations.
func (h *Harness) past(r *record) (all []rotate.Turn) {
	prefix := r.rows.History + r.Name + "/"
	for e, err := range h.view().Scan(context.Background(), prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			h.Fatal(err)
		}
		var t rotate.Turn
		if err := json.Unmarshal(e.Value, &t); err != nil {
			h.Fatal(err)
		}
		all = append(all, t)
	}
	return all
}

// checkEnd checks the end of the history: all failures are over, and time has passed.
func (h *Harness) checkEnd() {
	want, ids := map[string]bool{}, map[string]string{}
	for _, r := range h.records() {
		if r.Turn != nil || r.LastError != "" || r.Failures != 0 || r.Alert != nil || r.Paused != nil ||
			r.Queued != nil {
			h.Errorf("at the end of %s%s: rotation %+v, error %q, %d failures, alert %v, pause %v, queued %v",
				r.rows.Records, r.Name, r.Turn, r.LastError, r.Failures, r.Alert, r.Paused, r.Queued)
		}
		for _, c := range append(slices.Clone(r.Idle), r.Current) {
			if c != nil {
				want[c.ID] = true
			}
		}
		for id, values := range r.secrets {
			for _, v := range values {
				ids[v] = id
			}
			if !want[id] {
				h.Errorf("the secret of %s is kept, although the record %s%s does not need it", id, r.rows.Records,
					r.Name)
			}
		}
		if n := len(h.past(r)); n != min(int(r.Turns), rotate.MaxHistory) {
			h.Errorf("the history of %s%s has %d rotations, want %d", r.rows.Records, r.Name, n, r.Turns)
		}
		h.checkJournal(r)
	}
	for _, l := range h.subject.Live() {
		if l.Value != "" {
			l.ID = ids[l.Value]
		}
		if !want[l.ID] {
			h.Errorf("%s %s%s works at the provider, but is not current", l.ID, l.Label, l.Value)
		}
		delete(want, l.ID)
	}
	if len(want) > 0 {
		h.Errorf("current, but not at the provider: %q", slices.Collect(maps.Keys(want)))
	}
	for _, r := range h.subject.Readers() {
		if value, _, ok := r.Read(0); !ok || !r.Works(value) {
			h.Errorf("at the end %s reads %q, without a warning: %v; it works: %v", r.Name, value, ok, r.Works(value))
		}
	}
	if h.uses < h.plan.Uses {
		h.Errorf("readers used what they read %d times, want %d", h.uses, h.plan.Uses)
	}
	h.checkNoSecrets()
}

// checkJournal checks that the journal says where the credentials came from, in a possible order.
func (h *Harness) checkJournal(r *record) {
	var mentioned strings.Builder
	last, turn := time.Time{}, uint32(0)
	prefix := r.rows.Journal + r.Name + "/"
	for e, err := range h.view().Scan(context.Background(), prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			h.Fatal(err)
		}
		var row rotate.JournalRow
		if err := json.Unmarshal(e.Value, &row); err != nil {
			h.Fatal(err)
		}
		// a suspended server commits what it read before
		if row.At.Before(last.Add(-10*time.Minute)) || row.Turn < turn {
			h.Errorf("the journal of %s%s has rotation %d after %d, at %s after %s", r.rows.Records, r.Name, row.Turn,
				turn, row.At, last)
		}
		last, turn = row.At, row.Turn
		fmt.Fprintln(&mentioned, row.More)
	}
	for _, c := range append(slices.Clone(r.Idle), r.Current) {
		if c != nil && !c.Adopted && !strings.Contains(mentioned.String(), c.ID) {
			h.Errorf("the journal of %s%s does not mention %s", r.rows.Records, r.Name, c.ID)
		}
	}
	if turn != r.Turns {
		h.Errorf("the journal of %s%s ends with rotation %d, want %d", r.rows.Records, r.Name, turn, r.Turns)
	}
}

// journals returns what the journals say, as lines to print.
func (h *Harness) journals() (lines []string) {
	v := h.view()
	for _, rows := range h.plan.Rows {
		for e, err := range v.Scan(context.Background(), rows.Journal, storage.PrefixEnd(rows.Journal)) {
			var row rotate.JournalRow
			if err == nil {
				err = json.Unmarshal(e.Value, &row)
			}
			if err != nil {
				h.Error(err)
				return lines
			}
			lines = append(lines, fmt.Sprintf("%s journal of %s: rotation %d, %s, %s %v", row.At.Format(clock),
				e.Key[len(rows.Journal):], row.Turn, row.State, row.What, row.More))
		}
	}
	return lines
}

// checkNoSecrets checks that nothing that anybody sees contains a secret.
func (h *Harness) checkNoSecrets() {
	text, secrets := h.subject.Shown()
	for _, s := range secrets {
		if s != "" && strings.Contains(text, s) {
			h.Errorf("secret %q is shown", s)
		}
	}
}
