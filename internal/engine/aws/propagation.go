package aws

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// waitPropagated waits until AWS takes a new key everywhere: until so many calls in a row were let in, and a
// pause after that.
func (b *backend) waitPropagated(ctx context.Context, c *client.Client, k client.Key, s propagation) error {
	checks, rest := defaultChecks, defaultPause
	set(&checks, s.Checks)
	set(&rest, s.Pause)
	if checks == 0 {
		return nil
	}
	its, err := c.As(ctx, k.ID, k.Secret, secret.Value{})
	if err != nil {
		return err
	}
	defer its.Close()
	until, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	for row := 0; row < checks; {
		wait := betweenChecks
		switch _, now := its.WhoAmI(until); {
		case now == nil:
			row, err = row+1, nil
		case err == nil || until.Err() == nil: // a call that the end of the time cuts says less than the refusals before
			err = now
			fallthrough
		default:
			row, wait = 0, afterRefusal
		}
		if row < checks && !cron.Pause(until, wait) {
			if err == nil {
				err = until.Err()
			}
			return &fault.Error{Op: "aws.works", Kind: fault.Upstream, Err: err,
				Msg: "the new access key " + k.ID + " does not work at AWS within " + settleWithin.String() + "; try again, or see propagation_checks"}
		}
	}
	if !cron.Pause(ctx, rest) {
		return fault.Wrap("aws.works", fault.Timeout, ctx.Err())
	}
	return nil
}

func (b *backend) userTTLs(ctx context.Context, ro *role) (ttl, most time.Duration, err error) {
	l, err := b.leaseTTLs(ctx)
	if err != nil {
		return 0, 0, err
	}
	if l == nil {
		l = new(leaseTTLs)
	}
	ttl, most = l.TTL, l.Max
	if ro != nil && ro.TTL > 0 {
		ttl = ro.TTL
	}
	if ro != nil && ro.MaxTTL > 0 {
		most = ro.MaxTTL
	}
	return ttl, most, nil
}

// Times of issuing.
const (
	// createWithin bounds making a user and waiting until its key works. It is below the
	// time that a request may take.
	createWithin = 85 * time.Second
	// late is how long after that a call of ours may still take effect at AWS: the life of its signature.
	late = 15 * time.Minute
	// settleWithin bounds the wait until a key works.
	settleWithin = time.Minute

	defaultChecks = 5
	defaultPause  = 5 * time.Second
	betweenChecks = 200 * time.Millisecond
	afterRefusal  = time.Second

	defaultSession = time.Hour
)
