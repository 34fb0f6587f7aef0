package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
)

const (
	secrets    = 1000 // how many are read by turns
	secretBody = `{"data":{"username":"app","password":"correct-horse-battery-staple","host":"db.example.com"}}`
	tokenBody  = `{"policies":["bench"],"ttl":"1h","display_name":"ci"}`
)

func benchReadAudited(ctx context.Context, b *bench) ([]result, error) {
	return reads(ctx, b, "read", "KV v2 read, audited", true, 0.5)
}

func benchRead(ctx context.Context, b *bench) ([]result, error) {
	return reads(ctx, b, "read-unaudited", "KV v2 read, not audited", false, 0.65)
}

func secretPath(b []byte, n int) []byte {
	return strconv.AppendInt(append(b, "kv/data/team/app-"...), int64(n%secrets), 10)
}

func reads(ctx context.Context, b *bench, name, title string, audited bool, budget float64) (out []result, err error) {
	k, err := ready(b, name, audited)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, k.stop()) }()
	for n := range secrets {
		if status, text, err := k.do(http.MethodPost, string(secretPath(nil, n)), []byte(secretBody)); err != nil || status != http.StatusOK {
			return nil, fmt.Errorf("writing a secret: %w, status %d %s", err, status, text)
		}
	}
	_, body, err := k.do(http.MethodGet, string(secretPath(nil, 0)), nil)
	if err != nil {
		return nil, err
	}
	limit, err := startBare(shape{Body: body})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, limit.stop()) }()
	request := func(out []byte, conn, n int) []byte {
		var path [64]byte
		return rendered(out, http.MethodGet, string(secretPath(path[:0], n+conn*61)), k.token, nil)
	}
	rates, err := turns(ctx, b, newLoad("keyturn", k.address, k.cmd.Process.Pid, b.conns, request), newLoad("bare", limit.address, limit.cmd.Process.Pid, b.conns, request))
	if err != nil {
		return nil, err
	}
	return []result{compared(title+" / bare", rates[0], rates[1], budget)}, nil
}

func benchWrite(ctx context.Context, b *bench) ([]result, error) {
	path := func(out []byte, conn, n int) []byte {
		out = strconv.AppendInt(append(out, "kv/data/team/app-"...), int64(conn), 10)
		return strconv.AppendInt(append(out, '-'), int64(n%4096), 10)
	}
	return writes(ctx, b, "write", "KV v2 write", path, secretBody)
}

func benchToken(ctx context.Context, b *bench) ([]result, error) {
	path := func(out []byte, _, _ int) []byte { return append(out, "auth/token/create"...) }
	return writes(ctx, b, "token", "token create", path, tokenBody)
}

func writes(ctx context.Context, b *bench, name, title string, path func([]byte, int, int) []byte, body string) (out []result, err error) {
	k, err := ready(b, name, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, k.stop()) }()
	// The same for the one that works: what it commits and writes, byte by byte.
	one := string(path(nil, 0, 0))
	work := shape{Dir: filepath.Join(b.dir, name+"-bare")}
	if err := os.Mkdir(work.Dir, 0o700); err != nil {
		return nil, err
	}
	if work.Commits, err = commitsOf(ctx, b, http.MethodPost, one, []byte(body)); err != nil {
		return nil, err
	}
	work.Audit, err = k.auditOf(func() (err error) {
		_, work.Body, err = k.do(http.MethodPost, one, []byte(body))
		return err
	})
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(b.log, "  one request: %d bytes of answer, %d of audit, commits %s\n", len(work.Body), len(work.Audit), sizes(work.Commits))
	committing, err := startBare(work)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, committing.stop()) }()
	idle, err := startBare(shape{Body: work.Body})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, idle.stop()) }()
	request := func(out []byte, conn, n int) []byte {
		var p [64]byte
		return rendered(out, http.MethodPost, string(path(p[:0], conn, n)), k.token, []byte(body))
	}
	rates, err := turns(ctx, b, newLoad("keyturn", k.address, k.cmd.Process.Pid, b.conns, request), newLoad("bare that commits", committing.address, committing.cmd.Process.Pid, b.conns, request), newLoad("bare", idle.address, idle.cmd.Process.Pid, b.conns, request))
	if err != nil {
		return nil, err
	}
	return []result{
		compared(title+" / bare that commits", rates[0], rates[1], 0.7),
		compared(title+" / bare", rates[0], rates[2], 0.25),
	}, nil
}

// sizes describes batches: how many operations, how many bytes.
func sizes(all []batch) string {
	text := ""
	for _, c := range all {
		bytes := 0
		for _, o := range c {
			bytes += len(o.Key) + o.Size
		}
		text += fmt.Sprintf(" [%d operations, %d bytes]", len(c), bytes)
	}
	return text
}
