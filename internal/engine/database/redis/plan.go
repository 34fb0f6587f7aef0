package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/secret"
)

func address(c database.Config) (string, error) {
	host, port := c.Extra["host"], c.Extra["port"]
	if port == "" {
		port = "6379"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case !c.URL.Empty():
		return "", errors.New("connection_url is not for Redis: give host and port")
	case len(host) > 255:
		return "", errors.New("host is longer than 255 bytes: give the server's name or address")
	case host == "":
		return "", errors.New("host is empty: give the server's name or address")
	case strings.ContainsAny(host, "/@ \x00") || strings.Contains(host, "{{"):
		return "", errors.New("host must be a name or an address by itself, without a scheme, a user or a path")
	case strings.Contains(host, ":") && net.ParseIP(strings.Trim(host, "[]")) == nil:
		return "", errors.New("host has a port in it: give that as port")
	case err != nil || n == 0:
		return "", errors.New("port must be a number from 1 to 65535")
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port), nil
}

// A plan is a checked configuration.
type plan struct {
	address  string
	tls      *tls.Config // nil: none
	persist  []string    // the command, if any
	maxOpen  int         // sessions at most; 0: no limit
	maxIdle  int         // sessions kept
	config   database.Config
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	known    []secret.Value // what no call must show
	username string
}
