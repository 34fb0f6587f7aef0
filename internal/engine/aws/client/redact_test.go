package client

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// TestNoTokenInErrors checks that the session token, which AWS repeats when a signature is wrong,
// is not in the error.
func TestNoTokenInErrors(t *testing.T) {
	const token = "FwoGZXIvYXdzEJr//////////canary+/=="
	said := "The Canonical String for this request should have " +
		"been\n'POST\n/\n\nhost:iam.amazonaws.com\nx-amz-date:20260101T000000Z\nx-amz-security-token:" + token +
		"\n\nhost;x-amz-date'"
	err := explain("listing access keys", &smithy.GenericAPIError{Code: "SignatureDoesNotMatch", Message: said})
	for e := err; e != nil; e = errors.Unwrap(e) {
		if strings.Contains(e.Error(), "canary") {
			t.Fatalf("%T shows the token: %v", e, e)
		}
	}
	if long := explain("x",
		&smithy.GenericAPIError{Code: "ValidationError", Message: strings.Repeat("y", 1<<20)}); len(
		long.Error()) > 8<<10 {
		t.Errorf("%d bytes of an error are kept", len(long.Error()))
	}
	if !strings.Contains(err.Error(), "x-amz-date:20260101T000000Z") {
		t.Errorf("the rest is gone, too: %v", err)
	}
}

// TestNoTokenInCalls: what is told of a call has no token either, whether AWS has answered or
// something else has failed.
func TestNoTokenInCalls(t *testing.T) {
	const token = "x-amz-security-token: FwoGZXIvYXdzEJr//canary+/=="
	for name, err := range map[string]error{
		"an answer":    answered(403, &smithy.GenericAPIError{Code: "SignatureDoesNotMatch", Message: token}),
		"a transport":  errors.New("cannot send " + token),
		"not of AWS's": answered(502, errors.New(token)),
	} {
		var c Call
		c.failed(err)
		if text := c.Code + c.Message + c.Failed; strings.Contains(text, "canary") || text == "" {
			t.Errorf("%s: told of %+v", name, c)
		}
		if want := map[string]int{"an answer": 403, "not of AWS's": 502}[name]; c.Status != want {
			t.Errorf("%s: status %d, want %d", name, c.Status, want)
		}
	}
}

// answered is the SDK's error of an answer with a status.
func answered(status int, err error) error {
	r := &smithyhttp.Response{Response: &http.Response{StatusCode: status}}
	return &awshttp.ResponseError{ResponseError: &smithyhttp.ResponseError{Response: r, Err: err}}
}
