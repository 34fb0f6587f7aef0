package server

import (
	"context"
	"io"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/server/config"
)

// startDev runs a server for trying things out: in memory, initialized and
// unsealed, with KV at secret/, as Vault's users know it. Configuration files add to
// that.
func (l starter) startDev(ctx context.Context) error {
	mode := config.Server{
		Listeners: []config.Listener{{
			At: config.Position{File: "-dev-listen-address"}, Kind: config.TCP, Address: l.listen,
			TLS: config.TLS{Disable: true},
		}},
		Storage: config.Stanza{Name: "memory"},
		// The database that one tries out with is on this machine, too.
		OutboundAllow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
	}
	authority := ""
	if l.devTLS && !l.check {
		folder, remove, err := l.certFolder()
		if err != nil {
			return err
		}
		defer remove()
		if mode.Listeners[0].TLS, authority, err = devTLS(folder, devNames(l.listen, l.sans)); err != nil {
			return err
		}
	}
	read := func() (*config.Server, error) { return config.ReadDev(l.config, l.known(), mode) }
	return l.run(ctx, read, func(ctx context.Context, s *server) error {
		made, err := s.initDev(ctx, secret.Text(l.root), l.kvVersion())
		if err != nil {
			return err
		}
		showDev(l.stdout, s.listeners[0], authority, made)
		if !l.noStore {
			s.storeToken(made.RootToken)
		}
		return nil
	})
}

// certFolder returns the folder for the files of -dev-tls, and a function that
// removes the folder at the end if no flag has chosen it.
func (o *options) certFolder() (folder string, remove func(), err error) {
	if o.certDir != "" {
		return o.certDir, func() {}, nil
	}
	folder, err = os.MkdirTemp("", "vault-tls-")
	return folder, func() { _ = os.RemoveAll(folder) }, err // the process ends; it is in a folder for what may be lost
}

// kvVersion is that of the engine at secret/.
func (o *options) kvVersion() string {
	if o.kvV1 {
		return "1"
	}
	return "2"
}

// initDev initializes with one key share, and gives it.
func (s *server) initDev(ctx context.Context, root secret.Value, kvVersion string) (*core.InitResult, error) {
	made, err := s.core.Init(ctx, core.InitRequest{
		Split: seal.Split{Shares: 1, Threshold: 1}, RootToken: root,
		Mounts: []core.NewMount{{
			Path: "secret", Type: "kv", Description: "key/value secret storage",
			Options: map[string]string{"version": kvVersion},
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
func showDev(w io.Writer, d *openListener, authority string, made *core.InitResult) {
	note(w, `WARNING! This is the development mode: everything is in memory and unsealed, and
nothing survives the end of this process. Never keep real secrets in it.`)
	if d.spec.TLS.Disable {
		note(w, "There is no TLS; -dev-tls makes a certificate.")
	}
	note(w, `
To use it, in another terminal:

    $ export VAULT_ADDR='%s'`, d.spec.URL())
	if authority != "" {
		note(w, "    $ export VAULT_CACERT='%s'", authority)
	}
	note(w, `
Unseal Key: %s
Root Token: %s
`, seal.Base64(made.Shares[0]).RevealString(), made.RootToken.RevealString())
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
