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

// A postgres is a temporary PostgreSQL server without durability.
type postgres struct {
	bin, dir string
	port     int
	account  *account
	password string // the superuser's password
	process  *process
}

// superuser is the administrator's name.
const superuser = "postgres"

// errNoPostgres means that PostgreSQL is not installed.
var errNoPostgres = errors.New("initdb, postgres and psql are neither in PATH nor in /usr/lib/postgresql/*/bin")

// openPostgres creates a database cluster in a temporary folder and starts it.
func openPostgres(ctx context.Context) (p *postgres, err error) {
	p = &postgres{password: rand.Text()}
	if p.bin, err = postgresPrograms(); err != nil {
		return nil, err
	}
	if p.account, err = unprivileged(); err != nil {
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

// postgresPrograms returns a folder with all required programs: that in PATH, or that of the
// newest version.
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
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin))) // a folder without a version sorts first
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

// build creates the files of the cluster.
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
	cmd := p.command(ctx, "initdb", "-D", p.data(), "-U", superuser, "--pwfile="+secret, "--auth=scram-sha-256", "-E",
		"UTF8", "--locale=C", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf(
			"running initdb: %w (who runs it must be able to enter %s; -no-postgres leaves this part out)\n%s",
			err, filepath.Dir(p.dir), out)
	}
	return os.Remove(secret)
}

func (p *postgres) data() string { return filepath.Join(p.dir, "data") }

// command returns a command for one of PostgreSQL's programs, with the account that may run it.
func (p *postgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "LC_ALL=C", "TZ=UTC",
		"SYSTEMROOT=" + os.Getenv("SYSTEMROOT")}
	p.account.run(cmd)
	return cmd
}

// start starts the server and waits until it answers.
func (p *postgres) start(ctx context.Context) (err error) {
	if p.port, err = freePort(ctx); err != nil {
		return err
	}
	args := []string{"-D", p.data()}
	for _, setting := range []string{
		"port=" + strconv.Itoa(p.port), "listen_addresses=127.0.0.1", "unix_socket_directories=",
		"shared_buffers=16MB", "max_connections=30", "fsync=off", "synchronous_commit=off", "full_page_writes=off",
		"jit=off",
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
	cmd.Env = append(cmd.Env, "PGHOST=127.0.0.1", "PGPORT="+strconv.Itoa(p.port), "PGUSER="+user,
		"PGPASSWORD="+password,
		"PGDATABASE=postgres", "PGSSLMODE=disable", "PGCONNECT_TIMEOUT=5")
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(complaint.String()), "\n")
		return "", fmt.Errorf("psql as %s: %w: %s", user, err, first)
	}
	return strings.TrimSpace(out.String()), nil
}

// template returns the connection URL with placeholders for the credentials.
func (p *postgres) template() string {
	u := url.URL{Scheme: "postgresql", Host: "127.0.0.1:" + strconv.Itoa(p.port), Path: "/postgres",
		RawQuery: "sslmode=disable"}
	return strings.Replace(u.String(), "//", "//{{username}}:{{password}}@", 1)
}

// close kills the server and removes its files.
func (p *postgres) close() {
	if p.process != nil {
		p.process.stop(syscall.SIGQUIT)
	}
	_ = os.RemoveAll(p.dir) // the system cleans the folder for temporary files
}
