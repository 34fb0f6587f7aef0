package server

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/server/config"
	"github.com/keyturn/keyturn/internal/server/httpapi"
)

// startDev runs a server for trying things out: in memory, initialized and
// unsealed, with KV v2 at secret/, as Vault's users know it.
func startDev(ctx context.Context, o *options, p Plugins, version string, stdout, stderr io.Writer) error {
	c := &config.Server{
		Listeners: []config.Listener{{
			At: config.Position{File: "-dev-listen-address"}, Kind: config.TCP, Address: o.listen, TLS: config.TLS{Disable: true},
			Timeouts: httpapi.DefaultTimeouts(httpapi.DefaultMaxTime),
		}},
		Storage: config.Stanza{Name: "memory"},
		Log:     config.Log{Format: "text"},
		// The database that one tries out with is on this machine, too.
		OutboundAllow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
	}
	if err := o.apply(c, false); err != nil {
		return err
	}
	s, err := newServer(c, p, version, stderr)
	if err != nil {
		return err
	}
	s.prepare = func(ctx context.Context, s *server) error {
		made, err := s.initDev(ctx, secret.Text(o.root))
		if err != nil {
			return err
		}
		showDev(stdout, s.doors[0], made)
		if !o.noStore {
			s.storeToken(made.RootToken)
		}
		return nil
	}
	return s.run(ctx)
}

// initDev initializes with one key share, and gives it.
func (s *server) initDev(ctx context.Context, root secret.Value) (*core.InitResult, error) {
	made, err := s.core.Init(ctx, core.InitRequest{
		Split: seal.Split{Shares: 1, Threshold: 1}, RootToken: root,
		Mounts: []core.NewMount{{
			Path: "secret", Type: "kv", Description: "key/value secret storage", Options: map[string]string{"version": "2"},
		}},
	})
	if err != nil {
		return nil, err
	}
	_, err = s.core.Unseal(ctx, seal.Base64(made.Shares[0]), false)
	return made, err
}

// showDev prints what one needs to begin. Showing the keys is what -dev is
// for: they protect nothing.
func showDev(w io.Writer, d *door, made *core.InitResult) {
	note(w, `WARNING! This is the development mode: everything is in memory and unsealed,
nothing survives the end of this process, and there is no TLS. Never keep real
secrets in it.

To use it, in another terminal:

    $ export VAULT_ADDR='http://%s'

Unseal Key: %s
Root Token: %s
`, d.spec.Address, seal.Base64(made.Shares[0]).RevealString(), made.RootToken.RevealString())
}

// storeToken leaves the root token where the command line finds it. That it
// cannot is worth a warning only.
func (s *server) storeToken(root secret.Value) {
	home, err := os.UserHomeDir()
	if err == nil {
		err = writePrivate(filepath.Join(home, ".vault-token"), root)
	}
	if err != nil {
		s.log.Warn("writing the root token for the command line; set VAULT_TOKEN instead", "error", err)
	}
}

// writePrivate puts a file of ours alone in the place of what is there, which
// others may be able to read, or a link.
func writePrivate(path string, text secret.Value) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text.Reveal())
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
