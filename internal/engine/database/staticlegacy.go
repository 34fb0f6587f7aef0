package database

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// legacyStatic is a static role as versions without [rotate] stored it: one row, secrets included.
type legacyStatic struct {
	staticData
	Place   string    `json:"place"` // serverID of the connection when the passwords were set
	Current int       `json:"current"`
	Last    time.Time `json:"last"`
	Next    time.Time `json:"next"`
	Due     time.Time `json:"due"`
	Failed  int       `json:"failed"`
	Why     string    `json:"why"`
	// Unproven says why a login with the published credentials could not be tested.
	Unproven string          `json:"unproven"`
	Turn     *legacyRotation `json:"turn"`

	Passwords [][]byte `json:"pw"`
	Fresh     []byte   `json:"fresh"` // what Turn sets
	CAKey     []byte   `json:"ca_key"`
}

// legacyRotation is a rotation in flight.
type legacyRotation struct {
	User    int       `json:"user"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
	Sent    bool      `json:"sent"` // the database may have changed the password
	Refused int       `json:"refused"`
}

// upgradeStatic makes a record of a row of an earlier version.
func upgradeStatic(row []byte, r *rotate.Record) (*rotate.Secrets, error) {
	if len(r.Data) != 0 {
		return nil, nil
	}
	var old legacyStatic
	if err := json.Unmarshal(row, &old); err != nil {
		return nil, fault.Wrap("database.static", fault.Internal, err)
	}
	n := len(old.Passwords)
	if len(old.Users) == 0 || n > len(old.Users) || old.Current < 0 || old.Current >= len(old.Users) {
		return nil, fault.New("database.static", fault.Internal, "the stored static role %q has no users", r.Name)
	}
	data, err := encodeStatic(&old.staticData)
	if err != nil {
		return nil, err
	}
	s := &rotate.Secrets{Admin: map[string]secret.Value{}, Keys: map[string]rotate.Credential{}}
	if len(old.CAKey) > 0 {
		s.Admin[caKeyField] = secret.New(old.CAKey)
	}
	r.Tag, r.Data = rotate.NewTag(r.Name), data
	r.LastRotated, r.Next, r.Due, r.Failures, r.LastError = old.Last, old.Next, old.Due, old.Failed, old.Why
	if old.Unproven != "" {
		r.Unproven = []string{old.Unproven}
	}
	for i, value := range old.Passwords {
		if len(value) == 0 {
			continue
		}
		ref, err := old.credential(s, i, 0, value)
		if err != nil {
			return nil, err
		}
		if i == old.Current {
			r.Current = ref
		} else {
			r.Idle = append(r.Idle, ref)
		}
	}
	return s, old.upgradeRotation(r, s)
}

// credential adds a secret of a user to s.
func (o *legacyStatic) credential(s *rotate.Secrets, user int, n uint32, value []byte) (*rotate.Ref, error) {
	c := rotate.Credential{
		ID: fmt.Sprintf("%s#%d", o.Users[user], n), Account: o.Users[user],
		Secret: map[string]secret.Value{secretField: secret.New(value)},
	}
	if o.Place != "" {
		c.Public = map[string]string{serverField: o.Place}
	}
	var err error
	if c.Expires, err = o.login(c.Secret[secretField]).expires(); err != nil {
		return nil, err
	}
	s.Keys[c.ID] = c
	return &rotate.Ref{ID: c.ID, Account: c.Account, At: o.Last, Expires: c.Expires}, nil
}

// upgradeRotation continues a rotation that the database may have carried out. One that was
// surely not sent starts again at its time.
func (o *legacyStatic) upgradeRotation(r *rotate.Record, s *rotate.Secrets) error {
	t := o.Turn
	if t == nil {
		if r.Failures > 0 {
			r.Retry = o.Due
		}
		return nil
	}
	if !t.Sent || len(o.Fresh) == 0 || t.User < 0 || t.User >= len(o.Users) {
		r.Retry = o.Due
		return nil
	}
	r.Turns, r.Failures = 1, 0
	fresh, err := o.credential(s, t.User, 1, o.Fresh)
	if err != nil {
		return err
	}
	reason := "schedule"
	if t.By != "schedule" {
		reason = "manual"
	}
	r.Turn = &rotate.Turn{
		N: 1, ID: r.Tag + "/1", Start: rotate.Start{Reason: reason, By: t.By}, Started: t.At, State: rotate.Setting,
		Stages: []rotate.Stage{{State: rotate.Setting, At: t.At}}, Attempts: []rotate.Attempt{{N: 1, At: t.At}},
		New: fresh, Old: r.Current, Tries: o.Failed, Refused: t.Refused,
	}
	return nil
}
