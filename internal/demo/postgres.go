package demo

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// A postgres is a throwaway PostgreSQL server. It forgets on power loss, and is fast.
type postgres struct {
	bin, dir string
	port     int
	account  *account
	password string // of the superuser
	process  *process
}

// superuser is the administrator's name.
const superuser = "postgres"

// errNoPostgres means that there is nothing to start.
var errNoPostgres = errors.New("initdb, postgres and psql are neither in PATH nor in /usr/lib/postgresql/*/bin")

// openPostgres makes a database cluster in a folder of its own and starts it.
func openPostgres(ctx context.Context) (p *postgres, err error) {
	p = &postgres{password: rand.Text()}
	if p.bin, err = postgresPrograms(); err != nil {
		return nil, err
	}
	if p.account, err = lesser(); err != nil {
		return nil, err
	}
	if p.dir, err = os.MkdirTemp("", "keyturn-demo-pg-"); err != nil {
		return nil, err
	}
	if err = p.build(ctx); err == nil {
		err = p.start(ctx)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// postgresPrograms returns the folder that has all that is needed: the newest
// version's, after what PATH names.
func postgresPrograms() (string, error) {
	var folders []string
	if path, err := exec.LookPath("initdb"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			folders = append(folders, filepath.Dir(real))
		}
		folders = append(folders, filepath.Dir(path))
	}
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is well-formed
	major := func(bin string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin))) // what is no version is an old one
		return n
	}
	slices.SortFunc(installed, func(a, b string) int { return major(b) - major(a) })
	for _, folder := range append(folders, installed...) {
		if complete(folder) {
			return folder, nil
		}
	}
	return "", errNoPostgres
}

func complete(folder string) bool {
	for _, name := range []string{"initdb", "postgres", "psql"} {
		if _, err := exec.LookPath(filepath.Join(folder, name)); err != nil {
			return false
		}
	}
	return true
}

// build makes the cluster's files.
func (p *postgres) build(ctx context.Context) error {
	secret := filepath.Join(p.dir, "password")
	if err := os.WriteFile(secret, []byte(p.password+"\n"), 0o600); err != nil {
		return err
	}
	for _, path := range []string{p.dir, secret} {
		if err := p.account.own(path); err != nil {
			return err
		}
	}
	cmd := p.command(ctx, "initdb", "-D", p.data(), "-U", superuser, "--pwfile="+secret, "--auth=scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("running initdb: %w (who runs it must be able to enter %s; -no-postgres leaves this part out)\n%s", err, filepath.Dir(p.dir), out)
	}
	return os.Remove(secret)
}

func (p *postgres) data() string { return filepath.Join(p.dir, "data") }

// command is one of PostgreSQL's programs, run as who may.
func (p *postgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "LC_ALL=C", "TZ=UTC", "SYSTEMROOT=" + os.Getenv("SYSTEMROOT")}
	p.account.run(cmd)
	return cmd
}

// start runs the server until it answers.
func (p *postgres) start(ctx context.Context) (err error) {
	if p.port, err = freePort(ctx); err != nil {
		return err
	}
	args := []string{"-D", p.data()}
	for _, setting := range []string{
		"port=" + strconv.Itoa(p.port), "listen_addresses=127.0.0.1", "unix_socket_directories=",
		"shared_buffers=16MB", "max_connections=30", "fsync=off", "synchronous_commit=off", "full_page_writes=off", "jit=off",
	} {
		args = append(args, "-c", setting)
	}
	cmd := p.command(context.WithoutCancel(ctx), "postgres", args...) // close ends it
	log := filepath.Join(p.dir, "log")
	if p.process, err = launch(cmd, log); err != nil {
		return err
	}
	if err := p.process.answer(ctx, startLimit, func(ctx context.Context) error {
		_, err := p.query(ctx, superuser, p.password, "SELECT 1")
		return err
	}); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w; its log ends:\n%s", err, tail(log))
	}
	return nil
}

// query logs in over TCP as a user and runs SQL, as an application would.
func (p *postgres) query(ctx context.Context, user, password, sql string) (string, error) {
	cmd := p.command(ctx, "psql", "-X", "-A", "-t", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-c", sql)
	cmd.Env = append(cmd.Env, "PGHOST=127.0.0.1", "PGPORT="+strconv.Itoa(p.port), "PGUSER="+user, "PGPASSWORD="+password,
		"PGDATABASE=postgres", "PGSSLMODE=disable", "PGCONNECT_TIMEOUT=5")
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(complaint.String()), "\n")
		return "", fmt.Errorf("psql as %s: %w: %s", user, err, first)
	}
	return strings.TrimSpace(out.String()), nil
}

// template is the URL to connect by, with placeholders for who connects.
func (p *postgres) template() string {
	u := url.URL{Scheme: "postgresql", Host: "127.0.0.1:" + strconv.Itoa(p.port), Path: "/postgres", RawQuery: "sslmode=disable"}
	return strings.Replace(u.String(), "//", "//{{username}}:{{password}}@", 1)
}

// close ends the server without ceremony and removes its files.
func (p *postgres) close() {
	if p.process != nil {
		p.process.stop(syscall.SIGQUIT)
	}
	_ = os.RemoveAll(p.dir) // what is left is in the folder for temporary files
}
