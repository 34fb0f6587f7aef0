package file

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/audit/audittest"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// readEntries are the two lines of a KV read.
func readEntries() (*audit.Entry, *audit.Entry) {
	mount := audit.Mount{Point: "secret/", Type: "kv", Accessor: "kv_1a2b3c4d", Class: "secret"}
	q := &audit.Entry{
		Kind: audit.KindRequest, Time: time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC),
		Auth: &audit.Auth{
			Token: secret.Text("hvs." + strings.Repeat("t", 90)), Accessor: "9wFz1dYpQ2mRkLx0aBcDeFgH",
			DisplayName: "approle",
			Policies:    []string{"app", "default"}, TokenPolicies: []string{"app", "default"},
			EntityID: "f1c2d3e4-0000-4000-8000-1234567890ab", TokenType: "service", TTL: time.Hour,
			Issued: time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC),
		},
		Decision: &audit.Decision{Allowed: true, Granting: []string{"app"}},
		Request: &audit.Request{
			ID: "0b8f2c6a-1111-4222-8333-444455556666", ClientID: "f1c2d3e4-0000-4000-8000-1234567890ab",
			Operation: "read",
			Path:      "secret/data/app/config", Mount: mount, Remote: netip.MustParseAddrPort("10.1.2.3:45678"),
		},
	}
	data := wire.RawOf([]byte(
		`{"data":{"password":"correct horse battery staple","user":"app"},"metadata":{"created_time":"2026-01-01T00:00:00Z","custom_metadata":null,"deletion_time":"","destroyed":false,"version":3}}`))
	return q, q.Answered(q.Time.Add(time.Millisecond), &audit.Response{Data: audit.Data{V: data}}, "")
}

// BenchmarkWrite is one read's two lines, written together; ns/op with many
// callers is what audit takes of a request.
func BenchmarkWrite(b *testing.B) {
	for _, to := range []string{"file", "discard"} {
		b.Run(to, func(b *testing.B) {
			path := to
			if to == "file" {
				path = filepath.Join(b.TempDir(), "audit.log")
			}
			broker := audit.NewBroker(audit.Options{})
			defer broker.Close()
			spec := audit.Spec{
				Type: Type, Path: "file/", Options: map[string]string{"file_path": path}, Salt: audittest.Salt(),
			}
			if err := broker.Enable(b.Context(), spec); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				q, r := readEntries()
				for pb.Next() {
					if err := broker.Write(b.Context(), q, r); err != nil {
						b.Error(err)
					}
				}
			})
			m := broker.Devices()[0].Metrics
			b.ReportMetric(float64(m.Lines.Load())/float64(m.Writes.Load()), "lines/write")
			b.ReportMetric(float64(m.Bytes.Load())/float64(m.Lines.Load()), "bytes/line")
		})
	}
}

// BenchmarkWriteAlone is the time that one caller waits when nobody else writes.
func BenchmarkWriteAlone(b *testing.B) {
	broker := audit.NewBroker(audit.Options{})
	defer broker.Close()
	spec := audit.Spec{Type: Type, Path: "file/", Options: map[string]string{
		"file_path": filepath.Join(b.TempDir(), "audit.log"),
	}, Salt: audittest.Salt()}
	if err := broker.Enable(b.Context(), spec); err != nil {
		b.Fatal(err)
	}
	q, r := readEntries()
	b.ReportAllocs()
	for b.Loop() {
		if err := broker.Write(b.Context(), q, r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	h := audit.NewHasher(audittest.Salt())
	plain := []byte("correct horse battery staple")
	dst := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		dst = h.AppendString(dst[:0], plain)
	}
}
