package client

import (
	"context"
	"errors"
	"strings"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/keyturn/keyturn/internal/secret"
)

// A Call is one request to AWS, retries apart, and the answer. Its texts are not redacted.
type Call struct {
	Action  string // "iam:CreateAccessKey"
	Method  string
	Host    string
	Path    string
	At      time.Time
	Status  int    // 0: there was no answer
	Code    string // of an error that AWS answered
	Message string // of that error, without tokens of sessions
	Failed  string // why there was no answer that can be read
	// Secrets are those by which the request was signed, for redactors.
	Secrets []secret.Value
}

type observing struct{}

// Observe returns a context with whose calls told is called, once each has its answer, or will
// have none.
func Observe(ctx context.Context, told func(Call)) context.Context {
	return context.WithValue(ctx, observing{}, told)
}

// observed has the library tell of each request, retries apart. It comes after the signature: what
// cannot be signed is no request.
func observed(secrets ...secret.Value) func(*middleware.Stack) error {
	observe := func(ctx context.Context, in middleware.FinalizeInput,
		next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
		told, wanted := ctx.Value(observing{}).(func(Call))
		if !wanted {
			return next.HandleFinalize(ctx, in)
		}
		call := Call{Secrets: secrets,
			Action: strings.ToLower(awsmiddleware.GetServiceID(ctx)) + ":" + awsmiddleware.GetOperationName(ctx),
			At:     time.Now().UTC()}
		if r, ok := in.Request.(*smithyhttp.Request); ok {
			call.Method, call.Host, call.Path = r.Method, r.URL.Host, r.URL.EscapedPath()
		}
		out, meta, err := next.HandleFinalize(ctx, in)
		if r, ok := awsmiddleware.GetRawResponse(meta).(*smithyhttp.Response); ok {
			call.Status = r.StatusCode
		}
		call.failed(err)
		told(call)
		return out, meta, err
	}
	return func(stack *middleware.Stack) error {
		return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("Observe", observe), middleware.After)
	}
}

// failed notes what AWS has answered instead of a result.
func (c *Call) failed(err error) {
	if err == nil {
		return
	}
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		c.Status = answer.HTTPStatusCode()
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok && c.Status != 0 {
		c.Code, c.Message = api.ErrorCode(), tokenForm.ReplaceAllString(api.ErrorMessage(), "${1}*****")
		return
	}
	c.Failed = tokenForm.ReplaceAllString(err.Error(), "${1}*****")
}
