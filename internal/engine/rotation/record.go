package rotation

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation/schedule"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A State is where a turn stands. A key without a turn is Scheduled.
type State string

// The states, in their order, and how a turn ends. There is nothing to roll
// out yet between publishing and grace.
const (
	Scheduled   State = "scheduled"
	Creating    State = "creating"
	Settling    State = "settling"
	Verifying   State = "verifying"
	Publishing  State = "publishing"
	Grace       State = "grace"
	Retiring    State = "retiring"
	RollingBack State = "rolling-back"

	Done       State = "done"
	RolledBack State = "rolled-back"
	Failed     State = "failed"
)

// A record is all that is known of one key but its secrets.
type record struct {
	Name      string    `json:"name"`
	Tag       string    `json:"tag"` // of its markers; another for each life of a name
	Created   time.Time `json:"created"`
	Config    settings  `json:"config"`
	Bind      binding   `json:"bind"`
	Principal []string  `json:"principal"` // policy names; evaluated at each turn
	Owner     string    `json:"owner"`     // display name of who they were

	Turns       uint32    `json:"turns"`        // the last turn's number
	Current     *held     `json:"current"`      // nil: none that is recorded as ours
	LastRotated time.Time `json:"last_rotated"` // when a turn last published
	Next        time.Time `json:"next"`         // the next turn by period; absolute
	Retry       time.Time `json:"retry"`        // the next turn after a failed one
	Due         time.Time `json:"due"`          // where the due item is; zero: none
	Failures    int       `json:"failures"`     // turns in a row
	Turn        *turn     `json:"turn"`         // in flight
	Queued      *start    `json:"queued"`       // to begin when Turn ends
	Paused      *pause    `json:"paused"`
	Alert       *alert    `json:"alert"`
	LastError   string    `json:"last_error"` // redacted
	Unproven    []string  `json:"unproven"`   // of the last turn that published
}

// settings are what a user configures, but for the admin credentials.
type settings struct {
	Params map[string]json.RawMessage `json:"params"`
	Path   string                     `json:"path"`
	Fields map[string]string          `json:"fields"` // output → field
	Policy schedule.Policy            `json:"policy"`
	Settle Settle                     `json:"settle"` // zero fields: the definition's
}

// A binding says which text a key turns by.
type binding struct {
	Provider string    `json:"provider"`
	Name     string    `json:"name"`
	Hash     string    `json:"hash"`
	At       time.Time `json:"at"`
}

// held is a key at the provider that is recorded as ours.
type held struct {
	ID      string    `json:"id"`
	At      time.Time `json:"at"`
	Expires time.Time `json:"expires"`
	Adopted bool      `json:"adopted"` // made by somebody else
}

func (h *held) id() string {
	if h == nil {
		return ""
	}
	return h.ID
}

type pause struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	Auto   bool      `json:"auto"` // by the engine itself: it asks a person
}

type alert struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// start is why a turn begins.
type start struct {
	Reason string `json:"reason"` // "schedule", "manual"
	By     string `json:"by"`
	Leaked bool   `json:"leaked"`
}

// A turn is one replacement of a key, from its first intent to its last proof.
type turn struct {
	N        uint32      `json:"n"`
	ID       string      `json:"id"` // the same for no two turns, ever: publishing is idempotent by it
	Start    start       `json:"start"`
	Started  time.Time   `json:"started"`
	State    State       `json:"state"`
	Stages   []stage     `json:"stages"`
	Attempts []attempt   `json:"attempts"`
	New      *held       `json:"new"`
	Old      *held       `json:"old"`
	Tries    int         `json:"tries"`  // of the present call, failed
	Streak   int         `json:"streak"` // successful verifications in a row
	Until    time.Time   `json:"until"`  // when settling is given up
	Proof    Proof       `json:"proof"`
	Put      publication `json:"put"`
	Back     *back       `json:"back"` // the turn is being taken back
	End      ending      `json:"end"`
	Unproven []string    `json:"unproven"`
	Errors   []stumble   `json:"errors"`
	Ended    time.Time   `json:"ended"`
}

type stage struct {
	State State     `json:"state"`
	At    time.Time `json:"at"`
}

// An attempt is one creating call. It is recorded before the call.
type attempt struct {
	N        uint16    `json:"n"`
	Marker   string    `json:"marker"`
	At       time.Time `json:"at"`
	Deadline time.Time `json:"deadline"` // when the call returns at the latest
	Late     time.Time `json:"late"`     // when its effect comes at the latest
	Outcome  string    `json:"outcome"`  // "": not known to have returned; "created", or an [Outcome]
	Before   []string  `json:"before"`   // ids seen before the call, where there are no labels
	IDs      []string  `json:"ids"`      // what the call left without our knowing the secret
	Swept    bool      `json:"swept"`    // all of IDs are retired
	Settled  bool      `json:"settled"`  // nothing can come of it any more
}

// open reports whether an effect of the call may still be found.
func (a *attempt) open() bool {
	return !a.Settled && (a.Outcome == "" || a.Outcome == Unknown.String())
}

// left notes that a key is what the call left behind, to be retired.
func (a *attempt) left(id string) {
	if !slices.Contains(a.IDs, id) {
		a.IDs = append(a.IDs, id)
	}
	a.Swept = false
}

// publication is what was written, or is about to be.
type publication struct {
	Asked   time.Time `json:"asked"` // the intent; zero: nothing can have been published
	CAS     int       `json:"cas"`
	Next    time.Time `json:"next"`
	At      time.Time `json:"at"` // done; zero: not known
	Version int       `json:"version"`
}

// back says how a turn is taken back.
type back struct {
	At     time.Time   `json:"at"`
	Reason string      `json:"reason"`
	ByUser bool        `json:"by_user"`
	Ask    bool        `json:"ask"`    // the key waits for a person when the turn has ended
	Leaked bool        `json:"leaked"` // the new key does not get its grace
	Put    publication `json:"put"`    // of the old value, where the new one was published
}

// ending is the end of the key that the turn leaves behind.
type ending struct {
	After    time.Time `json:"after"` // not before
	Now      bool      `json:"now"`   // whoever uses it
	Hold     time.Time `json:"hold"`  // use keeps it until then, and then a person is called
	Disabled time.Time `json:"disabled"`
	Retired  time.Time `json:"retired"`
	Dead     time.Time `json:"dead"`
	Proof    string    `json:"proof"` // "refused", "not listed", "none"
	Listed   time.Time `json:"listed"`
}

type stumble struct {
	At      time.Time `json:"at"`
	State   State     `json:"state"`
	Outcome string    `json:"outcome"`
	Text    string    `json:"text"` // redacted
}

// victim is the key that the turn retires, live the one that it leaves.
func (t *turn) victim() *held {
	if t.Back != nil {
		return t.New
	}
	return t.Old
}

func (t *turn) live() *held {
	if t.Back != nil {
		return t.Old
	}
	return t.New
}

// published is when readers could last have met the victim's value as the current one.
func (t *turn) published() time.Time {
	if t.Back != nil {
		return t.Back.Put.At
	}
	return t.Put.At
}

// Limits on what a turn keeps.
const (
	maxStages = 60
	maxErrors = 20
	maxBefore = 2000
)

// last returns the newest attempt, or nil.
func (t *turn) last() *attempt {
	if len(t.Attempts) == 0 {
		return nil
	}
	return &t.Attempts[len(t.Attempts)-1]
}

// attempt finds one by its marker's text.
func (t *turn) attempt(marker string) *attempt {
	i := slices.IndexFunc(t.Attempts, func(a attempt) bool { return a.Marker == marker })
	if i < 0 {
		return nil
	}
	return &t.Attempts[i]
}

// vault holds a key's secrets. It is stored beside the record, in the same commits.
type vault struct {
	Admin    map[string]secret.Value
	Keys     map[string]Credential // by id: current, pending
	Previous map[string]secret.Value
}

// sealedVault is the stored form of a vault; the barrier encrypts it.
type sealedVault struct {
	Admin    map[string][]byte    `json:"admin"`
	Keys     map[string]sealedKey `json:"keys"`
	Previous map[string][]byte    `json:"previous"`
}

type sealedKey struct {
	Secret  map[string][]byte `json:"hidden"`
	Public  map[string]string `json:"public"`
	Expires time.Time         `json:"expires"`
}

func revealed(in map[string]secret.Value) map[string][]byte {
	out := map[string][]byte{}
	for k, v := range in {
		out[k] = v.Reveal()
	}
	return out
}

func hidden(in map[string][]byte) map[string]secret.Value {
	out := map[string]secret.Value{}
	for k, v := range in {
		out[k] = secret.New(v)
	}
	return out
}

func (v *vault) encode() ([]byte, error) {
	s := sealedVault{revealed(v.Admin), map[string]sealedKey{}, revealed(v.Previous)}
	for id, c := range v.Keys {
		s.Keys[id] = sealedKey{revealed(c.Secret), c.Public, c.Expires}
	}
	b, err := json.Marshal(s)
	return b, fault.Wrap("rotation.vault", fault.Internal, err)
}

func decodeVault(b []byte) (*vault, error) {
	var s sealedVault
	if len(b) > 0 {
		if err := json.Unmarshal(b, &s); err != nil {
			return nil, fault.New("rotation.vault", fault.Internal, "the stored secrets of a key cannot be read")
		}
	}
	v := &vault{hidden(s.Admin), map[string]Credential{}, hidden(s.Previous)}
	for id, k := range s.Keys {
		v.Keys[id] = Credential{ID: id, Secret: hidden(k.Secret), Public: k.Public, Expires: k.Expires}
	}
	return v, nil
}

// know teaches r every secret of v.
func (v *vault) know(r *secret.Redactor) {
	for _, m := range []map[string]secret.Value{v.Admin, v.Previous} {
		for _, s := range m {
			r.Know(s)
		}
	}
	for _, c := range v.Keys {
		for _, s := range c.Secret {
			r.Know(s)
		}
	}
}

// Keys of the store, below the mount:
//
//	config                  the mount's configuration
//	recipe/<name>           a user's recipe, its text
//	k/<name>                a key's record
//	s/<name>                its secrets
//	b/<name>                the definition that it is bound to
//	h/<name>/<turn>         a turn that has ended
//	j/<name>/<commit>       its journal: one row for each commit
const (
	configKey     = "config"
	recipePrefix  = "recipe/"
	recordPrefix  = "k/"
	secretPrefix  = "s/"
	boundPrefix   = "b/"
	historyPrefix = "h/"
	journalPrefix = "j/"
)

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func checkName(name string) error {
	if !nameForm.MatchString(name) {
		return fault.New("rotation.name", fault.Invalid, "field \"name\": %q is refused; use 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit", name)
	}
	return nil
}

// newTag makes a marker's Key for one life of a name: a key that is deleted and
// made again, or made on two mounts, must not take the other's leftovers for its own.
func newTag(name string) string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	base, _, _ := strings.Cut(Tag(name), ".")
	return base[:min(len(base), 23)] + "." + hex.EncodeToString(b[:])
}

// installation is what of the installation's id goes into markers.
func installation(id string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(id) {
		if (r >= 'a' && r <= 'z' || r >= '0' && r <= '9') && b.Len() < 8 {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	return b, fault.Wrap("rotation.encode", fault.Internal, err)
}

func decode(e storage.Entry, into any) error {
	return fault.Wrap("rotation.decode", fault.Internal, json.Unmarshal(e.Value, into))
}
