package aws

import "testing"

// TestOddValues: an ARN's account has 12 digits, and a port is one that can be.
func TestOddValues(t *testing.T) {
	for text, want := range map[string]bool{
		"arn:aws:iam::123456789012:policy/a": true, "arn:aws:iam::aws:policy/a": true,
		"arn:aws-cn:iam::123456789012:role/a/b": true,
		"arn:aws:iam::12345678901:policy/a":     false, "arn:aws:iam::1234567890123:role/a": false, "arn:": false,
	} {
		if got := arnForm.MatchString(text); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	for text, ok := range map[string]bool{"https://a.test": true, "https://a.test:443": true,
		"https://a.test:99999": false, "https://a.test:0": false} {
		if err := checkURL("iam_endpoint", text); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
