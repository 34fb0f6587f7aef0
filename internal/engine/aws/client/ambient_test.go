package client

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/hostfile"
)

// nobody sets an environment without credentials, and a home folder with AWS's shared files.
func nobody(t *testing.T) (folder string) {
	t.Helper()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
		"AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	home := t.TempDir()
	t.Setenv("HOME", home)
	folder = filepath.Join(home, ".aws")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"credentials": "[default]\naws_access_key_id = AKIAHOST\naws_secret_access_key = canary-of-the-host\n",
		"config":      "[default]\nregion = eu-west-1\n[profile run]\ncredential_process = /bin/false\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func refusing(context.Context, string, string) (net.Conn, error) {
	return nil, fault.New("outbound.Dial", fault.Denied, "no network in this test; want none")
}

// TestSharedFilesAreTheHosts checks that AWS's shared files are used only if the operator allows
// it.
func TestSharedFilesAreTheHosts(t *testing.T) {
	folder := nobody(t)
	for _, tt := range []struct {
		name  string
		files hostfile.Folders
		env   string // AWS_SHARED_CREDENTIALS_FILE
		want  string // the access key
	}{
		{"nothing is said", nil, "", ""},
		{"another folder", hostfile.Folders{"/etc/keyturn"}, "", ""},
		{"the operator lists the folder", hostfile.Folders{folder}, "", "AKIAHOST"},
		{"the server's environment names the file", nil, filepath.Join(folder, "credentials"), "AKIAHOST"},
	} {
		t.Setenv("AWS_SHARED_CREDENTIALS_FILE", tt.env)
		c := Config{Region: DefaultRegion, Files: tt.files, Dial: refusing}
		found, err := c.ambient(t.Context(), http.DefaultClient)
		if err != nil {
			t.Fatal(err)
		}
		got, err := found.Retrieve(t.Context())
		if got.AccessKeyID != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: key %q, %v; want %q", tt.name, got.AccessKeyID, err, tt.want)
		}
	}
}

// TestHostKeysGoToAWSAlone checks that an endpoint of a client receives nothing that is signed
// with the server's own credentials.
func TestHostKeysGoToAWSAlone(t *testing.T) {
	folder := nobody(t)
	for endpoint, own := range map[string]bool{"": true, "https://sts.eu-west-1.amazonaws.com": true,
		"https://listener.example.com": false, "http://127.0.0.1:4566": false} {
		dialed := 0
		c, err := New(t.Context(), Config{IAM: endpoint, STS: Endpoint{URL: endpoint}, Files: hostfile.Folders{folder},
			Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
				dialed++
				return refusing(ctx, network, address)
			}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = c.WhoAmI(t.Context())
		if (dialed > 0) != own || err == nil || !own &&
			!strings.Contains(fault.Message(err), "only to AWS's own addresses") {
			t.Errorf("%q: dialed %d times, %v; want a call: %v", endpoint, dialed, err, own)
		}
		if _, err := c.Keys(t.Context(), "u"); (dialed > 1) != own || err == nil {
			t.Errorf("%q: IAM: dialed %d times, %v", endpoint, dialed, err)
		}
		for e := err; e != nil; e = errors.Unwrap(e) {
			if strings.Contains(e.Error(), "canary") {
				t.Errorf("%q: the error shows the secret: %v", endpoint, e)
			}
		}
	}
}

// TestNoCredentialsAtAll checks that the error names the missing credentials, and not the
// endpoints.
func TestNoCredentialsAtAll(t *testing.T) {
	nobody(t)
	c, err := New(t.Context(), Config{Dial: refusing})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.WhoAmI(t.Context()); !strings.Contains(fault.Message(err), "no credentials of its own") ||
		!Unchanged(err) {
		t.Errorf("%v, want that there are none", err)
	}
}

func TestOwn(t *testing.T) {
	for _, good := range []string{
		"", "https://iam.amazonaws.com", "https://sts.amazonaws.com", "https://sts.eu-west-1.amazonaws.com",
		"https://sts.us-gov-west-1.amazonaws.com:443", "https://iam.us-gov.amazonaws.com",
		"https://sts-fips.us-east-1.amazonaws.com", "https://sts.cn-north-1.amazonaws.com.cn",
		"https://sts.us-east-1.api.aws", "https://iam.global.api.aws", "https://iam.us-iso-east-1.c2s.ic.gov",
		"https://vpce-0a1b2c-3d4e.sts.us-east-1.vpce.amazonaws.com", "sts.amazonaws.com",
	} {
		if !Own(good) {
			t.Errorf("%q is not taken for AWS's", good)
		}
	}
	for _, bad := range []string{
		"http://sts.amazonaws.com", "https://sts.amazonaws.com:8443", "https://sts.amazonaws.com.evil.example",
		"https://evil.example/sts.amazonaws.com", "https://sts.s3.amazonaws.com",
		"https://iam.execute-api.us-east-1.amazonaws.com",
		"https://evil.execute-api.us-east-1.amazonaws.com", "https://ec2-1-2-3-4.compute-1.amazonaws.com",
		"https://vpce-1.vpce-svc-1.us-east-1.vpce.amazonaws.com", "https://xiam.amazonaws.com",
		"https://sts.elb.amazonaws.com",
		"https://sts.amazonaws.com@evil.example", "https://STS.AMAZONAWS.COM.evil", "sts.amazonaws.com.evil.example",
		"https://iam.us-east-1.on.aws", "https://[::1]",
	} {
		if Own(bad) {
			t.Errorf("%q is taken for AWS's", bad)
		}
	}
}
