package client

import (
	"context"
	"net"
	"strings"

	"github.com/keyturn/keyturn/internal/hostfile"
	"github.com/keyturn/keyturn/internal/secret"
)

// An Endpoint is where the STS API is served.
type Endpoint struct{ URL, Region string }

// Config says how AWS is reached, and as whom. Without a key the credentials are the server's own, from
// where AWS's tools have them: environment, the machine's role, and shared files as far as Files allows.
type Config struct {
	KeyID   string
	Secret  secret.Value
	Session secret.Value // of temporary credentials

	Region string // "": us-east-1
	IAM    string // "": AWS's own
	STS    Endpoint
	// Fallback endpoints of STS, tried in order where the one before cannot be reached.
	Fallback   []Endpoint
	MaxRetries int // negative: 3
	// Dial opens every connection; nil: outbound.Anywhere's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Files are the folders of this machine in which AWS's shared files may be used.
	Files hostfile.Folders
}

// DefaultRegion is where AWS serves IAM, which has no regions.
const DefaultRegion = "us-east-1"

// Address is an endpoint as a URL: old configurations name the host alone.
func Address(endpoint string) string {
	if endpoint == "" || strings.Contains(endpoint, "://") {
		return endpoint
	}
	return "https://" + endpoint
}
