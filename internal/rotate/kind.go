package rotate

import (
	"context"
	"iter"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A Kind is one sort of record of an engine. Its functions are safe for concurrent use.
type Kind struct {
	Name  string // of the due items: "key"
	Noun  string // in messages: "key"
	Style Style
	// Resumable means that requests can pause, resume and roll back records. A record of such a
	// kind is paused when it needs a person. Other kinds retry later.
	Resumable bool
	// RollBack says in alerts how a request rolls back a rotation of a record; nil means by "roll
	// back".
	RollBack func(name string) string

	// Prefixes of the rows, each ending in a slash. Kinds of one mount share none.
	Records, Secrets, History, Journal string
	// Unchecked is the prefix of rows that exist while a write of a place is not checked yet; ""
	// if the kind has no places.
	Unchecked string
	// Claims is the row that each adoption of a credential and each retirement of an orphan
	// writes; "" if the kind has neither.
	Claims string

	// RequestName returns the name of a record in requests; nil means that it is the record's
	// name.
	RequestName func(r *Record) string
	// Path returns the API path of a record, below the mount: "keys/stripe".
	Path func(name string) string
	// Details name the record in events and audit entries; none is secret.
	Details func(r *Record) map[string]string
	// Place returns the path of the secret where consumers read the credential. nil means that
	// they read the record.
	Place func(r *Record) string
	// Class returns how sensitive the credential is. nil means that no class is configured.
	Class func(r *Record) Class
	// Timing returns the configured times.
	Timing func(r *Record) Timing
	// Open opens the record's target. red learns every secret that the target handles. An error
	// of kind Invalid, Held, NotFound, Unsupported or Denied is an error of the configuration;
	// any other is retried. The target may change r.Data, which the commit after the call stores.
	Open func(ctx context.Context, r *Record, s *Secrets, red *secret.Redactor) (Target, error)
	// Eager means that a failed rotation leaves nothing behind at the provider. The rotation is
	// retried within seconds, and no wait is longer than an hour. Other kinds wait an hour after
	// the first failed rotation.
	Eager bool
	// Forget returns operations, relative to the mount's store, that join the commit that deletes
	// a record. nil means none.
	Forget func(r *Record) []storage.Op
	// Ready says why no rotation may begin, or "" if one may. nil means that one always may.
	Ready func(ctx context.Context, r *Record) (why string, err error)
	// Limits returns what holds for all records of the mount. nil means that there is nothing.
	Limits func(ctx context.Context) (Limits, error)
	// Adopt fills in what a row of an earlier version keeps elsewhere, and returns the secrets in
	// that row, if any. If the row's fields have other types than a record's, r has only its name
	// set, and the row is damaged if Adopt returns no secrets. nil means that there are no such
	// rows.
	Migrate func(row []byte, r *Record) (*Secrets, error)
	// Missing makes a record from a row of the engine's own that an earlier version has stored,
	// or returns nil if there is none. The record is stored with its next change. nil means that
	// there are no such records.
	Missing func(ctx context.Context, name string) (*Record, *Secrets, error)
	// Earlier yields the names for which Missing makes a record that is worth showing, including
	// names that are stored by now. nil means that there are none.
	Earlier func(ctx context.Context) iter.Seq2[string, error]
}

// Limits hold for all records of a mount.
type Limits struct {
	Brake    bool          // all rotations are paused
	Blackout cron.Blackout // joins that of Timing
}

func (k *Kind) limits(ctx context.Context) (Limits, error) {
	if k.Limits == nil {
		return Limits{}, nil
	}
	return k.Limits(ctx)
}

func requestName(k *Kind, r *Record) string {
	if k.RequestName == nil {
		return r.Name
	}
	return k.RequestName(r)
}
