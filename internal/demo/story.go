package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// runDemo runs the whole demo. The error says what failed.
func runDemo(ctx context.Context, o *options, out *printer) (err error) {
	dir, err := os.MkdirTemp("", "keyturn-demo-")
	if err != nil {
		return err
	}
	s := &stage{out: out, dir: dir}
	defer func() {
		s.close()
		if err == nil || ctx.Err() != nil {
			_ = os.RemoveAll(dir) // the system cleans the folder for temporary files
			return
		}
		out.plain("\nThe server's log is kept: %s\n", s.server.path("server.log"))
	}()
	out.plain("Everything below runs on this machine, in %s and on free ports, and is cleared away afterwards.\n", dir)
	if s.server, err = prepareServer(ctx, dir); err != nil {
		return err
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	return s.play(ctx, o)
}

// close stops everything that still runs.
func (s *stage) close() {
	if s.server != nil {
		s.server.close()
	}
	if s.provider != nil {
		s.provider.close()
	}
	if pg := s.postgres.Load(); pg != nil {
		pg.close()
	}
}

// play runs the key part, with the consumer and the database part at the same time, and then
// compares the counts.
func (s *stage) play(ctx context.Context, o *options) error {
	acting, end := context.WithCancel(ctx)
	defer end()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer end()
	databaseDone := make(chan error, 1)
	wg.Go(func() {
		if o.noPostgres {
			databaseDone <- nil
			return
		}
		databaseDone <- s.databasePart(acting)
	})
	if err := s.keyPart(acting, &wg, databaseDone); err != nil {
		return err
	}
	if err := s.settleDatabase(acting); err != nil {
		return err
	}
	rows, err := s.judge(acting)
	if err != nil {
		return err
	}
	if err := s.verdict(rows); err != nil || !o.keep {
		return err
	}
	s.showAround()
	<-ctx.Done()
	return nil
}

// open starts the server and creates the mounts, policies and tokens.
func (s *stage) open(ctx context.Context) error {
	s.out.chapter("A server, and a provider of keys")
	took, err := s.server.start(ctx)
	if err != nil {
		return err
	}
	s.out.say("server", "answers on %s after %d ms; storage is embedded", s.server.url, took.Milliseconds())
	if err := s.server.initialize(ctx); err != nil {
		return fmt.Errorf("initializing the server: %w", err)
	}
	s.out.say("server", "initialized; its seal's key is in a file, so it unseals itself")
	if s.provider, err = openProvider(ctx); err != nil {
		return err
	}
	s.out.say("provider", "issues keys on %s, and answers calls with live ones only", s.provider.url)
	if err := s.furnish(ctx); err != nil {
		return fmt.Errorf("setting the server up: %w", err)
	}
	s.journal = &journal{server: func() *client { return s.operator }, heard: s.narrate}
	s.out.say("server", "versioned secrets at secret/, an operator who may rotate the key, a consumer who may read it")
	return nil
}

// policies are the policies of the tokens.
var policies = map[string]string{
	"demo-operator": `path "rotation/*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }
path "` + secretPath + `" { capabilities = ["create", "read", "update"] }`,
	"demo-consumer": `path "` + secretPath + `" { capabilities = ["read"] }`,
}

func (s *stage) furnish(ctx context.Context) error {
	root := s.server.client
	if err := root.do(ctx, http.MethodPost, "sys/audit/file", map[string]any{
		"type": "file", "options": map[string]string{"file_path": s.server.path("audit.log")},
	}, nil); err != nil {
		return err
	}
	if err := root.do(ctx, http.MethodPost, "sys/mounts/secret", map[string]any{
		"type": "kv", "options": map[string]string{"version": "2"},
	}, nil); err != nil {
		return err
	}
	for name, text := range policies {
		if err := root.do(ctx, http.MethodPut, "sys/policies/acl/"+name, map[string]string{"policy": text},
			nil); err != nil {
			return err
		}
	}
	var err error
	if s.operator, err = s.token(ctx, "demo-operator"); err != nil {
		return err
	}
	s.reader, err = s.token(ctx, "demo-consumer")
	return err
}

// token creates a token with one policy.
func (s *stage) token(ctx context.Context, policy string) (*client, error) {
	var made struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	err := s.server.raw(ctx, http.MethodPost, "auth/token/create", map[string]any{
		"policies": []string{policy}, "display_name": policy, "ttl": "24h",
	}, &made)
	return s.server.as(made.Auth.Token), err
}

// keyPart rotates the key.
func (s *stage) keyPart(ctx context.Context, wg *sync.WaitGroup, databaseDone <-chan error) error {
	s.out.chapter("The first key")
	if err := s.configureKey(ctx); err != nil {
		return fmt.Errorf("configuring the key: %w", err)
	}
	s.out.say("key", "configured with the recipe http-demo: grace period %s, readers read again each second", grace)
	if err := s.journal.until(ctx, 1, "done"); err != nil {
		return err
	}
	s.startConsumer(ctx, wg)
	s.out.chapter("A rotation")
	if err := s.rotateOnce(ctx); err != nil {
		return err
	}
	s.out.chapter("A rotation that is rolled back on purpose")
	if err := s.rotateAndRollBack(ctx); err != nil {
		return err
	}
	// The database part must be over before the server is killed.
	if err := <-databaseDone; err != nil {
		return fmt.Errorf("issuing database users: %w", err)
	}
	s.out.chapter("A rotation during which the server is killed")
	if err := s.rotateAndKill(ctx); err != nil {
		return err
	}
	s.out.chapter("One more rotation")
	return s.rotateOnce(ctx)
}

func (s *stage) startConsumer(ctx context.Context, wg *sync.WaitGroup) {
	calls := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
	s.consumer = &consumer{
		read: s.readKey,
		use:  func(ctx context.Context, key string) error { return s.provider.use(ctx, calls, key) },
		tell: func(format string, args ...any) { s.out.say("consumer", format, args...) },
	}
	s.out.say("consumer", "starts, and calls the provider all the time")
	wg.Go(func() { s.consumer.run(ctx) })
}

// rotateOnce rotates the key once and waits for the end.
func (s *stage) rotateOnce(ctx context.Context) error {
	n, err := s.rotate(ctx)
	if err != nil {
		return err
	}
	return s.journal.until(ctx, n, "done")
}

// rotateAndRollBack rotates the key and rolls it back after the consumer has the new one.
func (s *stage) rotateAndRollBack(ctx context.Context) error {
	n, err := s.rotate(ctx)
	if err != nil {
		return err
	}
	if err := s.journal.until(ctx, n, "published"); err != nil {
		return err
	}
	if err := wait(ctx, 1500*time.Millisecond); err != nil {
		return err
	}
	s.out.say("key", "rotation %d: an operator finds a fault in the new key", n)
	if err := s.operator.do(ctx, http.MethodPost, "rotation/keys/"+keyName+"/rollback",
		map[string]string{"reason": "on purpose"}, nil); err != nil {
		return err
	}
	return s.journal.until(ctx, n, "rolled-back")
}

// rotateAndKill kills the server while it verifies a new key, and starts it again.
func (s *stage) rotateAndKill(ctx context.Context) error {
	arrived := s.provider.hold()
	n, err := s.rotate(ctx)
	if err != nil {
		return err
	}
	if err := s.journal.until(ctx, n, "created"); err != nil {
		return err
	}
	select {
	case <-arrived:
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(turnLimit):
		return errors.New("the server did not verify its new key")
	}
	s.out.say("provider", "has received the call that verifies the new key, and does not answer")
	if pg := s.postgres.Load(); pg != nil {
		if _, err := s.useCredentials(ctx, pg); err != nil {
			return err
		}
	}
	s.server.kill()
	s.kills++
	before := s.consumer.calls.Load()
	s.out.say("server", "KILLED (SIGKILL) during rotation %d; %d keys are valid at the provider", n,
		len(s.provider.Live()))
	if err := wait(ctx, 1500*time.Millisecond); err != nil {
		return err
	}
	s.out.say("consumer", "has called %d times meanwhile, with the key that it has", s.consumer.calls.Load()-before)
	took, err := s.server.start(ctx)
	if err != nil {
		return err
	}
	s.out.say("server", "restarted; unsealed and serving after %d ms, it continues the rotation from its journal",
		took.Milliseconds())
	return s.journal.until(ctx, n, "done")
}

// settleDatabase waits until the user that was issued before the kill is gone.
func (s *stage) settleDatabase(ctx context.Context) error {
	pg := s.postgres.Load()
	if pg == nil {
		return nil
	}
	for began := time.Now(); time.Since(began) < 15*time.Second; {
		left, err := s.usersLeft(ctx, pg)
		if err != nil {
			return err
		}
		if left == 0 {
			s.out.say("database", "the user that was issued before the kill is dropped, too")
			return nil
		}
		if err := wait(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil // the table shows it
}

// judge compares the counts with what they should be.
func (s *stage) judge(ctx context.Context) ([]row, error) {
	turns, err := s.journal.fetch(ctx)
	if err != nil {
		return nil, err
	}
	var done, back, dead int
	for _, t := range turns {
		switch t.Result {
		case "done":
			done++
		case "rolled-back":
			back++
		}
		if t.Dead == "refused" {
			dead++
		}
	}
	c, live := s.consumer, s.provider.Live()
	rows := []row{
		exactly("rotations", done, 4, "the first key, and three that replaced another"),
		exactly("rollbacks", back, 1, "on purpose"),
		exactly("server kills", s.kills, 1, "in the middle of a rotation"),
		atLeast("consumer's calls", int(c.calls.Load()), 100,
			fmt.Sprintf("%d reads of the key, %d while the server was down", c.reads.Load(), c.missed.Load())),
		exactly("failed calls", int(c.failed.Load()), 0, ""),
		exactly("old keys proven dead", dead, 4, "each was used after it was retired, and refused"),
		exactly("valid keys at the provider", len(live), 1,
			fmt.Sprintf("of %d that it has issued", len(s.provider.Issued()))),
	}
	if len(live) == 1 && live[0].Secret != c.current.Load().Key {
		rows[len(rows)-1].good, rows[len(rows)-1].note = false, "not the consumer's"
	}
	if pg := s.postgres.Load(); pg != nil {
		left, err := s.usersLeft(ctx, pg)
		if err != nil {
			return nil, err
		}
		rows = append(rows, exactly("database users left", left, 0, fmt.Sprintf("of %d that were issued",
			s.issued.Load())))
	}
	return rows, nil
}

// verdict prints the table. The error names the wrong rows.
func (s *stage) verdict(rows []row) error {
	s.out.chapter(fmt.Sprintf("What was seen in %.0f s", time.Since(s.out.start).Seconds()))
	wrong := s.out.table(rows)
	if err := s.consumer.trouble(); err != nil {
		wrong = append(wrong, "the first failed call: "+err.Error())
	}
	if len(wrong) > 0 {
		return fmt.Errorf("the demo fell short:\n  %s", strings.Join(wrong, "\n  "))
	}
	return nil
}

// showAround prints how to continue by hand.
func (s *stage) showAround() {
	s.out.chapter("Everything keeps running until Ctrl-C")
	s.out.plain("  server     %s   (root token: %s)\n", s.server.url, s.server.token)
	s.out.plain("  provider   %s   (admin token: %s)\n", s.provider.url, s.provider.admin)
	if pg := s.postgres.Load(); pg != nil {
		s.out.plain("  database   postgresql://%s:%s@127.0.0.1:%d/postgres\n", superuser, pg.password, pg.port)
	}
	s.out.plain("  logs       %s\n             %s\n", s.server.path("server.log"), s.server.path("audit.log"))
	s.out.plain(`
In another terminal:

  export VAULT_ADDR=%s VAULT_TOKEN=%s
  %[3]s rotate status
  %[3]s rotate now %[4]s
  %[3]s rotate history %[4]s
  %[3]s kv get secret/%[4]s
`, s.server.url, s.server.token, s.server.program, keyName)
	if s.postgres.Load() != nil {
		s.out.plain("  %s read database/creds/app-readonly\n", s.server.program)
	}
}
