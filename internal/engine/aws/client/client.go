// Package client makes the calls of AWS IAM and STS that the engine needs, as operations that
// can be repeated and whose errors say whether they had an effect.
package client

import (
	"context"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"

	"github.com/keyturn/keyturn/internal/outbound"
	"github.com/keyturn/keyturn/internal/secret"
)

// attemptTimeout limits one attempt of a call.
const attemptTimeout = 30 * time.Second

// A Client makes calls as one identity. It is safe for concurrent use.
type Client struct {
	iam  *iam.Client
	sts  []*sts.Client
	http *http.Client
	cfg  Config
}

// New returns a client. It makes no calls to IAM or STS, but without a key it may look for
// credentials.
func New(ctx context.Context, c Config) (*Client, error) {
	if c.Region == "" {
		c.Region = DefaultRegion
	}
	if c.Dial == nil {
		c.Dial = outbound.Anywhere.DialContext
	}
	h := outbound.NewClient(
		outbound.ClientConfig{AnyOrigin: true, Dial: c.Dial, KeepAlive: true, Within: attemptTimeout})
	base := aws.Config{Region: c.Region, HTTPClient: h, Retryer: retryer(c.MaxRetries),
		APIOptions: []func(*middleware.Stack) error{observed(c.Secret, c.Session)}}
	if c.KeyID != "" {
		base.Credentials = aws.NewCredentialsCache(
			credentials.NewStaticCredentialsProvider(c.KeyID, c.Secret.RevealString(), c.Session.RevealString()))
	} else {
		found, err := c.ambient(ctx, h)
		if err != nil {
			return nil, err
		}
		base.Credentials = found
	}
	// at returns the credentials for an endpoint.
	at := func(url string) aws.CredentialsProvider {
		if c.KeyID == "" {
			return homebound{base.Credentials, url}
		}
		return base.Credentials
	}
	out := &Client{http: h, cfg: c, iam: iam.NewFromConfig(base,
		func(o *iam.Options) { o.BaseEndpoint, o.Credentials = endpoint(c.IAM), at(c.IAM) })}
	for _, e := range append([]Endpoint{c.STS}, c.Fallback...) {
		out.sts = append(out.sts, sts.NewFromConfig(base, func(o *sts.Options) {
			o.BaseEndpoint, o.Credentials = endpoint(e.URL), at(e.URL)
			if e.Region != "" {
				o.Region = e.Region
			}
		}))
	}
	return out, nil
}

func endpoint(url string) *string {
	if url == "" {
		return nil
	}
	return aws.String(Address(url))
}

// retryer retries calls that AWS did not execute, and repeatable calls.
func retryer(most int) func() aws.Retryer {
	if most < 0 {
		most = 3
	}
	return func() aws.Retryer {
		return retry.NewStandard(
			func(o *retry.StandardOptions) { o.MaxAttempts = most + 1; o.MaxBackoff = 5 * time.Second })
	}
}

// throttledOnly is for calls that are not repeatable. It retries them only after throttling, when
// AWS has certainly not executed them.
func throttledOnly(o *iam.Options) {
	o.Retryer = retry.NewStandard(func(s *retry.StandardOptions) {
		s.MaxBackoff = 5 * time.Second
		s.Retryables = []retry.IsErrorRetryable{retry.RetryableErrorCode{Codes: retry.DefaultThrottleErrorCodes}}
	})
}

// As returns a client with the same configuration and another key.
func (c *Client) As(ctx context.Context, id string, secretKey, session secret.Value) (*Client, error) {
	cfg := c.cfg
	cfg.KeyID, cfg.Secret, cfg.Session = id, secretKey, session
	return New(ctx, cfg)
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }
