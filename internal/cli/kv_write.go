package cli

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/hashicorp/vault/api"
)

// writeOptions are the options of a write to version 2.
type writeOptions struct {
	cas    int
	useCAS bool
	force  bool
}

// casFlag declares -cas.
func casFlag(f *flags, o *writeOptions) {
	f.Int(&o.cas, "cas", "write only while this is the current version; 0: only while there is none (version 2 only)")
}

// forceFlag declares -force.
func forceFlag(f *flags, o *writeOptions) {
	f.Bool(&o.force, "force", "write a key that does not work over one that is rotated (version 2 only)")
}

func kvPut() *command {
	var mount string
	var options writeOptions
	return &command{
		name: "put", short: "Write a secret", args: "PATH K=V ...", min: 1, max: -1, fields: true,
		long: "Writes a secret, replacing all its values; version 2 keeps the old version.\n" + dataHelp,
		examples: []example{
			{"Write a secret:",
				"keyturn kv put static/stripe/production api_key=sk_live_1 rotated_at=2026-03-09T00:00:00Z"},
			{"Take a value from a file:", "keyturn kv put -mount=static tls/site key=@site.key"},
			{"Write only if the newest version is 3:",
				"keyturn kv put -cas=3 static/stripe/production api_key=sk_live_2"},
		},
		flags: func(f *flags) { mountFlag(f, &mount); casFlag(f, &options); forceFlag(f, &options) },
		run: func(ctx context.Context, s *session) error {
			data, err := s.values()
			if err != nil {
				return err
			}
			_, p, err := s.connectSecret(ctx, mount, s.args[0])
			if err != nil {
				return err
			}
			body := data
			options.useCAS = s.flags.given("cas")
			switch {
			case p.versioned:
				body = versionedBody(data, options)
			case options.useCAS:
				return p.requireVersioned("-cas")
			case options.force:
				return p.requireVersioned("-force")
			}
			path := p.apiPath("data")
			sec, err := s.send(ctx,
				call{op: "update", path: path, body: body, doing: "writing data to " + string(path)})
			if err != nil {
				return err
			}
			return s.out.showWritten(sec, path)
		},
	}
}

// values parses the arguments after the path.
func (s *session) values() (map[string]any, error) {
	data, err := parseData(s.env.Stdin, s.args[1:])
	if err == nil && len(data) == 0 {
		err = usagef("there is no data to write to %s: give key=value", s.args[0])
	}
	return data, err
}

// versionedBody is the body of a write to version 2.
func versionedBody(data map[string]any, o writeOptions) map[string]any {
	options := map[string]any{}
	if o.useCAS {
		options["cas"] = o.cas
	}
	if o.force {
		options["force"] = true
	}
	return map[string]any{"data": data, "options": options}
}

func kvPatch() *command {
	var mount, method string
	var options writeOptions
	var remove []string
	return &command{
		name: "patch", short: "Change some values of a secret", args: "PATH K=V ...", min: 1, max: -1, fields: true,
		long: "Writes a new version with some values changed; the others stay. Version 2 only.\n" + dataHelp,
		examples: []example{
			{"Change one value:", "keyturn kv patch static/stripe/production api_key=sk_live_2"},
			{"Take one value away:", "keyturn kv patch -remove-data=note static/stripe/production"},
		},
		flags: func(f *flags) {
			mountFlag(f, &mount)
			casFlag(f, &options)
			forceFlag(f, &options)
			f.String(&method, "method", "name",
				"patch: the server merges; rw: read here, then write; by default patch, and rw where it is not "+
					"possible")
			f.List(&remove, "remove-data", "key", "a value to take away")
		},
		run: func(ctx context.Context, s *session) error {
			data, err := parseData(s.env.Stdin, s.args[1:])
			if err != nil {
				return err
			}
			if len(data) == 0 && len(remove) == 0 {
				return usagef("there is nothing to change: give key=value or -remove-data")
			}
			if !slices.Contains([]string{"", "patch", "rw"}, method) {
				return usagef("-method: unknown method %q; use patch or rw", method)
			}
			client, p, err := s.connectSecret(ctx, mount, s.args[0])
			if err == nil {
				err = p.requireVersioned("kv patch")
			}
			if err != nil {
				return err
			}
			options.useCAS = s.flags.given("cas")
			change := kvChange{client: client, path: p.apiPath("data"), set: data, remove: remove, options: options}
			sec, err := change.send(ctx, method)
			if err != nil {
				return err
			}
			return s.out.showWritten(sec, change.path)
		},
	}
}

// A kvChange is a patch of a secret in version 2.
type kvChange struct {
	client  *client
	path    target
	set     map[string]any
	remove  []string
	options writeOptions
}

// send changes the secret with a method. Without a method it sends a patch, and reads and writes
// if the token or the server does not allow a patch.
func (c kvChange) send(ctx context.Context, method string) (*api.Secret, error) {
	if method != "rw" {
		sec, err := c.merge(ctx)
		var answer *api.ResponseError
		if !errors.As(err, &answer) || method == "patch" ||
			answer.StatusCode != http.StatusForbidden && answer.StatusCode != http.StatusMethodNotAllowed {
			return sec, err
		}
	}
	return c.readModifyWrite(ctx)
}

func (c kvChange) merge(ctx context.Context) (*api.Secret, error) {
	data := map[string]any{}
	for key, value := range c.set {
		data[key] = value
	}
	for _, key := range c.remove {
		data[key] = nil
	}
	sec, err := c.client.patch(ctx, c.path, versionedBody(data, c.options))
	var answer *api.ResponseError
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return nil, notFoundAt("%s", c.path)
	}
	if err == nil && sec == nil {
		return nil, notFoundAt("%s", c.path)
	}
	return sec, remote(err, "writing data to %s", c.path)
}

// readModifyWrite reads the newest version, changes it and writes the next version. It fails if
// another client writes in between.
func (c kvChange) readModifyWrite(ctx context.Context) (*api.Secret, error) {
	c.client.announce(access{op: "update", path: c.path})
	data, version, err := readVersion(ctx, c.client, c.path, nil)
	if err != nil {
		return nil, err
	}
	if !c.options.useCAS {
		c.options.cas, c.options.useCAS = version, true
	}
	for key, value := range c.set {
		data[key] = value
	}
	for _, key := range c.remove {
		delete(data, key)
	}
	sec, err := c.client.write(ctx, c.path, versionedBody(data, c.options))
	return sec, remote(err, "writing data to %s", c.path)
}

// readVersion returns the values and the number of a version that is not deleted.
func readVersion(ctx context.Context, client *client, path target, params map[string][]string) (map[string]any, int,
	error) {
	var sec *api.Secret
	err := client.preliminary(func() (err error) {
		sec, err = client.read(ctx, path, params)
		return err
	})
	if err != nil {
		return nil, 0, remote(err, "reading %s", path)
	}
	if sec == nil {
		return nil, 0, notFoundAt("%s", path)
	}
	version, err := versionOf(sec)
	if err != nil {
		return nil, 0, remote(err, "reading %s", path)
	}
	data, ok := sec.Data["data"].(map[string]any)
	if !ok {
		return nil, version, refuse(exitRemote, "No data found at %s: that version is deleted", path)
	}
	return data, version, nil
}

func versionOf(sec *api.Secret) (int, error) {
	metadata, _ := sec.Data["metadata"].(map[string]any)
	number, ok := metadata["version"].(json.Number)
	if !ok {
		return 0, errors.New("the answer does not say which version it is")
	}
	n, err := number.Int64()
	return int(n), err
}
