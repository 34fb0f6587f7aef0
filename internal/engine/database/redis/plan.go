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

// A server is one that calls go to.
type server struct {
	address  string
	name     string // what its certificate is for
	sentinel bool
	down     bool // the others say so, and it serves nothing
}

// watchers are the Sentinels that watch a primary and its replicas.
type watchers struct {
	primary  string // the name by which they know it; "": there are none
	user     string
	password secret.Value
}

// maxHosts is how long a list of hosts may be in bytes.
const maxHosts = 4 << 10

// seeds reads where to begin: at the server, at nodes of a cluster, or at Sentinels.
func seeds(c database.Config) ([]server, error) {
	several, sentinel := c.Extra["cluster"] == "true", c.Extra["sentinel_master_name"] != ""
	port := c.Extra["port"]
	switch {
	case port == "" && sentinel:
		port = "26379"
	case port == "":
		port = "6379"
	}
	hosts := []string{c.Extra["host"]}
	if len(hosts[0]) > maxHosts {
		return nil, errors.New("host is longer than 4096 bytes: give fewer servers")
	}
	if several || sentinel {
		hosts = strings.Split(hosts[0], ",")
	}
	var all []server
	for _, host := range hosts {
		one, err := seed(c, strings.TrimSpace(host), port, len(hosts) > 1)
		if err != nil {
			return nil, err
		}
		one.sentinel = sentinel
		all = append(all, one)
	}
	return all, nil
}

func seed(c database.Config, host, port string, listed bool) (server, error) {
	if h, p, err := net.SplitHostPort(host); err == nil && listed {
		host, port = h, p
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case !c.URL.Empty():
		return server{}, errors.New("connection_url is not for Redis: give host and port")
	case len(host) > 255:
		return server{}, errors.New("host is longer than 255 bytes: give the server's name or address")
	case host == "":
		return server{}, errors.New("host is empty: give the server's name or address")
	case strings.Contains(host, ","):
		return server{},
			errors.New("host has several servers in it: that is for a cluster (cluster=true) or Sentinels " +
				"(sentinel_master_name)")
	case strings.ContainsAny(host, "/@ \x00") || strings.Contains(host, "{{"):
		return server{}, errors.New("host must be a name or an address by itself, without a scheme, a user or a path")
	case strings.Contains(host, ":") && net.ParseIP(strings.Trim(host, "[]")) == nil:
		return server{}, errors.New("host has a port in it: give that as port")
	case err != nil || n == 0:
		return server{}, errors.New("port must be a number from 1 to 65535")
	}
	name := strings.Trim(host, "[]")
	return server{address: net.JoinHostPort(name, port), name: name}, nil
}

// checkTopology refuses what contradicts itself.
func checkTopology(c database.Config) error {
	name := c.Extra["sentinel_master_name"]
	user, password := c.Extra["sentinel_username"], c.Hidden["sentinel_password"]
	switch {
	case c.Extra["cluster"] == "true" && name != "":
		return errors.New(
			"cluster and sentinel_master_name are both given: a cluster fails over by itself; leave one of them out")
	case name == "" && (user != "" || !password.Empty()):
		return errors.New("sentinel_username or sentinel_password is given without sentinel_master_name: give the " +
			"name by which the Sentinels know the primary")
	case user != "" && password.Empty():
		return errors.New("sentinel_password is empty: give that of sentinel_username")
	case len(name) > 255 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return errors.New(
			"sentinel_master_name must be 1 to 255 bytes without spaces: the name in the Sentinels' configuration")
	}
	return nil
}

// A plan is a checked configuration.
type plan struct {
	seeds    []server
	cluster  bool
	watchers watchers
	tls      *tls.Config // nil: none; without a name
	persist  []string    // the command, if any
	maxOpen  int         // calls at most, each with a session at each server; 0: no limit
	maxIdle  int         // sessions kept at each server
	config   database.Config
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	secrets  []secret.Value // what no call must show
	username string
}
