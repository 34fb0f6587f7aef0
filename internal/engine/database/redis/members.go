package redis

import (
	"context"
	"errors"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"
)

var (
	errNoMaster  = errors.New("the Sentinel knows no primary of this name")
	errNoSlots   = errors.New("the node is not part of a cluster that has slots")
	errSwitching = errors.New("a fail-over is under way")
)

// members returns the servers that a call goes to. They are asked for at each call, so that a
// fail-over, or a server that joins, counts from then on.
func (c *conn) members(ctx context.Context) ([]server, error) {
	ask := c.nodes
	switch {
	case c.watchers.primary != "":
		ask = c.watched
	case !c.cluster:
		return c.seeds, nil
	}
	c.mu.Lock()
	order := slices.Concat(c.asked, c.seeds, c.known)
	c.mu.Unlock()
	var first error
	for i, seed := range order {
		if slices.ContainsFunc(order[:i], func(s server) bool { return s.address == seed.address }) {
			continue
		}
		all, err := c.membersBy(ctx, seed, ask)
		if err == nil {
			c.learn(seed, all)
			return all, nil
		}
		if first == nil || ctx.Err() != nil {
			first = err
		}
	}
	return nil, first
}

// askWithin is how long one server may take to name the others.
const askWithin = 4 * time.Second

func (c *conn) membersBy(ctx context.Context, seed server,
	ask func(ctx context.Context, s *session) ([]server, error)) (all []server, err error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	s, err := c.session(ctx, seed)
	if err == nil {
		all, err = ask(ctx, s)
		c.give(s, ctx.Err() == nil)
	}
	switch {
	case err == nil:
		return all, nil
	case seed.sentinel:
		return nil, &atServer{"Sentinel " + seed.address + " (by sentinel_username and sentinel_password)", err}
	}
	return nil, &atServer{"server " + seed.address, err}
}

// learn keeps who is there, for when no seed answers, and who said so, and closes the sessions
// with who is not any more.
func (c *conn) learn(asked server, all []server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = []server{asked}
	if c.cluster {
		c.known = all
	}
	for address, list := range c.idle {
		at := func(s server) bool { return s.address == address }
		if !slices.ContainsFunc(all, at) && !slices.ContainsFunc(c.seeds, at) {
			for _, s := range list {
				s.shut()
			}
			delete(c.idle, address)
		}
	}
}

// nodes asks a node for all of its cluster, primaries and replicas, also those without slots.
func (c *conn) nodes(ctx context.Context, s *session) ([]server, error) {
	replies, err := s.do(ctx, []string{"CLUSTER", "NODES"})
	if err != nil {
		return nil, err
	}
	text, _ := replies[0].(string)
	return parseNodes(text, s.server)
}

// parseNodes reads CLUSTER NODES, which has a line for each node: its ID, ip:port@bus,name, flags,
// five numbers and words, its slots.
func parseNodes(text string, asked server) (all []server, err error) {
	slots := false
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 8 {
			return nil, errProtocol
		}
		flags, serves := strings.Split(words[2], ","), len(words) > 8
		slots = slots || serves
		if slices.Contains(flags, "noaddr") || slices.Contains(flags, "handshake") {
			continue // it has left, or has not joined yet
		}
		address, names, _ := strings.Cut(words[1], ",")
		address, _, _ = strings.Cut(address, "@")
		name, _, _ := strings.Cut(names, ",")
		at := strings.LastIndexByte(address, ':')
		if at < 0 {
			return nil, errProtocol
		}
		one, err := serverAt(address[:at], address[at+1:], name, asked)
		if err != nil {
			return nil, err
		}
		one.down = slices.Contains(flags, "fail") && !serves
		all = append(all, one)
	}
	if !slots {
		return nil, errNoSlots // it was taken out of its cluster, or was never in one
	}
	return all, nil
}

var hostForm, portForm = regexp.MustCompile(`^[A-Za-z0-9:._-]{1,255}$`), regexp.MustCompile(`^[0-9]{1,5}$`)

// serverAt is a server that another one names. Whether it may be dialed is the dialer's to say.
func serverAt(host, port, name string, asked server) (server, error) {
	if host == "" { // it has met nobody who could have told it
		host, _, _ = net.SplitHostPort(asked.address)
	}
	if name == "" {
		name = host
	}
	if !hostForm.MatchString(host) || !hostForm.MatchString(name) || !portForm.MatchString(port) {
		return server{}, errProtocol
	}
	return server{address: net.JoinHostPort(host, port), name: name}, nil
}

// watched asks a Sentinel for the primary and its replicas. While it fails over it names the new
// primary already, and lists both as what they were before.
func (c *conn) watched(ctx context.Context, s *session) ([]server, error) {
	name := c.watchers.primary
	listed := []string{"SENTINEL", "MASTER", name}
	replies, err := s.do(ctx, []string{"SENTINEL", "GET-MASTER-ADDR-BY-NAME", name}, listed,
		[]string{"SENTINEL", "REPLICAS", name}, listed)
	if said, answered := err.(*answer); answered && said.at > 0 && replies[0] == nil {
		return nil, errNoMaster
	}
	if err != nil {
		return nil, err
	}
	primary := texts(replies[0])
	if len(primary) != 2 {
		return nil, errProtocol
	}
	if field(replies[1], "ip") != field(replies[3], "ip") || field(replies[1], "port") != field(replies[3], "port") {
		return nil, errSwitching
	}
	replicas, _ := replies[2].([]any)
	all := make([]server, 0, 1+len(replicas))
	for _, r := range append([]any{replies[1]}, replicas...) {
		one, err := serverAt(field(r, "ip"), field(r, "port"), "", s.server)
		if err != nil {
			return nil, err
		}
		flags := field(r, "flags")
		one.down = one.address != net.JoinHostPort(primary[0], primary[1]) &&
			(strings.Contains(flags, "_down") || strings.Contains(flags, "disconnected"))
		all = append(all, one)
	}
	return all, nil
}
