package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/keyturn/keyturn/internal/engine/rotation"
)

func recipeCommand() *command {
	return &command{
		name: "recipe", short: "Write, test and show recipes for keys of third parties",
		long: "A recipe tells the rotation engine how one kind of key is created, verified and\nretired at its " +
			"provider. It is a file with expressions and no code.",
		sub: []*command{recipeNew(), recipeTest(), recipeList(), recipeShow()},
	}
}

// builtInRecipes returns the recipes that are built into this binary.
func builtInRecipes(s *session) ([]rotation.Definition, error) {
	if s.env.Recipes == nil {
		return nil, notBuilt(s.line)
	}
	all, err := s.env.Recipes.Definitions()
	return all, local(err, "reading the built-in recipes")
}

func recipeList() *command {
	var mount string
	var offline bool
	return &command{
		name: "list", short: "List the recipes of a server", max: 0,
		long: "Lists the recipes that a rotation engine knows: those built in, and those that were\nwritten to it. " +
			"With -built-in it lists those of this program and asks no server.",
		examples: []example{
			{"List the recipes of the server:", "keyturn recipe list"},
			{"List those built in:", "keyturn recipe list -built-in"},
		},
		flags: func(f *flags) {
			rotationFlag(f, &mount)
			f.Bool(&offline, "built-in", "list the recipes of this program; ask no server")
		},
		run: func(ctx context.Context, s *session) error {
			rows := []recipeRow{}
			if offline {
				known, err := builtInRecipes(s)
				if err != nil {
					return err
				}
				for _, d := range known {
					rows = append(rows, recipeRow{Name: d.Name, BuiltIn: true, Description: d.Description})
				}
			} else {
				var err error
				if rows, err = serverRecipes(ctx, s, mount); err != nil {
					return hinted(err, "\"%s -built-in\" lists the recipes of this program without a server", s.line)
				}
			}
			if done, err := s.out.encode(rows); done {
				return err
			}
			lines := [][]string{}
			for _, r := range rows {
				origin := "written here"
				if r.BuiltIn {
					origin = "built in"
				}
				lines = append(lines, []string{r.Name, origin, r.Description})
			}
			return s.out.write(table([]string{"Name", "Origin", "Description"}, lines))
		},
	}
}

// A recipeRow is one recipe of a list.
type recipeRow struct {
	Name        string `json:"name"`
	BuiltIn     bool   `json:"built_in"`
	Description string `json:"description"`
}

// serverRecipes returns the recipes of the mount.
func serverRecipes(ctx context.Context, s *session, mount string) ([]recipeRow, error) {
	at, err := folder(mount)
	if err != nil {
		return nil, err
	}
	client, err := s.connect()
	if err != nil {
		return nil, err
	}
	path := at.below("recipes")
	sec, err := client.list(ctx, path)
	if err != nil {
		return nil, rotationHint(ctx, s, remote(err, "listing %s", path), mount, "")
	}
	rows := []recipeRow{}
	if sec == nil {
		return rows, nil
	}
	names, _ := sec.Data["keys"].([]any)
	for _, name := range names {
		one, err := path.child(text(name))
		if err != nil {
			return nil, err
		}
		row := recipeRow{Name: text(name)}
		got, err := client.read(ctx, one, nil)
		switch {
		case err != nil && !isNotFound(err) && !isForbidden(err): // a token that may only list sees only names
			return nil, remote(err, "reading %s", one)
		case err == nil && got != nil:
			row.Description = text(got.Data["description"])
			row.BuiltIn, _ = got.Data["built_in"].(bool)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func recipeShow() *command {
	var mount string
	return &command{
		name: "show", short: "Show a recipe of a server", args: "NAME", min: 1, max: 1, fields: true,
		long: "Shows what a recipe does, what has to be configured, and its text.",
		examples: []example{
			{"Show a recipe:", "keyturn recipe show http-demo"},
			{"Copy its text:", "keyturn recipe show -field=source http-demo > mine.hcl"},
		},
		flags: func(f *flags) { rotationFlag(f, &mount) },
		run: func(ctx context.Context, s *session) error {
			at, err := folder(mount)
			if err != nil {
				return err
			}
			path, err := at.below("recipes").child(s.args[0])
			if err != nil {
				return err
			}
			sec, err := s.read(ctx, call{op: "read", path: path, doing: "reading " + string(path)})
			switch {
			case isNotFound(err):
				return hinted(refuse(exitRemote, "No recipe %q at %s", s.args[0], at.below("recipes")),
					"\"%s recipe list\" shows the recipes that there are", s.name)
			case err != nil:
				return rotationHint(ctx, s, err, mount, "")
			}
			if s.out.field != "" || s.out.format != "table" || sec.WrapInfo != nil {
				return s.out.show(sec)
			}
			source := text(sec.Data["source"])
			delete(sec.Data, "source")
			if err := s.out.showTree(sec); err != nil {
				return err
			}
			return s.out.write("\n" + section("source", printable(source)))
		},
	}
}

var recipeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)

func recipeNew() *command {
	var file string
	return &command{
		name: "new", short: "Write the beginnings of a recipe", args: "NAME", min: 1, max: 1, local: true,
		long: "Writes NAME.hcl, a commented recipe in which everything that depends on the provider\nis marked " +
			"with CHANGE. When it is filled in, recipe test tries it.",
		examples: []example{{"Begin a recipe:", "keyturn recipe new acme"}},
		flags: func(f *flags) {
			f.String(&file, "o", "file", "the file to write, which must not exist; - for standard output")
		},
		run: func(_ context.Context, s *session) error {
			name := s.args[0]
			if !recipeName.MatchString(name) {
				return usagef("%q is not the name of a recipe; use 1 to 64 of a-z, 0-9 and -, beginning and ending "+
					"with a letter or digit", name)
			}
			content := strings.ReplaceAll(newRecipe, "NAME", name)
			if file == "-" {
				return s.out.write(content)
			}
			if file == "" {
				file = name + ".hcl"
			}
			f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
			if errors.Is(err, fs.ErrExist) {
				return hinted(refuse(exitLocal, "Error: %s exists already", file), "-o names another file")
			}
			if err != nil {
				return local(err, "writing the recipe")
			}
			if _, err = f.WriteString(content); err == nil {
				err = f.Sync()
			}
			if err = errors.Join(err, f.Close()); err != nil {
				return local(err, "writing the recipe")
			}
			if done, err := s.out.encode(map[string]any{"name": name, "file": file}); done {
				return err
			}
			return s.out.say("Success! Wrote %s. Fill in what is marked with %s, then run: %s recipe test %s", file,
				changeMark, s.name, file)
		},
	}
}

// newRecipe is the file that "recipe new" writes.
const newRecipe = `# How keys of … are rotated.
#
# What each marked line says depends on the provider; remove the mark when it is right.
#
#     keyturn recipe test NAME.hcl              plays it with the examples below; nothing is sent
#     keyturn recipe test -live NAME.hcl        creates one real key, verifies it and retires it
#     keyturn write rotation/recipes/NAME source=@NAME.hcl

name        = "NAME"
description = "Keys of …" # CHANGE
doc         = "https://docs.example.com/api-keys" # CHANGE: where the provider documents its API
style       = "two-key" # the old and the new key live side by side
evidence    = "The provider's documentation." # CHANGE: what this rests on, such as "tested live"

# Nothing but these hosts is ever called.
hosts = ["api.example.com"] # CHANGE

# What is configured for each key, such as a region or an account: param "region" { description = "…" }

# A credential that may create and delete keys. It is asked for in each key's configuration.
admin "token" {
  description = "A token that may manage API keys" # CHANGE
}

# How requests show it: bearer { token }, basic { username password }, header { headers }.
auth "bearer" {
  token = admin.token
}

create {
  method = "POST"
  url    = "https://api.example.com/v1/keys" # CHANGE
  json   = { name = marker }                 # CHANGE: the marker is how a key is found whose reply was lost

  # What may follow when the reply is lost: "adopt" looks in the list for the marker, "safe" calls again, "never" asks a person.
  retry = "adopt"

  # A refusal is final where nothing else is said: the rotation is rolled back, and the key waits for a person. What the provider means
  # otherwise is said here; outcomes are exhausted (its limit on keys), transient (try later), permanent, and unknown (it may have had its effect).
  #
  # fail "exhausted" {
  #   when = response.status == 403 && try(response.json.error, "") == "too many keys"
  # }

  id     = response.json.id                # CHANGE
  secret = { api_key = response.json.key } # CHANGE

  # A reply as the provider documents it. recipe test plays it.
  example = { # CHANGE
    status = 201
    json   = { id = "key_1", key = "the-secret-of-the-new-key", name = marker }
  }
}

# How a consumer uses a key: any call that changes nothing.
verify {
  url = "https://api.example.com/v1/me" # CHANGE
  auth "bearer" {
    token = key.api_key
  }
  example         = { status = 200, json = {} }                          # CHANGE
  example_refused = { status = 401, json = { error = "no such key" } }   # CHANGE: to a key that was deleted
}

list {
  url   = "https://api.example.com/v1/keys" # CHANGE
  items = response.json.keys                # CHANGE
  id    = item.id                           # CHANGE
  label = item.name                         # CHANGE

  example = { # CHANGE
    json = { keys = [{ id = key.id, name = marker }] }
  }
}

retire {
  method  = "DELETE"
  url     = "https://api.example.com/v1/keys/${urlencode(key.id)}" # CHANGE
  example = { status = 204 }                                       # CHANGE
}
`
