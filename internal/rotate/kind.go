package rotate

import (
	"context"
	"iter"

	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A Kind is one sort of record of an engine. Its functions are safe for concurrent use.
type Kind struct {
	Name  string // of the due items: "key"
	Noun  string // in messages: "key"
	Style Style
	// Resumable: requests pause, resume and roll back records, so that one which needs a person is
	// paused. Others try again later.
	Resumable bool

	// Prefixes of the rows, each ending in a slash. Kinds of one mount share none.
	Records, Secrets, History, Journal string
	// Unjudged is one more, of rows that are there while somebody has written a place unjudged. ""
	// where there are no places.
	Unjudged string

	// Called is how requests name a record; nil: by its name.
	Called func(r *Record) string
	// Path is that of the API, below the mount: "keys/stripe".
	Path func(name string) string
	// Details name the record in events and audit entries; none is secret.
	Details func(r *Record) map[string]string
	// Place is the path of a secret where consumers read the credential. nil: they read the
	// record.
	Place func(r *Record) string
	// Timing is what the configuration says of times.
	Timing func(r *Record) Timing
	// Open opens the record's target. red learns every secret that the target handles. An error of
	// kind Invalid, Held, NotFound, Unsupported or Denied is one of the configuration; any other
	// is tried again. The target may change r.Data, which the commit after the call stores.
	Open func(ctx context.Context, r *Record, s *Secrets, red *secret.Redactor) (Target, error)
	// Eager: a failed rotation leaves nothing behind at the provider, and is tried again within
	// seconds. No wait is longer than an hour then; otherwise that is the first wait after a
	// failed rotation.
	Eager bool
	// Forget returns operations, relative to the mount's store, that join the commit by which a
	// record is deleted. nil: there are none.
	Forget func(r *Record) []storage.Op
	// Ready says why no rotation may begin; "" if one may. nil: one always may.
	Ready func(ctx context.Context, r *Record) (why string, err error)
	// Brake reports that no rotation of the mount goes on. nil: there is no brake.
	Brake func(ctx context.Context) (bool, error)
	// Adopt fills in what a row of an earlier version keeps elsewhere, and returns the secrets
	// that it holds, if any. A row whose fields have other types than a record's comes with a
	// record that has its name alone; one of which Adopt then returns no secrets is damaged. nil:
	// there is no such row.
	Adopt func(row []byte, r *Record) (*Secrets, error)
	// Missing makes a record that an earlier version has kept in a row of the engine's own; nil if
	// there is none. It is stored with its next change. nil: there are no such records.
	Missing func(ctx context.Context, name string) (*Record, *Secrets, error)
	// Earlier are the names of which Missing makes a record that is worth showing, stored ones
	// among them. nil: there are none.
	Earlier func(ctx context.Context) iter.Seq2[string, error]
}

func called(k *Kind, r *Record) string {
	if k.Called == nil {
		return r.Name
	}
	return k.Called(r)
}
