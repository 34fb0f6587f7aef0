package cli

import (
	"bytes"
	"strings"
	"testing"
)

// vaultCommands are the commands in the documentation of Vault's Community Edition, each with its
// own flags. vaultFlags are the flags of every command.
const vaultCommands = `
agent
agent generate-config
audit disable
audit enable -description -local -path
audit list -detailed
auth disable
auth enable -allowed-response-headers -audit-non-hmac-request-keys -audit-non-hmac-response-keys -default-lease-ttl -description -identity-token-key -listing-visibility -local -max-lease-ttl -options -passthrough-request-headers -path -plugin-name -plugin-version -seal-wrap -token-type -version -force-no-cache -external-entropy-access -trim-request-trailing-slashes
auth help
auth list -detailed
auth move
auth tune -allowed-response-headers -audit-non-hmac-request-keys -audit-non-hmac-response-keys -default-lease-ttl -description -identity-token-key -listing-visibility -max-lease-ttl -options -passthrough-request-headers -plugin-version -token-type -user-lockout-counter-reset-duration -user-lockout-disable -user-lockout-duration -user-lockout-threshold -version -trim-request-trailing-slashes -override-pinned-version
debug -compress -duration -interval -log-format -metrics-interval -output -target
delete
events subscribe
hcp connect
hcp disconnect
kv delete -mount -versions
kv destroy -mount -versions
kv enable-versioning
kv get -mount -version
kv list -mount -detailed
kv metadata delete -mount
kv metadata get -mount
kv metadata patch -cas-required -custom-metadata -delete-version-after -max-versions -mount -remove-custom-metadata
kv metadata put -cas-required -custom-metadata -delete-version-after -max-versions -mount
kv patch -cas -method -mount -remove-data
kv put -cas -mount
kv rollback -mount -version
kv undelete -mount -versions
lease lookup
lease renew -increment -i
lease revoke -force -f -prefix -sync
list -detailed
login -method -no-print -no-store -path -token-only
monitor -log-format -log-level
namespace create
namespace delete
namespace list
namespace lock
namespace lookup
namespace patch
namespace unlock
operator diagnose -config -debug -skip
operator generate-root -cancel -decode -generate-otp -init -nonce -otp -pgp-key -recovery-token -status
operator import
operator init -consul-auto -consul-service -key-shares -key-threshold -n -pgp-keys -recovery-pgp-keys -recovery-shares -recovery-threshold -root-token-pgp-key -status -stored-shares -t
operator key-status
operator members
operator migrate -config -log-level -max-parallel -reset -start
operator raft autopilot get-config
operator raft autopilot set-config
operator raft autopilot state
operator raft join
operator raft list-peers
operator raft remove-peer
operator raft snapshot inspect
operator raft snapshot restore
operator raft snapshot save
operator rekey -backup -backup-delete -backup-retrieve -cancel -init -key-shares -key-threshold -nonce -pgp-keys -status -target -verify
operator rotate
operator seal
operator step-down
operator unseal -migrate -reset
operator usage -end-time -start-time
operator utilization -message -output -today-only
patch
path-help
pki health-check
pki issue
pki list-intermediates
pki reissue
pki verify-sign
plugin deregister -version
plugin info -version
plugin list -detailed
plugin register -args -command -env -oci_image -runtime -sha256 -version
plugin reload -mounts -plugin -scope
plugin reload-status
plugin runtime deregister
plugin runtime info
plugin runtime list
plugin runtime register
policy delete
policy fmt
policy list
policy read
policy write
print token
proxy
read
secrets disable
secrets enable -allowed-managed-keys -allowed-response-headers -audit-non-hmac-request-keys -audit-non-hmac-response-keys -default-lease-ttl -delegated-auth-accessors -description -external-entropy-access -force-no-cache -identity-token-key -listing-visibility -local -max-lease-ttl -options -passthrough-request-headers -path -plugin-name -plugin-version -seal-wrap -version -trim-request-trailing-slashes
secrets list -detailed
secrets move
secrets tune -allowed-managed-keys -allowed-response-headers -audit-non-hmac-request-keys -audit-non-hmac-response-keys -default-lease-ttl -delegated-auth-accessors -description -identity-token-key -listing-visibility -max-lease-ttl -options -passthrough-request-headers -plugin-version -version -trim-request-trailing-slashes -override-pinned-version
server
ssh
status
token capabilities -accessor
token create -display-name -entity-alias -explicit-max-ttl -id -metadata -no-default-policy -orphan -period -policy -renewable -role -ttl -type -use-limit
token lookup -accessor
token renew -accessor -i -increment
token revoke -accessor -mode -self
transform import
transit import
transit import-version
unwrap
version
version-history
write -f -force
`

// vaultFlags are the flags that the documentation gives to every command.
const vaultFlags = "-address -agent-address -ca-cert -ca-path -client-cert -client-key -disable-redirects -header " +
	"-mfa -namespace -ns -non-interactive -output-curl-string -output-policy -policy-override -tls-server-name " +
	"-tls-skip-verify -unlock-key -wrap-ttl -format"

// TestVaultCommands checks that each command and flag that Vault documents exists, or that its
// error says that it is not supported and what to do instead.
func TestVaultCommands(t *testing.T) {
	for line := range strings.Lines(strings.TrimSpace(vaultCommands)) {
		var words, own []string
		for _, word := range strings.Fields(line) {
			if name, ok := strings.CutPrefix(word, "-"); ok {
				own = append(own, name)
			} else {
				words = append(words, word)
			}
		}
		path, _, err := tree(Env{}).find(words)
		if err != nil {
			expectError(t, words, "is not supported", "\nHint: ")
			continue
		}
		c := path[len(path)-1]
		if c.run == nil || c.hook != nil { // a group, or a command that parses its own flags
			continue
		}
		known := newFlags(c, &session{}).set
		if !c.local {
			for flag := range strings.FieldsSeq(vaultFlags) {
				own = append(own, strings.TrimPrefix(flag, "-"))
			}
		}
		for _, flag := range own {
			if known.Lookup(flag) == nil {
				expectError(t, append(words, "-"+flag+"=x"), "the flag -"+flag+" is not supported", "\nHint: ")
			}
		}
	}
}

// expectError runs a line, which must fail and print the texts that are wanted.
func expectError(t *testing.T, words []string, wants ...string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := Main(t.Context(), append([]string{"vault"}, words...), Env{Stdout: &stdout, Stderr: &stderr})
	for _, want := range wants {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("%q: %s; want %q", words, stderr.String(), want)
		}
	}
	if code != exitLocal {
		t.Errorf("%q: exit %d, want %d", words, code, exitLocal)
	}
}

// TestUnsupportedCommandsDoNotExist checks the tables of unsupported commands and flags.
func TestUnsupportedCommandsDoNotExist(t *testing.T) {
	for line := range unsupportedCommands {
		if path, _, err := tree(Env{}).find(strings.Fields(line)); err == nil {
			t.Errorf("%q is a command: %v", line, lineOf("", path))
		}
	}
	eachCommand(tree(Env{}), "", func(line string, c *command) {
		if c.run == nil {
			return
		}
		known := newFlags(c, &session{}).set
		for name := range unsupportedFlags {
			if known.Lookup(name) != nil {
				t.Errorf("%s has -%s, which is in unsupportedFlags", line, name)
			}
		}
	})
}

// TestFlagsBeforeTheCommand checks that a flag may stand before and between the names of a
// command.
func TestFlagsBeforeTheCommand(t *testing.T) {
	for _, c := range []struct{ line, command, rest string }{
		{"-format=json kv get x", "kv get", "-format=json x"},
		{"-format json kv get x", "kv get", "-format json x"},
		{"--format json kv get x", "kv get", "--format json x"},
		{"kv -mount secret get x", "kv get", "-mount secret x"},
		{"kv -mount=secret -format yaml metadata -tls-skip-verify get -field a x", "kv metadata get",
			"-mount=secret -format yaml -tls-skip-verify -field a x"},
		{"-tls-skip-verify -field a read x", "read", "-tls-skip-verify -field a x"},
		{"-header a=b -policy-override read x", "read", "-header a=b -policy-override x"},
		{"-h kv get", "kv get", "-h"},
		{"kv -h get", "kv get", "-h"},
		{"token -accessor lookup x", "token lookup", "-accessor x"},
		{"-version 1 kv get x", "kv get", "-version 1 x"},
		{"-nonesuch read x", "read", "-nonesuch x"},
	} {
		path, rest, err := tree(Env{}).find(strings.Fields(c.line))
		if err != nil || strings.TrimSpace(lineOf("", path)) != c.command || strings.Join(rest, " ") != c.rest {
			t.Errorf("%q: %q with %q (%v); want %q with %q", c.line, lineOf("", path), rest, err, c.command, c.rest)
		}
	}
	expectError(t, []string{"-format", "xml", "version"}, `unknown output format "xml"`)
	expectError(t, []string{"-nonesuch", "version"}, "flag provided but not defined: -nonesuch")
	expectError(t, []string{"-format"}, "Usage: vault <command>")
}

// TestAtSign checks that @key=value sets the field @key, and reads no file.
func TestAtSign(t *testing.T) {
	data, err := parseData(nil, []string{"@key=value"})
	if err != nil || data["@key"] != "value" {
		t.Errorf("@key=value: %v, %v", data, err)
	}
}
