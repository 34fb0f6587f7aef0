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
	secrets    = 1000 // number of secrets, which are read in turns
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
		if status, text, err := k.do(http.MethodPost, string(secretPath(nil, n)), []byte(secretBody)); err != nil ||
			status != http.StatusOK {
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
	rates, err := takeTurns(ctx, b, newLoad("keyturn", k.address, k.cmd.Process.Pid, b.conns, request),
		newLoad("bare", limit.address, limit.cmd.Process.Pid, b.conns, request))
	if err != nil {
		return nil, err
	}
	return []result{compared(title+" / bare", rates[0], rates[1], budget)}, nil
}

func benchWrite(ctx context.Context, b *bench) ([]result, error) {
	// Every write is to a new secret.
	name := func(out []byte, conn, n int) []byte {
		out = strconv.AppendInt(append(out, "team/app-"...), int64(conn), 10)
		return strconv.AppendInt(append(out, '-'), int64(n), 10)
	}
	return writes(ctx, b, writing{"write", "KV v2 write", "kv/data/", name, secretBody})
}

func benchToken(ctx context.Context, b *bench) ([]result, error) {
	name := func(out []byte, _, _ int) []byte { return out }
	return writes(ctx, b, writing{"token", "token create", "auth/token/create", name, tokenBody})
}

// writing is a load of write requests.
type writing struct {
	row, title string
	folder     string                               // the beginning of each path
	name       func(out []byte, conn, n int) []byte // appends the rest of the path
	body       string
}

func writes(ctx context.Context, b *bench, w writing) (out []result, err error) {
	k, err := ready(b, w.row, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, k.stop()) }()
	// The bare server that commits and audits the same bytes.
	work := shape{Dir: filepath.Join(b.dir, w.row+"-bare"), Folder: "/v1/" + w.folder}
	if err := os.Mkdir(work.Dir, 0o700); err != nil {
		return nil, err
	}
	// names that are not measured
	names := [2]string{string(w.name(nil, b.conns, 0)), string(w.name(nil, b.conns+1, 0))}
	if work.Commits, err = commitsOf(ctx, b, w.folder, names, []byte(w.body)); err != nil {
		return nil, err
	}
	work.Audit, err = k.auditOf(func() (err error) {
		_, work.Body, err = k.do(http.MethodPost, w.folder+names[0], []byte(w.body))
		return err
	})
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(b.log, "  one request: %d bytes of answer, %d of audit, commits %s\n", len(work.Body), len(work.Audit),
		sizes(work.Commits, names[0]))
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
		return rendered(out, http.MethodPost, string(w.name(append(p[:0], w.folder...), conn, n)), k.token,
			[]byte(w.body))
	}
	rates, err := takeTurns(ctx, b, newLoad("keyturn", k.address, k.cmd.Process.Pid, b.conns, request),
		newLoad("bare that commits", committing.address, committing.cmd.Process.Pid, b.conns, request),
		newLoad("bare", idle.address, idle.cmd.Process.Pid, b.conns, request))
	if err != nil {
		return nil, err
	}
	return []result{
		compared(w.title+" / bare that commits", rates[0], rates[1], 0.7),
		compared(w.title+" / bare", rates[0], rates[2], 0.25),
	}, nil
}

// sizes describes batches by their operations and bytes.
func sizes(all []batch, name string) string {
	text := ""
	for _, c := range all {
		bytes := 0
		for _, o := range c {
			bytes += len(o.key(name)) + o.Size
		}
		text += fmt.Sprintf(" [%d operations, %d bytes]", len(c), bytes)
	}
	return text
}
