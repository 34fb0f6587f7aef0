package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/hostfile"
)

// A shellSetup installs the completion in one shell.
type shellSetup struct {
	shell string
	file  string // the startup file of the shell
	whole bool   // the whole file is ours; otherwise the text is a block between marks
	text  string // the content of the block or file
}

// blockMarks are the lines around the block in a user's file.
func blockMarks(name string) (begin, end string) {
	return "# " + name + " completion: begin", "# " + name + " completion: end"
}

// shellSetups returns the setups of the shells that the user has: those that have a startup file,
// and the login shell.
func shellSetups(name, binary, home string, getenv func(string) string) []shellSetup {
	bin := quoted(binary)
	bash := filepath.Join(home, ".bashrc")
	if runtime.GOOS == "darwin" { // terminals there start login shells
		bash = filepath.Join(home, ".bash_profile")
	}
	zshHome := getenv("ZDOTDIR")
	if zshHome == "" {
		zshHome = home
	}
	config := getenv("XDG_CONFIG_HOME")
	if config == "" {
		config = filepath.Join(home, ".config")
	}
	all := []shellSetup{
		{shell: "bash", file: bash,
			text: fmt.Sprintf("complete -o nospace -C \"%s=bash %s\" %s\n", completeIn, escapedTwice(bin), name)},
		{shell: "zsh", file: filepath.Join(zshHome, ".zshrc"),
			text: strings.NewReplacer("@NAME@", name, "@BINARY@", bin, "@IN@", completeIn).Replace(zshCompletion)},
		{shell: "fish", file: filepath.Join(config, "fish", "completions", name+".fish"), whole: true,
			text: strings.NewReplacer("@NAME@", name, "@BINARY@", bin, "@IN@", completeIn).Replace(fishCompletion)},
	}
	return slices.DeleteFunc(all, func(s shellSetup) bool {
		used := s.file
		if s.whole {
			used = filepath.Join(config, "fish")
		}
		_, err := os.Stat(used)
		return err != nil && filepath.Base(getenv("SHELL")) != s.shell
	})
}

// escapedTwice escapes a quoted word for use inside double quotes.
func escapedTwice(word string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(word)
}

// zshCompletion reads one candidate from each line that the program prints: the word, a tab, and a
// space if the word is whole.
const zshCompletion = `(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
_@NAME@_completion() {
  local line; local -a whole open
  for line in "${(@f)$(@IN@=zsh COMP_LINE="${(j: :)words[1,CURRENT-1]} $QIPREFIX$IPREFIX$PREFIX" @BINARY@ 2>/dev/null)}"; do
    case $line in
      (*$'\t'' ') whole+=("${line%$'\t'*}") ;;
      (*$'\t') open+=("${line%$'\t'*}") ;;
    esac
  done
  local ret=1
  (( $#open )) && compadd -S '' -- $open && ret=0
  (( $#whole )) && compadd -- $whole && ret=0
  return ret
}
compdef _@NAME@_completion @NAME@
`

const fishCompletion = `# @NAME@ completion; written by @NAME@ -autocomplete-install
function __complete_@NAME@
    set -lx @IN@ fish
    set -lx COMP_LINE (commandline -cp)
    @BINARY@ 2>/dev/null
end
complete -f -c @NAME@ -a '(__complete_@NAME@)'
`

// vaultLines matches the lines that Vault's command line installs for a program of the same name.
func vaultLines(name string) *regexp.Regexp {
	return regexp.MustCompile(`(?m)^complete (-o nospace )?-C \S+ ` + regexp.QuoteMeta(name) + `\n`)
}

// installCompletion is -autocomplete-install and, with remove, -autocomplete-uninstall.
func installCompletion(s *session, remove bool) error {
	home, err := os.UserHomeDir()
	if err != nil {
		return local(err, "finding the home folder")
	}
	binary, err := os.Executable()
	if err != nil {
		return local(err, "finding this program's file")
	}
	s.out.format = "table"
	all := shellSetups(s.name, binary, home, s.env.Getenv)
	if len(all) == 0 {
		return hinted(refuse(exitLocal, "Error: there is no shell to set up"),
			"create ~/.bashrc, ~/.zshrc or ~/.config/fish, or set SHELL to bash, zsh or fish, and run this again.")
	}
	for _, setup := range all {
		did, err := setup.update(s.name, remove)
		if err != nil {
			return local(err, "setting up %s", setup.shell)
		}
		if err := s.out.say("%s: %s %s", setup.shell, did, setup.file); err != nil {
			return err
		}
	}
	if remove {
		return nil
	}
	return s.out.say("Start a new shell to use it.")
}

// update writes or removes the setup, and returns what it did.
func (s shellSetup) update(name string, remove bool) (string, error) {
	before, err := hostfile.ReadNamed(s.file, maxInput)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if s.whole {
		return s.updateWhole(string(before), err == nil, remove)
	}
	after := vaultLines(name).ReplaceAllString(string(before), "")
	begin, end := blockMarks(name)
	after = regexp.MustCompile(`(?ms)^`+regexp.QuoteMeta(begin)+`$.*?^`+regexp.QuoteMeta(end)+
		`\n?`).ReplaceAllString(after, "")
	did := "removed it from"
	if !remove {
		if after != "" && !strings.HasSuffix(after, "\n") {
			after += "\n"
		}
		after += begin + "\n" + s.text + end + "\n"
		did = "added it to"
	}
	if after == string(before) {
		return map[bool]string{true: "it is not in", false: "it is already in"}[remove], nil
	}
	return did, replaceFile(s.file, after)
}

func (s shellSetup) updateWhole(before string, exists, remove bool) (string, error) {
	switch {
	case remove && !exists:
		return "there is no", nil
	case remove && !strings.Contains(before, "__complete_"):
		return "kept, because another program wrote it:", nil
	case remove:
		return "removed", os.Remove(s.file)
	case before == s.text:
		return "it is already in", nil
	case exists && !strings.Contains(before, "__complete_"):
		return "", fmt.Errorf("%s was written by another program; remove it first", s.file)
	}
	return "wrote", replaceFile(s.file, s.text)
}

// replaceFile replaces a file of the user in one step. It follows a link and keeps the
// permissions.
func replaceFile(path, text string) error {
	mode := fs.FileMode(0o644)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
		if info, err := os.Stat(path); err == nil {
			mode = info.Mode().Perm()
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Chmod(mode), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
