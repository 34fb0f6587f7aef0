package client

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/smithy-go"
)

// TestNoTokenInErrors checks that the session token, which AWS repeats when a signature is wrong,
// is not in the error.
func TestNoTokenInErrors(t *testing.T) {
	const token = "FwoGZXIvYXdzEJr//////////canary+/=="
	said := "The Canonical String for this request should have been\n'POST\n/\n\nhost:iam.amazonaws.com\nx-amz-date:20260101T000000Z\nx-amz-security-token:" + token + "\n\nhost;x-amz-date'"
	err := explain("listing access keys", &smithy.GenericAPIError{Code: "SignatureDoesNotMatch", Message: said})
	for e := err; e != nil; e = errors.Unwrap(e) {
		if strings.Contains(e.Error(), "canary") {
			t.Fatalf("%T shows the token: %v", e, e)
		}
	}
	if long := explain("x", &smithy.GenericAPIError{Code: "ValidationError", Message: strings.Repeat("y", 1<<20)}); len(long.Error()) > 8<<10 {
		t.Errorf("%d bytes of an error are kept", len(long.Error()))
	}
	if !strings.Contains(err.Error(), "x-amz-date:20260101T000000Z") {
		t.Errorf("the rest is gone, too: %v", err)
	}
}
