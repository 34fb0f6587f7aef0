package cli

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"
)

func operatorCommand() *command {
	return &command{
		name: "operator", short: "Set up, unseal and seal the server",
		long: "The work of those who run the server.",
		sub: []*command{operatorInit(), operatorUnseal(), operatorSeal(), operatorRotate(), operatorKeyStatus(),
			operatorMembers()},
	}
}

// initFlags are the flags of init.
type initFlags struct {
	status                            bool
	shares, threshold                 int
	recoveryShares, recoveryThreshold int
	pgpKeys, recoveryPGP              []string
	rootPGP                           string
}

func (i *initFlags) declare(f *flags) {
	i.shares, i.threshold, i.recoveryShares, i.recoveryThreshold = 5, 3, 5, 3
	f.Bool(&i.status, "status",
		"only show whether the server is initialized: the exit code is 0 when it is, 2 when it is not")
	f.Int(&i.shares, "key-shares", "into how many keys to split the root key (5 by default); short: -n")
	f.Alias("n", "key-shares")
	f.Int(&i.threshold, "key-threshold", "how many of them unseal the server (3 by default); short: -t")
	f.Alias("t", "key-threshold")
	f.List(&i.pgpKeys, "pgp-keys", "key", "encrypt the keys, one for each PGP key given")
	f.String(&i.rootPGP, "root-token-pgp-key", "key", "encrypt the root token for this PGP key")
	f.Int(&i.recoveryShares, "recovery-shares", "key shares of a server that unseals itself (5 by default)")
	f.Int(&i.recoveryThreshold, "recovery-threshold", "how many of these an operation needs (3 by default)")
	f.List(&i.recoveryPGP, "recovery-pgp-keys", "key", "encrypt the recovery keys, one for each PGP key given")
}

// request returns the request to initialize. A server that unseals itself has recovery keys in
// place of unseal keys.
func (i *initFlags) request(f *flags, unsealsItself bool) *api.InitRequest {
	r := &api.InitRequest{RootTokenPGPKey: i.rootPGP}
	if !unsealsItself || f.given("key-shares") || f.given("n") {
		r.SecretShares, r.SecretThreshold, r.PGPKeys = i.shares, i.threshold, splitAll(i.pgpKeys)
	}
	if unsealsItself {
		r.RecoveryShares, r.RecoveryThreshold, r.RecoveryPGPKeys = i.recoveryShares, i.recoveryThreshold, splitAll(
			i.recoveryPGP)
	}
	return r
}

func splitAll(lists []string) []string {
	var items []string
	for _, list := range lists {
		items = append(items, strings.Split(list, ",")...)
	}
	return items
}

func operatorInit() *command {
	var i initFlags
	return &command{
		name: "init", short: "Set up an empty server",
		long: "Makes the root key and splits it, opens the storage, and prints the keys and the\nroot token. They " +
			"are shown this once.",
		examples: []example{
			{"Set up with five keys, of which three unseal:", "keyturn operator init"},
			{"Set up for a trial, with output for a program:",
				"keyturn operator init -key-shares=1 -key-threshold=1 -format=json"},
		},
		flags: i.declare,
		run: func(ctx context.Context, s *session) error {
			client, err := s.connect()
			if err != nil {
				return err
			}
			if i.status {
				return printInitStatus(ctx, s, client)
			}
			var unsealsItself bool
			err = client.auxiliary(func() error {
				status, err := client.api.Sys().SealStatusWithContext(ctx)
				unsealsItself = err == nil && status.RecoverySeal
				return err
			})
			if err != nil {
				return remote(err, "checking the seal's status")
			}
			request := i.request(s.flags, unsealsItself)
			answer, err := client.api.Sys().InitWithContext(ctx, request)
			if err != nil {
				return remote(err, "initializing")
			}
			return s.out.showInit(answer, request, s.name)
		},
	}
}

func printInitStatus(ctx context.Context, s *session, client *client) error {
	yes, err := client.api.Sys().InitStatusWithContext(ctx)
	if err != nil {
		return local(err, "checking whether the server is initialized")
	}
	if done, err := s.out.encode(map[string]bool{"initialized": yes}); done && err != nil {
		return err
	}
	if yes {
		return s.out.say("The server is initialized")
	}
	if err := s.out.say("The server is not initialized"); err != nil {
		return err
	}
	return exitCode(exitRemote)
}

// showInit prints the keys: one on a line for people, in both encodings for programs.
func (out *printer) showInit(a *api.InitResponse, r *api.InitRequest, program string) error {
	done, err := out.encode(map[string]any{
		"unseal_keys_b64": nonNil(a.KeysB64), "unseal_keys_hex": nonNil(a.Keys),
		"unseal_shares": r.SecretShares, "unseal_threshold": r.SecretThreshold,
		"recovery_keys_b64": nonNil(a.RecoveryKeysB64), "recovery_keys_hex": nonNil(a.RecoveryKeys),
		"recovery_keys_shares": r.RecoveryShares, "recovery_keys_threshold": r.RecoveryThreshold,
		"root_token": a.RootToken,
	})
	if done {
		return err
	}
	var b strings.Builder
	for i, key := range a.KeysB64 {
		fmt.Fprintf(&b, "Unseal Key %d: %s\n", i+1, key)
	}
	for i, key := range a.RecoveryKeysB64 {
		fmt.Fprintf(&b, "Recovery Key %d: %s\n", i+1, key)
	}
	if b.Len() > 0 {
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "Initial Root Token: %s\n\n", a.RootToken)
	switch {
	case len(a.KeysB64) > 0:
		fmt.Fprintf(&b, "Give each key to another person. After every start of the server, %d of the %d\n"+
			"unseal it (%s operator unseal). They are shown this once: without\n"+
			"them nobody, the makers of this program included, can read what is stored.\n",
			r.SecretThreshold, r.SecretShares, program)
	case len(a.RecoveryKeysB64) > 0:
		b.WriteString("The server unseals itself. Keep the recovery keys: they are shown this once.\n")
	default:
		b.WriteString("The server unseals itself with its seal's key. Keep a copy of that key apart from the\n" +
			"data and its backups: without it nobody can read them.\n")
	}
	return out.write(b.String())
}

// nonNil returns an empty list for nil, for programs that index it.
func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func operatorUnseal() *command {
	var reset, migrate bool
	return &command{
		name: "unseal", short: "Unseal the server with one key", args: "[KEY]", max: 1, fields: true,
		long: "Gives one key to a sealed server. When enough were given, it is unsealed. Without\nan argument the " +
			"key is asked for and does not show; an argument may stay in the\nshell's history.",
		examples: []example{
			{"Give a key:", "keyturn operator unseal"},
			{"Forget the keys that were given so far:", "keyturn operator unseal -reset"},
		},
		flags: func(f *flags) {
			f.Bool(&reset, "reset", "forget the keys that were given so far")
			f.Bool(&migrate, "migrate", "the key is one of the old seal, and the seal is being changed")
		},
		run: func(ctx context.Context, s *session) error {
			client, err := s.connect()
			if err != nil {
				return err
			}
			body := map[string]any{"reset": true}
			if !reset {
				key, err := s.argumentOrPrompt(ctx, "Unseal Key (will be hidden): ")
				if err != nil {
					return err
				}
				if !looksLikeKey(key.RevealString()) {
					return usagef("the key is neither hexadecimal nor base64; was it copied whole?")
				}
				body = map[string]any{"key": key.RevealString(), "migrate": migrate}
			}
			status, err := client.fields(ctx, http.MethodPut, "sys/unseal", body)
			if err != nil {
				return remote(err, "unsealing")
			}
			return s.out.showStatus(status)
		},
	}
}

// looksLikeKey reports whether text is encoded like a key, not something else from the clipboard.
func looksLikeKey(text string) bool {
	if _, err := hex.DecodeString(text); err == nil {
		return text != ""
	}
	_, err := base64.StdEncoding.DecodeString(text)
	return err == nil && text != ""
}

func operatorSeal() *command {
	return &command{
		name: "seal", short: "Seal the server",
		long: "Throws the server's keys away and ends what it does. It answers nothing until it is\nunsealed " +
			"again.",
		examples: []example{{"Seal the server:", "keyturn operator seal"}},
		run: func(ctx context.Context, s *session) error {
			client, err := s.connect()
			if err != nil {
				return err
			}
			if err := client.api.Sys().SealWithContext(ctx); err != nil {
				return remote(err, "sealing")
			}
			return s.out.say("Success! The server is sealed.")
		},
	}
}

func operatorRotate() *command {
	return &command{
		name: "rotate", short: "Make a new data key",
		long: "Creates a new data key. Data that is stored from now on is encrypted with it, and\ndata that is " +
			"already stored stays readable. The server also does this on its own,\nin time.",
		examples: []example{{"Make a new data key:", "keyturn operator rotate"}},
		run: runChange(func(*session) (call, error) {
			return call{
				op: "update", path: "sys/rotate", doing: "rotating the data key",
				success: "Success! The server uses a new data key.",
			}, nil
		}),
	}
}
