package cli

import (
	"bytes"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTLS checks that a certificate of an unknown authority is refused with a hint and accepted
// with -ca-cert or -tls-skip-verify, and that calling an https server by http gives a hint.
func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"data":{"a":"b"}}`)
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.StartTLS()
	t.Cleanup(server.Close)
	authority := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
	if err := os.WriteFile(authority, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := strings.Replace(server.URL, "https:", "http:", 1)
	for _, c := range []struct {
		address, flag string
		code          int
		says          string
	}{
		{server.URL, "-field=a", exitRemote, "-ca-cert or VAULT_CACERT"},
		{server.URL, "-tls-skip-verify", exitOK, ""},
		{server.URL, "-ca-cert=" + authority, exitOK, ""},
		{plain, "-field=a", exitRemote, "the server speaks https"},
	} {
		var stdout, stderr bytes.Buffer
		code := Main(t.Context(), []string{"keyturn", "read", "-address=" + c.address, c.flag, "x"},
			Env{Stdout: &stdout, Stderr: &stderr})
		if code != c.code || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%s %s: exit %d, %s", c.address, c.flag, code, stderr.String())
		}
	}
}
