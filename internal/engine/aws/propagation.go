package aws

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// waitPropagated waits until AWS accepts a new key everywhere: until a number of calls in a row
// were accepted, and a pause after that.
func waitPropagated(ctx context.Context, c *client.Client, k client.Key, s propagation) error {
	checks, pause := defaultChecks, defaultPause
	set(&checks, s.Checks)
	set(&pause, s.Pause)
	if checks == 0 {
		return nil
	}
	newClient, err := c.As(ctx, k.ID, k.Secret, secret.Value{})
	if err != nil {
		return err
	}
	defer newClient.Close()
	until, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	for row := 0; row < checks; {
		wait := betweenChecks
		switch _, callErr := newClient.WhoAmI(until); {
		case callErr == nil:
			row, err = row+1, nil
		case err == nil || until.Err() == nil: // a call that the deadline ends says less than the refusals before it
			err = callErr
			fallthrough
		default:
			row, wait = 0, afterRefusal
		}
		if row < checks && !cron.Pause(until, wait) {
			if err == nil {
				err = until.Err()
			}
			return &fault.Error{Op: "aws.works", Kind: fault.Upstream, Err: err,
				Msg: "the new access key " + k.ID + " does not work at AWS within " + settleWithin.String() +
					"; try again, or see propagation_checks"}
		}
	}
	if !cron.Pause(ctx, pause) {
		return fault.Wrap("aws.works", fault.Timeout, ctx.Err())
	}
	return nil
}

// Times of issuing.
const (
	// createWithin bounds creating a user and waiting until its key works. It is below the time
	// that a request may take.
	createWithin = 85 * time.Second
	// late is how long after that a call may still take effect at AWS: the life of its signature.
	late = 15 * time.Minute
	// settleWithin bounds the wait until a key works.
	settleWithin = time.Minute

	defaultChecks = 5
	defaultPause  = 5 * time.Second
	betweenChecks = 200 * time.Millisecond
	afterRefusal  = time.Second

	defaultSession = time.Hour
)
