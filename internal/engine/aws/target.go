package aws

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// Times of a rotation.
const (
	signatureLife  = 15 * time.Minute // after it a call has no effect any more, and lists show its effect
	makeWithin     = 30 * time.Second // creating a key
	verifyInterval = 10 * time.Second // between two series of calls with a new key
	unusedFor      = 24 * time.Hour   // a key of another owner may be of an application that runs once a day
)

// secretField is the name of the only secret of a credential.
const secretField = "secret_key"

// A target is the access keys of one IAM user. The targets of static roles and of config/root
// embed it.
type target struct {
	configs     *configs
	propagation propagation
	// connect returns a client for the user's account until done is called, and the user's name.
	connect func(ctx context.Context) (c *client.Client, user string, done func(), err error)
	// keyLimitError is the error if the user has as many keys as AWS allows. It says what to do.
	keyLimitError func(user string, keys []client.Key) error

	red *secret.Redactor // knows every secret that is used
	rotate.Recorder
}

// capabilities are those of any user's keys.
func capabilities() rotate.Capabilities {
	return rotate.Capabilities{
		List: true, LastUsed: true, Proof: rotate.ProofUse, Retry: rotate.RetryAdopt, Timeout: makeWithin,
		Late: signatureLife,
	}
}

// Settle implements [rotate.Target]. One call of Verify is a series of calls already.
func (t *target) Settle() rotate.Settle {
	return rotate.Settle{Interval: verifyInterval, Timeout: signatureLife}
}

// Place implements [rotate.Target]. Readers get the keys of the record.
func (t *target) Place() *rotate.Place { return nil }

// call makes a call for the user. changes: without an answer, it is unknown whether the call took
// effect.
func (t *target) call(ctx context.Context, changes bool,
	do func(ctx context.Context, c *client.Client, user string) error) error {
	ctx = client.Observe(ctx, t.record)
	c, user, done, err := t.connect(ctx)
	if err != nil {
		return rotationFailure(err, false)
	}
	defer done()
	return rotationFailure(do(ctx, c, user), changes)
}

// record adds a call to the history. It keeps less of a call that creates a key.
func (t *target) record(c client.Call) {
	t.red.Know(c.Secrets...)
	x := rotate.Exchange{At: c.At, Step: c.Action, Method: c.Method, Host: c.Host, Path: c.Path,
		Status: c.Status}.Ended()
	switch {
	case c.Code != "":
		x.Reply = rotate.ShowReason(t.red, c.Status, c.Code, c.Message, c.Action == "iam:CreateAccessKey")
	case c.Failed != "" && c.Status != 0:
		x.Reply = "[not shown: it is not an answer from AWS]"
	case c.Failed != "":
		x.Error = rotate.ShowText(t.red, c.Failed)
	}
	t.RecordExchange(x)
}

// Create implements [rotate.Creator].
func (t *target) Create(ctx context.Context, _ rotate.Order) (made rotate.Credential, err error) {
	err = t.call(ctx, true, func(ctx context.Context, c *client.Client, user string) error {
		k, err := c.CreateKey(ctx, user)
		if client.CodeOf(err) == "LimitExceeded" {
			keys, lerr := c.Keys(ctx, user)
			if lerr == nil && len(keys) > 0 {
				return &rotate.Failure{Outcome: rotate.Permanent, Err: t.keyLimitError(user, keys)}
			}
		}
		t.red.Know(k.Secret)
		made = rotate.Credential{ID: k.ID, Secret: map[string]secret.Value{secretField: k.Secret}}
		return err
	})
	return made, err
}

// Verify implements [rotate.Target].
func (t *target) Verify(ctx context.Context, made rotate.Credential) error {
	return t.call(ctx, false, func(ctx context.Context, c *client.Client, _ string) error {
		cfg, err := t.configs.root(ctx)
		if err != nil {
			return err
		}
		s := t.propagation
		if cfg != nil {
			s = s.orDefault(cfg.Propagation)
		}
		err = waitPropagated(ctx, c, client.Key{ID: made.ID, Secret: made.Secret[secretField]}, s)
		if client.CodeOf(err) == "InvalidClientTokenId" {
			return &rotate.Failure{Outcome: rotate.Rejected, Err: err}
		}
		return err
	})
}

// VerifyDead implements [rotate.Target].
func (t *target) VerifyDead(ctx context.Context, old rotate.Credential) error {
	return t.call(ctx, false, func(ctx context.Context, c *client.Client, _ string) error {
		oldClient, err := c.As(ctx, old.ID, old.Secret[secretField], secret.Value{})
		if err != nil {
			return err
		}
		defer oldClient.Close()
		_, err = oldClient.WhoAmI(ctx)
		switch {
		case err == nil:
			return &rotate.Failure{Outcome: rotate.Alive, Err: fault.New("aws.retire", fault.Upstream,
				"the access key %s was retired, and AWS still accepts it; this is checked again", old.ID)}
		case client.CodeOf(err) == "InvalidClientTokenId":
			return nil
		}
		return err
	})
}

// List implements [rotate.Lister]. A missing user has no keys.
func (t *target) List(ctx context.Context) (out []rotate.Listed, err error) {
	err = t.call(ctx, false, func(ctx context.Context, c *client.Client, user string) error {
		keys, err := c.Keys(ctx, user)
		if client.CodeOf(err) == "NoSuchEntity" {
			return nil
		}
		for _, k := range keys {
			out = append(out, rotate.Listed{ID: k.ID, Created: k.Made, Disabled: !k.Active})
		}
		return err
	})
	return out, err
}

// LastUsed implements [rotate.UsageReporter].
func (t *target) LastUsed(ctx context.Context, id string) (used time.Time, err error) {
	err = t.call(ctx, false, func(ctx context.Context, c *client.Client, _ string) error {
		used, err = c.LastUsed(ctx, id)
		return err
	})
	return used.UTC(), err
}

// delete deletes a key. Deleting a missing key succeeds.
func (t *target) delete(ctx context.Context, id string) error {
	return t.call(ctx, true,
		func(ctx context.Context, c *client.Client, user string) error { return c.DeleteKey(ctx, user, id) })
}

// throttlingCodes are the codes with which AWS limits the rate of calls.
var throttlingCodes = []string{"Throttling", "ThrottlingException", "RequestThrottled", "RequestLimitExceeded",
	"TooManyRequestsException"}

// rotationFailure classifies the error of a call. changes: the call changes something at AWS.
func rotationFailure(err error, changes bool) error {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*rotate.Failure](err); ok {
		f.Err = upstreamError("aws.rotate", f.Err)
		return f
	}
	out := rotate.Transient
	_, asked := errors.AsType[*client.Error](err)
	code := client.CodeOf(err)
	switch {
	case slices.Contains(throttlingCodes, code):
	case asked && client.Unchanged(err) && code != "", !asked && isPermanent(err):
		out = rotate.Permanent
	case asked && !client.Unchanged(err) && changes:
		out = rotate.Unknown
	}
	return &rotate.Failure{Outcome: out, Err: upstreamError("aws.rotate", err)}
}

// isPermanent reports whether an error of this server stays until a person changes something.
func isPermanent(err error) bool {
	return slices.Contains([]fault.Kind{fault.Invalid, fault.NotFound, fault.Conflict, fault.Denied, fault.Upstream},
		fault.KindOf(err))
}

// driveUntil drives the rotation in flight until done reports true, or it has ended. It waits at
// most most between two steps, and until ctx ends. It returns why it could not continue, if that
// is known.
func driveUntil(ctx context.Context, e *rotate.Edit, most time.Duration, done func(r *rotate.Record) bool) error {
	for {
		err := e.Control().Drive(ctx, done)
		f, failed := errors.AsType[*rotate.Failure](err)
		// after any other error, the record is not stored
		if (err == nil || failed) && (e.Rec.Turn == nil || done(e.Rec)) {
			return nil
		}
		wait := time.Until(e.Rec.Due)
		if err != nil && !failed || failed && f.Outcome == rotate.Permanent || wait > most || !cron.Pause(ctx, wait) {
			return err
		}
	}
}

// stepWithin is how long a request waits for one step of the rotation in flight.
const stepWithin = 20 * time.Second

// pendingError says what the rotation in flight waits for.
func pendingError(r *rotate.Record, user string) error {
	const op = "aws.rotate"
	switch r.State() {
	case rotate.Settling, rotate.Verifying:
		return fault.New(op, fault.Upstream, "the new access key is not accepted by AWS yet; the previous key stays "+
			"published, and the new one is verified again")
	case rotate.Creating, rotate.RollingBack:
		return fault.New(op, fault.Unavailable, "it is not known yet whether AWS has created a key for user %s; the "+
			"previous key stays current, and this is checked again at %s", user, r.Due.Format(time.RFC3339))
	}
	return fault.New(op, fault.Unavailable,
		"what the previous rotation left at AWS is being deleted; try again after %s", r.Due.Format(time.RFC3339))
}

func untilEnd(*rotate.Record) bool { return false }

// keyReplaced reports whether the rotation has published its key, and the previous key, if any,
// is in its grace period.
func keyReplaced(r *rotate.Record) bool {
	return r.Turn == nil || r.Turn.Replaced() && r.Turn.Old != nil
}
