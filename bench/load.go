package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A load sends requests over kept connections, each with one request in flight. The client is
// written by hand, because net/http's client costs more than a bare server, which would improve
// every ratio.
type load struct {
	name    string
	address string
	pid     int // the server's process
	conns   int
	// request appends request n of a connection to b.
	request func(b []byte, conn, n int) []byte
	from    []int // the next request of each connection
}

func newLoad(name, address string, pid, conns int, request func(b []byte, conn, n int) []byte) *load {
	return &load{name: name, address: address, pid: pid, conns: conns, request: request, from: make([]int, conns)}
}

// run sends requests for d and returns the answers per second.
func (l *load) run(ctx context.Context, d time.Duration) (float64, error) {
	var all sync.WaitGroup
	errs := make([]error, l.conns)
	began := time.Now()
	before := sum(l.from)
	for i := range l.conns {
		all.Go(func() { errs[i] = l.ask(ctx, i, began.Add(d)) })
	}
	all.Wait()
	return float64(sum(l.from)-before) / time.Since(began).Seconds(), errors.Join(errs...)
}

func sum(ns []int) (total int) {
	for _, n := range ns {
		total += n
	}
	return total
}

func (l *load) ask(ctx context.Context, conn int, until time.Time) error {
	c, err := dial(l.address)
	if err != nil {
		return err
	}
	defer c.close()
	for time.Now().Before(until) && ctx.Err() == nil {
		c.out = l.request(c.out[:0], conn, l.from[conn])
		if _, err := c.ask(); err != nil {
			return err
		}
		l.from[conn]++
	}
	return ctx.Err()
}

// A connection is a kept connection.
type connection struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte // the next request
}

func dial(address string) (*connection, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &connection{conn: c, in: bufio.NewReaderSize(c, 16<<10)}, nil
}

func (c *connection) close() { _ = c.conn.Close() } // all answers have arrived

// ask sends the request and returns the body of the answer, which is valid until the next call.
func (c *connection) ask() ([]byte, error) {
	if _, err := c.conn.Write(c.out); err != nil {
		return nil, err
	}
	return answer(c.in)
}

var contentLength = []byte("Content-Length: ")

// answer reads one answer, which must be a success with a length, and fit into the buffer.
func answer(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 12 {
		return nil, fmt.Errorf("not HTTP: %q", line)
	}
	ok := line[9] == '2'
	status := string(line[9:12])
	length := 0
	for {
		if line, err = in.ReadSlice('\n'); err != nil {
			return nil, err
		}
		if len(line) <= 2 {
			break
		}
		if digits, is := bytes.CutPrefix(line, contentLength); is {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(digits))); err != nil {
				return nil, err
			}
		}
	}
	body, err := in.Peek(length)
	if err == nil && !ok {
		err = fmt.Errorf("status %s: %s", status, body)
	}
	if err != nil {
		return nil, err
	}
	_, err = in.Discard(length)
	return body, err
}

// rendered appends a request in the form of Go's client.
func rendered(b []byte, method, path, token string, body []byte) []byte {
	b = append(b, method...)
	b = append(b, " /v1/"...)
	b = append(b, path...)
	b = append(b, " HTTP/1.1\r\nHost: 127.0.0.1:8200\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: "+
		"gzip\r\nX-Vault-Request: true\r\nX-Vault-Token: "...)
	b = append(b, token...)
	if body != nil {
		b = append(b, "\r\nContent-Type: application/json\r\nContent-Length: "...)
		b = strconv.AppendInt(b, int64(len(body)), 10)
	}
	b = append(b, "\r\n\r\n"...)
	return append(b, body...)
}

// takeTurns runs the loads in turns, after a warm-up, and returns the rates of each load in each
// round. It logs the processor time of a request in the server and this client, which depends less
// on other loads of the machine.
func takeTurns(ctx context.Context, b *bench, loads ...*load) ([][]float64, error) {
	rates := make([][]float64, len(loads))
	theirs, ours := make([]time.Duration, len(loads)), make([]time.Duration, len(loads))
	asked := make([]int, len(loads))
	for round := -1; round < b.rounds; round++ {
		for i, l := range loads {
			server, client, before := consumed(l.pid), consumed(os.Getpid()), sum(l.from)
			rate, err := l.run(ctx, b.round)
			if err != nil {
				return nil, err
			}
			if round >= 0 {
				rates[i] = append(rates[i], rate)
				theirs[i] += consumed(l.pid) - server
				ours[i] += consumed(os.Getpid()) - client
				asked[i] += sum(l.from) - before
			}
		}
	}
	for i, l := range loads {
		fmt.Fprintf(b.log, "  %-20s %7.0f/s, processor time of a request: server %5.1f µs, client %5.1f µs\n", l.name,
			median(rates[i]),
			float64(theirs[i].Microseconds())/float64(asked[i]), float64(ours[i].Microseconds())/float64(asked[i]))
	}
	return rates, nil
}

// consumed returns the processor time of a process so far; 0 if the system does not report it.
func consumed(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const user, system, tick = 11, 12, 10 * time.Millisecond
	if len(fields) <= system {
		return 0
	}
	u, _ := strconv.Atoi(fields[user])
	k, _ := strconv.Atoi(fields[system])
	return time.Duration(u+k) * tick
}

// compared returns the row of a rate against another one, from rounds in turns.
func compared(name string, ours, theirs []float64, budget float64) result {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / theirs[i]
	}
	r := median(ratios)
	return result{Row: name, Keyturn: median(ours), Against: median(theirs), Unit: "1/s", Ratio: r,
		Budget: fmt.Sprintf("≥ %.2f", budget), Met: r >= budget}
}

func median(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
