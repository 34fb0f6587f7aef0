package cli

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runInstall runs one of the two flags with a home folder.
func runInstall(t *testing.T, flag, home, shell string) (string, int) {
	t.Helper()
	t.Setenv("HOME", home)
	var stdout, stderr bytes.Buffer
	code := Main(t.Context(), []string{"/usr/bin/keyturn", flag}, Env{
		Stdout: &stdout, Stderr: &stderr,
		Getenv: func(name string) string { return map[string]string{"SHELL": shell}[name] },
	})
	return stdout.String() + stderr.String(), code
}

// TestInstallCompletion checks that a startup file of the user gets one block, keeps everything
// else, and loses the block when the completion is uninstalled.
func TestInstallCompletion(t *testing.T) {
	home := t.TempDir()
	real := filepath.Join(home, "dotfiles")
	for _, err := range []error{
		os.WriteFile(real, []byte("alias a=b"), 0o600),
		os.Symlink(real, filepath.Join(home, ".bashrc")),
		os.WriteFile(filepath.Join(home, ".zshrc"),
			[]byte("setopt x\ncomplete -o nospace -C /usr/bin/vault vault\ncomplete -o nospace -C /old/keyturn "+
				"keyturn\n"), 0o644),
		os.MkdirAll(filepath.Join(home, ".config", "fish"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	out, code := runInstall(t, "-autocomplete-install", home, "/bin/bash")
	if code != exitOK || strings.Count(out, "\n") != 4 {
		t.Fatalf("exit %d, %s", code, out)
	}
	bash, zsh, fish := read(t, real), read(t, filepath.Join(home, ".zshrc")), read(t,
		filepath.Join(home, ".config/fish/completions/keyturn.fish"))
	for text, wants := range map[string][]string{
		bash: {"alias a=b\n# keyturn completion: begin\ncomplete -o nospace -C \"KEYTURN_COMPLETE=bash '",
			" keyturn\n# keyturn completion: end\n"},
		zsh: {"setopt x\ncomplete -o nospace -C /usr/bin/vault vault\n# keyturn completion: begin\n",
			"compdef _keyturn_completion keyturn\n"},
		fish: {"COMP_LINE (commandline -cp)", "complete -f -c keyturn -a '(__complete_keyturn)'"},
	} {
		for _, want := range wants {
			if !strings.Contains(text, want) || strings.Contains(text, "@N") || strings.Contains(text, "/old/") {
				t.Errorf("%q lacks %q", text, want)
			}
		}
	}
	if out, code := runInstall(t, "-autocomplete-install", home, ""); code != exitOK ||
		strings.Count(out, "already in") != 3 || read(t, real) != bash {
		t.Errorf("again: exit %d, %s", code, out)
	}
	if out, code := runInstall(t, "-autocomplete-uninstall", home, ""); code != exitOK {
		t.Errorf("removing: exit %d, %s", code, out)
	}
	info, err := os.Lstat(filepath.Join(home, ".bashrc"))
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info, err)
	}
	if info, err := os.Stat(real); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the permissions: %v, %v", info, err)
	}
	if got := read(t, real); got != "alias a=b\n" {
		t.Errorf("what is left: %q", got)
	}
	if got := read(t,
		filepath.Join(home, ".zshrc")); got != "setopt x\ncomplete -o nospace -C /usr/bin/vault vault\n" {
		t.Errorf("what is left: %q", got)
	}
	if left, err := os.ReadDir(filepath.Join(home, ".config/fish/completions")); err != nil || len(left) != 0 {
		t.Errorf("fish: %v, %v", left, err)
	}
	if out, code := runInstall(t, "-autocomplete-uninstall", home, ""); code != exitOK ||
		strings.Count(out, "not in") != 2 || !strings.Contains(out, "there is no") {
		t.Errorf("removing again: exit %d, %s", code, out)
	}
}

// TestInstallCompletionWhere checks that a shell that the user does not have, and a file that
// another program wrote, are left alone.
func TestInstallCompletionWhere(t *testing.T) {
	home := t.TempDir()
	if out, code := runInstall(t, "-autocomplete-install", home, "/bin/ksh"); code != exitLocal ||
		!strings.Contains(out, "Hint: create ~/.bashrc") {
		t.Errorf("no shell: exit %d, %s", code, out)
	}
	if out, code := runInstall(t, "--autocomplete-install", home, "/usr/bin/zsh"); code != exitOK ||
		!strings.Contains(read(t, filepath.Join(home, ".zshrc")), "compdef") || strings.Contains(out, "bash") {
		t.Errorf("zsh alone: exit %d, %s", code, out)
	}
	completions := filepath.Join(home, ".config/fish/completions")
	if err := os.MkdirAll(completions, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(completions, "keyturn.fish"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, code := runInstall(t, "-autocomplete-install", home, ""); code != exitLocal ||
		!strings.Contains(out, "was written by another program; remove it first") {
		t.Errorf("a file of others: exit %d, %s", code, out)
	}
	if out, code := runInstall(t, "-autocomplete-uninstall", home, ""); code != exitOK ||
		read(t, filepath.Join(completions, "keyturn.fish")) != "mine" {
		t.Errorf("a file of others: exit %d, %s", code, out)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
