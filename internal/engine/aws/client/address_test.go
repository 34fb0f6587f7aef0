package client

import "testing"

// TestAddress checks that an endpoint without a scheme gets https.
func TestAddress(t *testing.T) {
	for given, want := range map[string]string{
		"": "", "iam.amazonaws.com": "https://iam.amazonaws.com", "localhost:4566": "https://localhost:4566",
		"http://aws.test":                     "http://aws.test",
		"https://sts.eu-west-1.amazonaws.com": "https://sts.eu-west-1.amazonaws.com",
	} {
		if got := Address(given); got != want {
			t.Errorf("Address(%q) = %q, want %q", given, got, want)
		}
		if given != "" && *endpoint(given) != want {
			t.Errorf("the client calls %q", *endpoint(given))
		}
	}
	for host, own := range map[string]bool{"iam.amazonaws.com": true, "sts.eu-west-1.amazonaws.com": true,
		"iam.amazonaws.com.example.org": false, "iam.amazonaws.com:80": false} {
		if Own(host) != own {
			t.Errorf("Own(%q) is not %v", host, own)
		}
	}
}
