package postgres

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/hostfile"
	"github.com/keyturn/keyturn/internal/secret"
)

// parameters are those of libpq, JDBC and pgx.
var parameters = strings.Fields(`
	application_name channel_binding client_encoding connect_timeout dbname fallback_application_name gssdelegation gssencmode gsslib host hostaddr keepalives
	keepalives_idle krbsrvname krbspn load_balance_hosts max_protocol_version min_protocol_version oauth_client_id oauth_issuer options passfile password replication
	require_auth requirepeer requiressl scram_client_key service servicefile ssl ssl_max_protocol_version ssl_min_protocol_version sslcert sslcertmode sslcompression
	sslcrl sslcrldir sslinline sslkey sslkeylogfile sslmode sslnegotiation sslpassword sslrootcert sslsni target_session_attrs tcp_user_timeout user
	jaasApplicationName kerberosServerName localSocketAddress loggerFile loggerLevel socketFactory socketFactoryArg sslfactory sslfactoryarg sslpasswordcallback
	default_query_exec_mode statement_cache_capacity pool_max_conns pool_max_conn_lifetime search_path`)

// TestNoParameterReadsAFile gives a path to each parameter, and checks that the answer is the same
// for an existing file, a missing file, a device that never ends, and a folder.
func TestNoParameterReadsAFile(t *testing.T) {
	cert, _ := selfSigned(t, "h")
	existing := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(existing, []byte(cert), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range parameters {
		answers := map[string]bool{}
		for _, path := range []string{existing, existing + ".absent", "/dev/zero", "/proc/self/pagemap",
			filepath.Dir(existing)} {
			for form, url := range map[string]string{"url": "postgresql://u:p@h/db?sslmode=verify-full&" + name + "=" +
				path, "pairs": "host=h user=u password=p sslmode=verify-full " + name + "='" + path + "'"} {
				c := database.Config{URL: secret.Text(url)}
				text := fmt.Sprint(form, Provider.Check(c), display(c.URL))
				answers[strings.ReplaceAll(text, path, "PATH")] = true
			}
		}
		if len(answers) > 2 {
			t.Errorf("%s gives different answers: %v", name, answers)
		}
	}
}

// TestRefusedFiles checks that the path of a certificate or key is refused unless the operator has
// listed its folder.
func TestRefusedFiles(t *testing.T) {
	cert, key := selfSigned(t, "h")
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca, crt, pem := file("ca.pem", cert), file("client.crt", cert), file("client.key", key)
	paths := "host=h user=u sslmode=verify-full sslrootcert=" + ca + " sslcert=" + crt + " sslkey=" + pem
	err := Provider.Check(database.Config{URL: secret.Text(paths)})
	for _, want := range []string{"sslrootcert", "sslcert", "sslkey", "tls_ca", "tls_certificate", "private_key",
		"connection_folders"} {
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), want) {
			t.Errorf("paths: %v, want a refusal that names %s", err, want)
		}
	}
	for _, refused := range []string{"sslcrl", "sslcrldir", "passfile", "service", "servicefile", "sslkeylogfile",
		"requirepeer"} {
		if err := Provider.Check(database.Config{URL: secret.Text("postgresql://u@h/d?" + refused + "=" + ca),
			Files: hostfile.Folders{dir}}); !fault.Is(err, fault.Invalid) ||
			!strings.Contains(fault.Message(err), refused) {
			t.Errorf("%s: %v, want a refusal", refused, err)
		}
	}
	inline := "host=h user=u sslmode=verify-full sslinline=true sslrootcert='" + cert + "' sslcert='" + cert +
		"' sslkey='" + key + "'"
	for name, c := range map[string]database.Config{
		"a listed folder": {URL: secret.Text(paths), Files: hostfile.Folders{dir}},
		"text in the URL": {URL: secret.Text(inline)},
	} {
		p, err := prepare(c)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := p.pool.ConnConfig.TLSConfig
		if got == nil || got.RootCAs == nil || len(got.Certificates) != 1 {
			t.Errorf("%s: %+v, want the authority and the pair", name, got)
			continue
		}
		if err := handshake(t, got, cert, key, "h"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if shown := display(c.URL); strings.Contains(shown, strings.Split(key, "\n")[1]) {
			t.Errorf("%s: the key is displayed", name)
		}
	}
	if _, err := prepare(
		database.Config{URL: secret.Text("postgresql://u@h?sslmode=verify-full&sslrootcert=system")}); err != nil {
		t.Errorf("the system's authorities: %v", err)
	}
}

// TestNothingComesFromTheHomeFolder creates the files that libpq reads, and checks that none is
// used.
func TestNothingComesFromTheHomeFolder(t *testing.T) {
	cert, key := selfSigned(t, "h")
	home := t.TempDir()
	t.Setenv("HOME", home)
	if err := os.Mkdir(filepath.Join(home, ".postgresql"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{".pgpass": "*:*:*:*:stolen", ".postgresql/root.crt": cert,
		".postgresql/postgresql.crt": cert, ".postgresql/postgresql.key": key} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := prepare(database.Config{URL: secret.Text("postgresql://u@h/d?sslmode=require")})
	if err != nil {
		t.Fatal(err)
	}
	if c := p.pool.ConnConfig; c.Password != "" || c.TLSConfig.RootCAs != nil || len(c.TLSConfig.Certificates) > 0 {
		t.Errorf("password %q, authorities %v and %d certificates come from the home folder", c.Password,
			c.TLSConfig.RootCAs, len(c.TLSConfig.Certificates))
	}
}
