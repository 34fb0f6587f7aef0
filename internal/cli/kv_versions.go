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

// versionNumbers returns the numbers in lists such as "1,2".
func versionNumbers(lists []string) ([]string, error) {
	var numbers []string
	for _, list := range lists {
		for text := range strings.SplitSeq(list, ",") {
			text = strings.TrimSpace(text)
			if n, err := strconv.Atoi(text); err != nil || n < 1 {
				return nil, usagef("-versions: %q is not a version number", text)
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
		long: "Deletes a secret. In version 2 it deletes the newest version, or those that\n-versions names, and kv " +
			"undelete brings them back.",
		examples: []example{
			{"Delete the newest version:", "keyturn kv delete static/stripe/production"},
			{"Delete two old ones:", "keyturn kv delete -versions=1,2 static/stripe/production"},
		},
		flags: func(f *flags) {
			mountFlag(f, &mount)
			versionsFlag(f, &versions, "the versions to delete (version 2 only)")
		},
		run: func(ctx context.Context, s *session) error {
			_, p, err := s.connectSecret(ctx, mount, s.args[0])
			if err != nil {
				return err
			}
			if len(versions) > 0 {
				return s.changeVersions(ctx, p, "delete", versions)
			}
			path := p.apiPath("data")
			return s.change(ctx, call{
				op: "delete", path: path, doing: "deleting " + string(path),
				success: "Success! Data deleted (if it existed) at: " + string(path),
			})
		},
	}
}

// changeVersions deletes, undeletes or destroys versions.
func (s *session) changeVersions(ctx context.Context, p kvPath, kind target, versions []string) error {
	if err := p.requireVersioned("kv " + string(kind) + " with versions"); err != nil {
		return err
	}
	numbers, err := versionNumbers(versions)
	if err != nil {
		return err
	}
	path := p.apiPath(kind)
	success := "Success! Data written to: " + string(path)
	if kind == "delete" {
		success = "Success! Data deleted (if it existed) at: " + string(p.apiPath("data"))
	}
	return s.change(ctx, call{
		op: "update", path: path, body: map[string]any{"versions": numbers},
		doing: "writing data to " + string(path), success: success,
	})
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

// versionsCommand completes c: the command calls the endpoint of its name with versions.
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
		_, p, err := s.connectSecret(ctx, mount, s.args[0])
		if err != nil {
			return err
		}
		return s.changeVersions(ctx, p, name, versions)
	}
	return c
}

func kvRollback() *command {
	var mount string
	var version int
	var options writeOptions
	return &command{
		name: "rollback", short: "Write an old version again as the newest",
		args: "PATH", min: 1, max: 1, fields: true,
		long: "Writes the values of an old version as a new one, unless somebody else writes\nin between. No " +
			"version is lost. Version 2 only.",
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
				err = p.requireVersioned("kv rollback")
			}
			if err != nil {
				return err
			}
			sec, err := rollback(ctx, client, p.apiPath("data"), version, options)
			if err != nil {
				return err
			}
			return s.out.done(sec, "Success! Data written to: %s", p.apiPath("data"))
		},
	}
}

// rollback writes the values of an old version as a new version. It fails if another client
// writes in between.
func rollback(ctx context.Context, client *client, path target, version int, o writeOptions) (*api.Secret, error) {
	client.announce(access{op: "update", path: path})
	var newest *api.Secret
	err := client.preliminary(func() (err error) {
		newest, err = client.read(ctx, path, nil)
		return err
	})
	if err != nil {
		return nil, remote(err, "reading %s", path)
	}
	if newest == nil {
		return nil, notFoundAt("%s", path)
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
