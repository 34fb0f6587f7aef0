package client

import (
	"context"
	"net"
	"strings"

	"github.com/keyturn/keyturn/internal/hostfile"
	"github.com/keyturn/keyturn/internal/secret"
)

// An Endpoint is the address of an STS API.
type Endpoint struct{ URL, Region string }

// Config is the configuration of a client. Without a key, the client uses the server's own
// credentials, from the places that AWS's tools use: the environment, the machine's role, and the
// shared files that Files allows.
type Config struct {
	KeyID   string
	Secret  secret.Value
	Session secret.Value // the token of temporary credentials

	Region string // us-east-1 by default
	IAM    string // AWS's own by default
	STS    Endpoint
	// Fallback are endpoints of STS, which are tried in order if the previous one cannot be
	// reached.
	Fallback   []Endpoint
	MaxRetries int // 3 if negative
	// Dial opens every connection; by default outbound.Anywhere does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Files are the local folders whose shared files may be used.
	Files hostfile.Folders
}

// DefaultRegion is the region of IAM, which is global.
const DefaultRegion = "us-east-1"

// Address converts an endpoint to a URL, because old configurations have only the host.
func Address(endpoint string) string {
	if endpoint == "" || strings.Contains(endpoint, "://") {
		return endpoint
	}
	return "https://" + endpoint
}
