package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/cli"
	"github.com/keyturn/keyturn/internal/demo"
	"github.com/keyturn/keyturn/internal/plugins"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/server"
	"github.com/keyturn/keyturn/internal/server/config"
	"github.com/keyturn/keyturn/internal/server/metrics"
	"github.com/keyturn/keyturn/internal/storage"
)

// commandPages returns the pages of all commands of the binary.
func commandPages(ctx context.Context) []cli.Page {
	return cli.Pages(ctx, cli.Env{
		Stdout: io.Discard, Stderr: io.Discard, Layout: server.Layout,
		Server: server.Command(server.Plugins{
			Storage: plugins.StorageDrivers, Seals: plugins.Seals, Audits: plugins.AuditDevices,
			Engines: plugins.Engines, Auths: plugins.AuthMethods, Databases: plugins.DatabasePlugins(),
		}, cli.Version),
		Demo: demo.Command,
	})
}

// shared are the groups of flags that nearly every command has.
var shared = []string{"Output options", "HTTP options"}

// commands returns the page of the command line.
func commands(ctx context.Context) string {
	var b strings.Builder
	b.WriteString(head + `# The command line

Flags may stand anywhere, with one dash or two. The exit code is 0 for success, 1 for a local error (flags, files, input) and 2 if
the server did not answer with success. If the program is started under the name ` + "`vault`" + `, it calls itself vault.

` + "`keyturn -autocomplete-install`" + ` makes Tab complete commands, flags and their values in bash, zsh and fish. It also completes mounts, paths
and names, which it reads from the server at VAULT_ADDR with the session's token. It waits at most one second for the server.
` + "`keyturn -autocomplete-uninstall`" + ` undoes this.

A path or a name is sent as it was typed. A path that HTTP cannot carry unchanged, such as one with an extra slash or a dot segment, is refused,
and the error shows the form to write.
`)
	all := commandPages(ctx)
	for _, group := range shared {
		fmt.Fprintf(&b, "\n## %s\n\n", group)
		flagTable(&b, sharedFlags(all, group))
	}
	for _, p := range all {
		fmt.Fprintf(&b, "\n## keyturn %s\n\n", p.Line)
		if p.Own != "" {
			fmt.Fprintf(&b, "```text\n%s\n```\n", strings.TrimRight(strings.ReplaceAll(p.Own, "\t", "    "), "\n"))
			continue
		}
		fmt.Fprintf(&b, "%s\n\n    keyturn %s\n", strings.TrimSpace(p.Long),
			strings.TrimSpace(p.Line+" [options] "+p.Args))
		for _, e := range p.Examples {
			fmt.Fprintf(&b, "\n%s\n\n%s", e.What, indented(e.Line))
		}
		var own []cli.Flag
		for _, f := range p.Flags {
			if !slices.Contains(shared, f.Group) {
				own = append(own, f)
			}
		}
		if len(own) > 0 {
			b.WriteByte('\n')
			flagTable(&b, own)
		}
	}
	return b.String()
}

// sharedFlags returns the flags of a group, each once.
func sharedFlags(all []cli.Page, group string) []cli.Flag {
	var flags []cli.Flag
	for _, p := range all {
		for _, f := range p.Flags {
			if f.Group == group && !slices.Contains(flags, f) {
				flags = append(flags, f)
			}
		}
	}
	return flags
}

func flagTable(b *strings.Builder, flags []cli.Flag) {
	b.WriteString("| flag | meaning |\n|---|---|\n")
	for _, f := range flags {
		name := "-" + f.Name
		if f.Value != "" {
			name += "=" + f.Value
		}
		row(b, "`"+name+"`", f.Usage)
	}
}

func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("    " + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}

// configuration returns the page of the server's configuration.
func configuration() string {
	var b strings.Builder
	b.WriteString(head + `# The server's configuration

The configuration is HCL 1 or JSON, in one file, several files, or a folder of files (` + "`keyturn server -config`" + `). An unknown key is an
error, which names file and line and suggests the key that was probably meant. All errors are reported together. ` + "`-check`" + ` checks the
configuration without starting the server.

A duration is a number of seconds or text such as ` + "`1h30m`" + `. A list is a list, or text with commas. A template is a template of
[go-sockaddr](https://pkg.go.dev/github.com/hashicorp/go-sockaddr/template), such as ` + "`{{ GetPrivateIP }}:8200`" + `.

SIGHUP re-reads the keys that are marked in the column SIGHUP, and reopens the log file and the audit files. The log names all other changes;
they take effect at the next start.
`)
	block := "?"
	for _, f := range config.Fields(config.Known{Storage: plugins.StorageDrivers, Seals: plugins.Seals}) {
		if f.Block != block {
			block = f.Block
			title := "The top level"
			if block != "" {
				title = "`" + block + "`"
			}
			fmt.Fprintf(&b, "\n## %s\n\n| key | type | default | SIGHUP | meaning |\n|---|---|---|---|---|\n", title)
		}
		reload := "–"
		if f.Reload {
			reload = "yes"
		}
		row(&b, "`"+f.Name+"`", f.Type, orDash(f.Default), reload, f.Doc)
	}
	b.WriteString("\n`storage \"memory\"` and `seal \"shamir\"`, which is the default, have no keys.\n")
	unsupportedKeys(&b)
	return b.String()
}

// unsupportedKeys writes the table of the keys that Vault documents and this server does not have.
func unsupportedKeys(b *strings.Builder) {
	b.WriteString(`
## Keys of Vault that are not supported

A key is refused if ignoring it would change what the server does. The other keys are accepted with a warning.

| where | key | | instead |
|---|---|---|---|
`)
	for _, a := range config.AbsentKeys() {
		verdict := "accepted with a warning"
		if a.Refused {
			verdict = "refused"
		}
		row(b, a.Block, "`"+a.Name+"`", verdict, strings.ToUpper(a.Instead[:1])+a.Instead[1:]+".")
	}
}

// everything returns a source with every series.
func everything() metrics.Source {
	h := storage.Histogram{Bounds: []float64{1}, Counts: []uint64{1, 1}, Sum: 1}
	return metrics.Source{
		Unsealed: func() (metrics.Unsealed, bool) { return metrics.Unsealed{Lateness: h}, true },
		Store:    func() storage.Stats { return storage.Stats{CommitSeconds: h, FreeBytes: 1} },
		Rotations: func() []rotate.Tally {
			return []rotate.Tally{{
				States:    map[rotate.State]int64{rotate.Grace: 1},
				Failed:    map[rotate.FailedStep]int64{{Step: rotate.Creating, Class: "transient"}: 1},
				Standings: []rotate.Standing{{State: rotate.Grace}},
			}}
		},
		Audit: func() []metrics.Device { return []metrics.Device{{Path: "file/", Type: "file"}} },
	}
}

// series returns the page of the metrics.
func series(ctx context.Context) (string, error) {
	m := metrics.New(everything(), "1")
	m.Observe(metrics.Request{Operation: "read", MountType: "kv", Result: "ok", Took: time.Second})
	text, _, err := m.Render(ctx, "prometheus", "")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(head + `# Metrics

` + "`GET /v1/sys/metrics?format=prometheus`" + ` returns the metrics. It needs a token that may read this path, unless the listener allows access without
a token (` + "`unauthenticated_metrics_access`" + `). The answer also has the series of Go and of the process, ` + "`go_…` and `process_…`" + `.

| series | type | labels | meaning |
|---|---|---|---|
`)
	var name, help, kind string
	done := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, help, _ = strings.Cut(rest, " ")
			continue
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			_, kind, _ = strings.Cut(rest, " ")
			continue
		}
		ours := strings.HasPrefix(name, "keyturn_") || strings.HasPrefix(name, "vault_")
		if !ours || name == done {
			continue
		}
		done = name
		row(&b, "`"+name+"`", kind, orDash(labels(line)), help)
	}
	return b.String(), nil
}

// labels returns the names of the labels of a sample.
func labels(sample string) string {
	_, rest, ok := strings.Cut(sample, "{")
	if !ok {
		return ""
	}
	var names []string
	for pair := range strings.SplitSeq(rest, ",") {
		name, _, _ := strings.Cut(pair, "=")
		if name != "le" {
			names = append(names, "`"+name+"`")
		}
	}
	return strings.Join(names, ", ")
}
