package demo

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"
)

func TestProviderHolds(t *testing.T) {
	p, err := openProvider(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	key, err := p.Create(t.Context(), p.admin, "a label")
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: 10 * time.Second}
	prove := func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/v1/whoami", nil)
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+key.Secret)
		response, err := client.Do(r)
		if err == nil {
			response.Body.Close()
		}
		return err
	}
	arrived := p.hold()
	if err := p.use(t.Context(), client, key.Secret); err != nil {
		t.Errorf("the consumer's call is held up, too: %v", err)
	}
	ctx, cut := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cut()
	}()
	if err := prove(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the server's call: got %v, want it to hang", err)
	}
	if err := prove(t.Context()); err != nil {
		t.Errorf("the call after the one that was held up: %v", err)
	}
	if err := p.use(t.Context(), client, "wrong"); err == nil {
		t.Error("a call with a wrong key succeeded")
	}
}
