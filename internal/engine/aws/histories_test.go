package aws_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// secretKey is the form of AWS's secret keys.
var secretKey = regexp.MustCompile(`[A-Za-z0-9+/]{40}`)

// past reads the history of a path, with what is kept of one rotation, in which no secret may be.
func (w *world) past(path string, turn int) (h rotate.History, made []rotate.Exchange) {
	w.t.Helper()
	a := w.Must(w.t, route.Read, path+"/history", fields{"rotation": turn, "steps": true})
	if s := secretKey.FindString(a.Text); s != "" {
		w.t.Errorf("the history of %s shows %q", path, s)
	}
	if err := json.Unmarshal([]byte(strings.ReplaceAll(a.Text, `""`, "null")), &h); err != nil {
		w.t.Fatal(err)
	}
	for _, row := range h.Steps {
		made = append(made, row.Requests...)
	}
	return h, made
}

// creates are the calls that create a key.
func creates(made []rotate.Exchange) (out []rotate.Exchange) {
	for _, x := range made {
		if x.Step == "iam:CreateAccessKey" {
			out = append(out, x)
		}
	}
	return out
}

// TestHistory: what AWS answered is seen in the history of a static role and of config/root,
// whether it refused the call, cut its answer or gave none, and no secret key is, there or in a
// row that is not for secrets.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := static(t, awstest.Options{}, nil)
		if _, made := w.past("static-roles/svc", 1); len(creates(made)) != 1 || creates(made)[0].Status != 200 ||
			creates(made)[0].Reply != "" {
			t.Errorf("of the first rotation is kept: %+v", made)
		}
		time.Sleep(23 * time.Hour)
		w.aws.Inject(awstest.Fault{Action: "CreateAccessKey", Mode: awstest.Denied, Times: 1})
		if _, err := w.Do(route.Write, "rotate-role/svc", nil); err == nil {
			t.Error("the rotation succeeds, want an error")
		}
		h, made := w.past("static-roles/svc", 2)
		if got := creates(made); len(h.Turns) != 1 || h.Turns[0].Result != rotate.Failed || len(got) != 1 ||
			got[0].Status != 403 ||
			got[0].Reply != `{"code": "AccessDenied", "message": "not authorized"}` || got[0].Host == "" ||
			got[0].At.IsZero() {
			t.Errorf("of the second rotation is kept: %+v, %+v", h.Turns, made)
		}
		w.aws.Inject(awstest.Fault{Action: "CreateAccessKey", Mode: awstest.Malformed, Times: 1})
		_, _ = w.Do(route.Write, "rotate-role/svc", nil)
		if _, made := w.past("static-roles/svc", 3); len(creates(made)) != 1 || creates(made)[0].Status != 200 ||
			!strings.HasPrefix(creates(made)[0].Reply, "[not shown") {
			t.Errorf("of the rotation whose answer was cut is kept: %+v", made)
		}

		w.aws.Inject(awstest.Fault{Action: "CreateAccessKey", Mode: awstest.Lost, Times: 1})
		_, _ = w.Do(route.Write, "config/rotate-root", nil)
		if _, made := w.past("config/root", 1); len(creates(made)) != 1 || creates(made)[0].Status != 0 ||
			creates(made)[0].Error == "" {
			t.Errorf("of a call whose answer was lost is kept: %+v", made)
		}
		for _, prefix := range []string{"static/", "sh/", "sj/", "rk/", "rh/", "rj/"} {
			from := "mount/" + enginetest.UUID + "/" + prefix
			for e, err := range w.View.Scan(t.Context(), from, from+"\xff") {
				if err != nil {
					t.Fatal(err)
				}
				if s := secretKey.Find(e.Value); s != nil {
					t.Errorf("the row %s shows %q", e.Key, s)
				}
			}
		}
		if s := secretKey.FindString(w.log.String()); s != "" {
			t.Errorf("the log shows %q", s)
		}
	})
}

// TestHistoryOfNothing: the error says what there is to ask for.
func TestHistoryOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, awstest.Options{}, enginetest.Config{})
		w.Refused(t, route.Read, "static-roles/none/history", nil, fault.NotFound, "list static-roles/")
		if a := w.Must(t, route.Read, "config/root/history", nil); a.Text != `{"rotations":[]}` {
			t.Errorf("the history of what never rotated is %s", a.Text)
		}
	})
}
