package client

import (
	"context"
	"errors"
	"net"
	"regexp"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// An Error is the error of a call. Its message has AWS's code and what to do. AWS's own message is
// only in the log.
type Error struct {
	fault *fault.Error
	Code  string // the code of AWS, such as "NoSuchEntity"; "" without an answer
	// Unchanged means that the call certainly had no effect and will have none.
	Unchanged bool
}

// Error returns the text for the log.
func (e *Error) Error() string { return e.fault.Error() }

// Unwrap returns the fault, with kind and message.
func (e *Error) Unwrap() error { return e.fault }

// advice maps codes to what to do.
var advice = map[string]string{
	"AccessDenied": "the access key's user lacks the permission; see docs/aws.md for the policy that it needs",
	"InvalidClientTokenId": "AWS does not know the access key; write config/root again, or wait a few seconds if " +
		"it is new",
	"SignatureDoesNotMatch": "secret_key does not belong to access_key, or this machine's clock is wrong; write " +
		"config/root again",
	"ExpiredToken":            "the credentials have expired; give ones that have not",
	"EntityAlreadyExists":     "there is one of this name already; delete it in AWS or choose another",
	"LimitExceeded":           "a quota of AWS's is reached; remove what is not needed, or ask AWS for more",
	"MalformedPolicyDocument": "correct policy_document",
	"NoSuchEntity":            "it does not exist; check the names and ARNs in the role",
	"Throttling":              "AWS refuses the rate of calls; try again, or raise max_retries",
	"RequestLimitExceeded":    "AWS refuses the rate of calls; try again, or raise max_retries",
	"ValidationError":         "AWS refuses a value; check the role's fields, and the length of the TTL",
	"PackedPolicyTooLarge":    "policies and tags of the session are too large; shorten them",
	"RegionDisabledException": "STS is not active in this region; activate it, or set sts_endpoint and sts_region",
}

var kinds = map[string]fault.Kind{
	"NoSuchEntity": fault.NotFound, "EntityAlreadyExists": fault.Conflict, "LimitExceeded": fault.Conflict,
	"DeleteConflict": fault.Conflict,
}

// tokenForm matches the session token, which AWS repeats when it explains why a signature is
// wrong.
var tokenForm = regexp.MustCompile(`(?i)(x-amz-security-token[:=]\s*)[^\s&'"]+`)

// explain converts an error of the SDK to an Error.
func explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	f := &fault.Error{Op: "aws", Kind: fault.Upstream, Err: err}
	out := &Error{fault: f}
	text := tokenForm.ReplaceAllString(err.Error(), "${1}*****")
	if text = new(secret.Redactor).Scrub(text); text != err.Error() { // a token was removed, or the text was cut
		f.Err = errors.New(text)
	}
	api, answered := errors.AsType[smithy.APIError](err)
	_, dialing := errors.AsType[*net.OpError](err)
	answer, replied := errors.AsType[*awshttp.ResponseError](err)
	switch {
	case fault.Is(err, fault.Denied):
		f.Msg, out.Unchanged = doing+": "+fault.Message(err), true
	case answered && replied && answer.HTTPStatusCode() < 500:
		out.Code, out.Unchanged = api.ErrorCode(), true
		if kind, ok := kinds[out.Code]; ok {
			f.Kind = kind
		}
		f.Msg = doing + ": AWS answers " + out.Code
		if a := advice[out.Code]; a != "" {
			f.Msg += "; " + a
		} else {
			f.Msg += "; its words are in the server's log"
		}
	case answered && replied:
		out.Code = api.ErrorCode()
		f.Msg = doing + ": AWS fails with " + out.Code + "; try again"
	case fault.Is(err, fault.TooLarge):
		f.Msg = doing + ": " + fault.Message(err)
	case errors.Is(err, context.DeadlineExceeded):
		f.Kind, f.Msg = fault.Timeout, doing+": AWS did not answer in time"
	case errors.Is(err, context.Canceled):
		f.Kind, f.Msg = fault.Unavailable, doing+" was canceled"
	case dialing && unsent(err):
		f.Msg, out.Unchanged = doing+
			": AWS cannot be reached; check iam_endpoint, sts_endpoint and the way there", true
	default:
		f.Msg = doing + ": there was no readable answer from AWS; check iam_endpoint, sts_endpoint and the network"
	}
	return out
}

// unreadable returns the error for a successful answer without its required content. The effect is
// unknown, because the answer may not come from AWS.
func unreadable(doing string) error {
	return &Error{fault: fault.New("aws", fault.Upstream,
		"%s: there was no readable answer from AWS; check iam_endpoint, sts_endpoint and the network", doing)}
}

// unsent reports whether no connection was made.
func unsent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// CodeOf returns AWS's code of an error, or "".
func CodeOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

// Unchanged reports whether the call that failed certainly had no effect.
func Unchanged(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Unchanged
}

// absent returns nil for the error that something does not exist.
func absent(err error) error {
	if CodeOf(err) == "NoSuchEntity" {
		return nil
	}
	return err
}
