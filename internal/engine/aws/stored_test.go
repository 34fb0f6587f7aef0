package aws_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage/faulty"
)

// TestAnswersSayWhatIsStored: a rotation on request whose commits fail is not answered as if it
// had replaced the key.
func TestAnswersSayWhatIsStored(t *testing.T) {
	for after := range 8 {
		t.Run(fmt.Sprint("root/", after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := faulty.New(enginetest.Memory(), 1)
				w := rotating(t, awstest.Options{}, enginetest.Config{Store: store}, fields{"rotation_period": "4h"})
				store.Inject(faulty.Fault{Calls: faulty.Commits, After: after, Times: -1, Mode: faulty.NotStored})
				a, err := w.Do(route.Write, "config/rotate-root", nil)
				now := w.root("access_key")
				store.Clear()
				if err == nil && (a == nil || a.Data["access_key"] != now) {
					t.Errorf("answer %+v, %v; the key is %v", a, err, now)
				}
			})
		})
		t.Run(fmt.Sprint("static/", after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := faulty.New(enginetest.Memory(), 1)
				w := open(t, awstest.Options{}, enginetest.Config{Store: store})
				w.aws.AddUser(awstest.Account, "svc")
				w.Must(t, route.Write, "static-roles/svc", svc)
				before, _ := w.given("svc")
				store.Inject(faulty.Fault{Calls: faulty.Commits, After: after, Times: -1, Mode: faulty.NotStored})
				_, err := w.Do(route.Write, "rotate-role/svc", nil)
				now, _ := w.given("svc")
				store.Clear()
				if err == nil && now == before {
					t.Errorf("answer %v; the key was %s and is %s", err, before, now)
				}
			})
		})
	}
}
