package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/hashicorp/vault/api"
)

// versionsFlag declares -versions.
func versionsFlag(f *flags, versions *[]string, usage string) {
	f.List(versions, "versions", "n[,n...]", usage)
}

// versionNumbers are the numbers in lists such as "1,2".
func versionNumbers(lists []string) ([]string, error) {
	var numbers []string
	for _, list := range lists {
		for text := range strings.SplitSeq(list, ",") {
			text = strings.TrimSpace(text)
			if n, err := strconv.Atoi(text); err != nil || n < 1 {
				return nil, usagef("-versions: %q is no version's number", text)
			}
			numbers = append(numbers, text)
		}
	}
	return numbers, nil
}

func kvDelete() *command {
	var mount string
	var versions []string
	return &command{
		name: "delete", short: "Delete a secret's newest version, or versions of it", args: "PATH", min: 1, max: 1,
		long: "Deletes a secret. In version 2 it deletes the newest version, or those that\n-versions names, and kv undelete brings them back.",
		examples: []example{
			{"Delete the newest version:", "keyturn kv delete static/stripe/production"},
			{"Delete two old ones:", "keyturn kv delete -versions=1,2 static/stripe/production"},
		},
		flags: func(f *flags) {
			mountFlag(f, &mount)
			versionsFlag(f, &versions, "the versions to delete (version 2 only)")
		},
		run: func(ctx context.Context, s *session) error {
			client, p, err := s.connectSecret(ctx, mount, s.args[0])
			if err != nil {
				return err
			}
			if len(versions) > 0 {
				return s.onVersions(ctx, client, p, "delete", versions)
			}
			path := p.api("data")
			sec, err := client.remove(ctx, path, nil)
			if err != nil {
				return remote(err, "deleting %s", path)
			}
			return s.out.done(sec, "Success! Data deleted (if it existed) at: %s", path)
		},
	}
}

// onVersions deletes, undeletes or destroys versions.
func (s *session) onVersions(ctx context.Context, client *client, p kvPath, kind target, versions []string) error {
	if err := p.versionedOnly("kv " + string(kind) + " with versions"); err != nil {
		return err
	}
	numbers, err := versionNumbers(versions)
	if err != nil {
		return err
	}
	path := p.api(kind)
	sec, err := client.write(ctx, path, map[string]any{"versions": numbers})
	if err != nil {
		return remote(err, "writing data to %s", path)
	}
	if kind == "delete" {
		return s.out.done(sec, "Success! Data deleted (if it existed) at: %s", p.api("data"))
	}
	return s.out.done(sec, "Success! Data written to: %s", path)
}

func kvUndelete() *command {
	return versionsCommand("undelete", &command{
		short: "Bring deleted versions back",
		long:  "Brings deleted versions back. Destroyed ones are gone.",
		examples: []example{
			{"Bring a version back:", "keyturn kv undelete -versions=3 static/stripe/production"},
		},
	})
}

func kvDestroy() *command {
	return versionsCommand("destroy", &command{
		short: "Destroy versions for good",
		long:  "Destroys the values of versions. Nothing brings them back.",
		examples: []example{
			{"Destroy two versions:", "keyturn kv destroy -versions=1,2 static/stripe/production"},
		},
	})
}

// versionsCommand makes c the command that calls the endpoint name with
// versions.
func versionsCommand(name target, c *command) *command {
	var mount string
	var versions []string
	c.name, c.args, c.min, c.max = string(name), "PATH", 1, 1
	c.flags = func(f *flags) {
		mountFlag(f, &mount)
		versionsFlag(f, &versions, "the versions to "+string(name))
	}
	c.run = func(ctx context.Context, s *session) error {
		if len(versions) == 0 {
			return usagef("there are no versions to %s: name them with -versions", name)
		}
		client, p, err := s.connectSecret(ctx, mount, s.args[0])
		if err != nil {
			return err
		}
		return s.onVersions(ctx, client, p, name, versions)
	}
	return c
}

func kvRollback() *command {
	var mount string
	var version int
	var options writeOptions
	return &command{
		name: "rollback", short: "Write an old version again as the newest", args: "PATH", min: 1, max: 1, fields: true,
		long: "Writes the values of an old version as a new one, unless somebody else writes\nin between. No version is lost. Version 2 only.",
		examples: []example{
			{"Go back to version 1:", "keyturn kv rollback -version=1 static/stripe/production"},
		},
		flags: func(f *flags) {
			mountFlag(f, &mount)
			f.Int(&version, "version", "the version to go back to")
			forceFlag(f, &options)
		},
		run: func(ctx context.Context, s *session) error {
			if version < 1 {
				return usagef("-version: name the version to go back to, 1 or above")
			}
			client, p, err := s.connectSecret(ctx, mount, s.args[0])
			if err == nil {
				err = p.versionedOnly("kv rollback")
			}
			if err != nil {
				return err
			}
			sec, err := rollback(ctx, client, p.api("data"), version, options)
			if err != nil {
				return err
			}
			return s.out.done(sec, "Success! Data written to: %s", p.api("data"))
		},
	}
}

// rollback writes the values of version anew, asserting that the newest version
// is still the one that it saw first.
func rollback(ctx context.Context, client *client, path target, version int, o writeOptions) (*api.Secret, error) {
	client.then(ask{"update", path})
	var newest *api.Secret
	err := client.first(func() (err error) {
		newest, err = client.read(ctx, path, nil)
		return err
	})
	if err != nil {
		return nil, remote(err, "reading %s", path)
	}
	if newest == nil {
		return nil, nothingAt("%s", path)
	}
	current, err := versionOf(newest)
	if err != nil {
		return nil, remote(err, "reading %s", path)
	}
	data, _, err := readVersion(ctx, client, path, map[string][]string{"version": {strconv.Itoa(version)}})
	if err != nil {
		return nil, err
	}
	o.cas, o.useCAS = current, true
	sec, err := client.write(ctx, path, versionedBody(data, o))
	return sec, remote(err, "writing data to %s", path)
}
