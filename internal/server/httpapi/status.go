package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// A page answers one path that works while the server is sealed, and without a
// token.
type page func(h *Handler, ctx context.Context, x *call) (*core.Answer, error)

// statusPages are all such paths. Their form is canonical, as every path's.
var statusPages = map[route.Path]page{
	"sys/health":      (*Handler).health,
	"sys/seal-status": (*Handler).sealStatus,
	"sys/leader":      (*Handler).leader,

	"sys/seal-backend-status": (*Handler).sealBackends,
	"sys/init":                (*Handler).initialize,
	"sys/unseal":              (*Handler).unseal,
}

func unsupported(r *route.Request) error {
	return fault.New("httpapi", fault.Unsupported,
		"the operation %q is not supported on this path; the API reference lists those that are", r.Op)
}

func show(v any) (*core.Answer, error) {
	return &core.Answer{Status: http.StatusOK, Body: wire.Append(nil, v)}, nil
}

// health is the body of sys/health.
type health struct {
	Initialized                bool   `json:"initialized"`
	Sealed                     bool   `json:"sealed"`
	Standby                    bool   `json:"standby"`
	PerformanceStandby         bool   `json:"performance_standby"`
	ReplicationPerformanceMode string `json:"replication_performance_mode"`
	ReplicationDRMode          string `json:"replication_dr_mode"`
	ServerTimeUTC              int64  `json:"server_time_utc"`
	Version                    string `json:"version"`
	KeyturnVersion             string `json:"keyturn_version"`
	Enterprise                 bool   `json:"enterprise"`
	ClusterName                string `json:"cluster_name,omitempty"`
	ClusterID                  string `json:"cluster_id,omitempty"`
	EchoDurationMS             int64  `json:"echo_duration_ms"`
	ClockSkewMS                int64  `json:"clock_skew_ms"`
}

// health answers with a status for load balancers, which query parameters can change. Those for
// standbys (standbyok, standbycode …) are accepted without effect, because there is no standby.
func (h *Handler) health(ctx context.Context, x *call) (*core.Answer, error) {
	r := &x.request
	if r.Op != route.Read {
		return nil, unsupported(r)
	}
	now, err := h.cfg.Backend.Health(ctx)
	if err != nil {
		return nil, err
	}
	codes := map[string]int{"activecode": 200, "sealedcode": 503, "uninitcode": 501}
	for name := range codes {
		text := r.Query.Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 200 || n > 599 {
			return nil, invalid("query parameter %q: want a status between 200 and 599", name)
		}
		codes[name] = n
	}
	status := codes["activecode"]
	switch {
	case !now.Initialized:
		status = codes["uninitcode"]
	case now.Sealed:
		status = codes["sealedcode"]
	}
	a, err := show(health{
		Initialized: now.Initialized, Sealed: now.Sealed,
		ReplicationPerformanceMode: "disabled", ReplicationDRMode: "disabled",
		ServerTimeUTC: now.Now.Unix(), Version: x.version(APIVersion), KeyturnVersion: x.version(h.cfg.Version),
		ClusterName: x.clusterName(now.ClusterName, now.ClusterID), ClusterID: now.ClusterID,
	})
	a.Status = status
	return a, err
}

// version is text, unless the listener keeps versions to itself.
func (x *call) version(text string) string {
	if x.settings.Redact.Version {
		return ""
	}
	return text
}

// clusterName is the configured name, or one that stays as long as the
// installation does: clients show it. It is empty where the listener keeps it to itself.
func (x *call) clusterName(name, id string) string {
	if x.settings.Redact.ClusterName {
		return ""
	}
	if name == "" && len(id) >= 8 {
		return "keyturn-" + id[:8]
	}
	return name
}

func (h *Handler) sealStatus(ctx context.Context, x *call) (*core.Answer, error) {
	r := &x.request
	if r.Op != route.Read {
		return nil, unsupported(r)
	}
	s, err := h.cfg.Backend.SealStatus(ctx)
	return h.showSeal(x, s, err)
}

// sealStatus is the body of sys/seal-status, and the answer to sys/unseal.
type sealStatus struct {
	Type           string `json:"type"`
	Initialized    bool   `json:"initialized"`
	Sealed         bool   `json:"sealed"`
	Threshold      int    `json:"t"`
	Shares         int    `json:"n"`
	Progress       int    `json:"progress"`
	Nonce          string `json:"nonce"`
	Version        string `json:"version"`
	KeyturnVersion string `json:"keyturn_version"`
	BuildDate      string `json:"build_date"`
	Migration      bool   `json:"migration"`
	ClusterName    string `json:"cluster_name,omitempty"`
	ClusterID      string `json:"cluster_id,omitempty"`
	RecoverySeal   bool   `json:"recovery_seal"`
	StorageType    string `json:"storage_type,omitempty"`
}

func (h *Handler) showSeal(x *call, s core.SealStatus, err error) (*core.Answer, error) {
	if err != nil {
		return nil, err
	}
	return show(sealStatus{
		Type: s.Type, Initialized: s.Initialized, Sealed: s.Sealed, Threshold: s.Threshold, Shares: s.Shares,
		Progress: s.Progress, Nonce: s.Nonce, Version: x.version(APIVersion), KeyturnVersion: x.version(h.cfg.Version),
		ClusterName: x.clusterName(s.ClusterName, s.ClusterID), ClusterID: s.ClusterID, RecoverySeal: s.AutoUnseals,
		StorageType: s.StorageName,
	})
}

// sealBackends is the body of sys/seal-backend-status.
type sealBackends struct {
	Healthy      bool          `json:"healthy"`
	Backends     []sealBackend `json:"backends"`
	FullyWrapped bool          `json:"fully_wrapped"`
}

type sealBackend struct {
	Name    string `json:"name"`
	Healthy bool   `json:"healthy"`
}

// sealBackends reports whether the seal can be reached. No existing seal calls another service, so
// a seal whose record can be read is healthy.
func (h *Handler) sealBackends(ctx context.Context, x *call) (*core.Answer, error) {
	if x.request.Op != route.Read {
		return nil, unsupported(&x.request)
	}
	s, err := h.cfg.Backend.SealStatus(ctx)
	if err != nil {
		return nil, err
	}
	return show(sealBackends{
		Healthy: true, Backends: []sealBackend{{Name: s.Type, Healthy: true}}, FullyWrapped: true,
	})
}

// leader is the body of sys/leader.
type leader struct {
	HAEnabled            bool   `json:"ha_enabled"`
	IsSelf               bool   `json:"is_self"`
	ActiveTime           string `json:"active_time"`
	LeaderAddress        string `json:"leader_address"`
	LeaderClusterAddress string `json:"leader_cluster_address"`
	PerformanceStandby   bool   `json:"performance_standby"`
	LastRemoteWAL        int    `json:"performance_standby_last_remote_wal"`
}

// leader says that there is none, because one server is not a cluster.
func (h *Handler) leader(_ context.Context, x *call) (*core.Answer, error) {
	r := &x.request
	if r.Op != route.Read {
		return nil, unsupported(r)
	}
	return show(leader{ActiveTime: "0001-01-01T00:00:00Z"})
}

// initRequest is the body of sys/init.
type initRequest struct {
	SecretShares    int `json:"secret_shares" doc:"The number of shares of the unseal key."`
	SecretThreshold int `json:"secret_threshold" doc:"The number of shares that are needed to unseal."`
	// says nothing here
	StoredShares      int      `json:"stored_shares" doc:"Accepted without effect: clients send it."`
	RecoveryShares    int      `json:"recovery_shares" doc:"For a server that unseals itself: accepted without effect."`
	RecoveryThreshold int      `json:"recovery_threshold" doc:"For a server that unseals itself: accepted without effect."`
	PGPKeys           []string `json:"pgp_keys" doc:"Not implemented yet; refused."`
	RecoveryPGPKeys   []string `json:"recovery_pgp_keys" doc:"Not implemented yet; refused."`
	RootTokenPGPKey   string   `json:"root_token_pgp_key" doc:"Not implemented yet; refused."`
}

// initState is the answer to reading sys/init.
type initState struct {
	Initialized bool `json:"initialized"`
}

// initAnswer is what sys/init shows once.
type initAnswer struct {
	Keys       []secret.Value `json:"keys"`
	KeysBase64 []secret.Value `json:"keys_base64"`
	RootToken  secret.Value   `json:"root_token"`
}

func (h *Handler) initialize(ctx context.Context, x *call) (*core.Answer, error) {
	r := &x.request
	if r.Op == route.Read {
		is, err := h.cfg.Backend.Initialized(ctx)
		if err != nil {
			return nil, err
		}
		return show(initState{is})
	}
	if r.Op != route.Write {
		return nil, unsupported(r)
	}
	var in initRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	if len(in.PGPKeys) > 0 || len(in.RecoveryPGPKeys) > 0 || in.RootTokenPGPKey != "" {
		return nil,
			invalid(
				"pgp_keys, recovery_pgp_keys, root_token_pgp_key: encrypting to PGP keys is not built into this " +
					"version; leave them out")
	}
	status, err := h.cfg.Backend.SealStatus(ctx)
	if err != nil {
		return nil, err
	}
	// Clients request five shares for every seal. A seal without shares has no recovery shares
	// either, because recovery is not implemented.
	split := seal.Split{Shares: in.SecretShares, Threshold: in.SecretThreshold}
	if status.AutoUnseals {
		split = seal.Split{}
	}
	res, err := h.cfg.Backend.Init(ctx, core.InitRequest{Split: split})
	if err != nil {
		return nil, err
	}
	out := initAnswer{Keys: []secret.Value{}, KeysBase64: []secret.Value{}, RootToken: res.RootToken}
	for _, share := range res.Shares {
		out.Keys = append(out.Keys, seal.Hex(share))
		out.KeysBase64 = append(out.KeysBase64, seal.Base64(share))
	}
	return show(out)
}

// decode fills in from the body of a page, which has no answer for warnings:
// an unknown field is an error.
func decode(r *route.Request, in any) error {
	if len(r.Body) == 0 {
		return nil
	}
	unknown, err := wire.Decode(r.Body, in)
	if err != nil {
		return err
	}
	if len(unknown) > 0 {
		return invalid("unknown parameter %q; leave it out", unknown[0])
	}
	return nil
}

// unsealRequest is the body of sys/unseal.
type unsealRequest struct {
	Key     secret.Value `json:"key" doc:"One share of the unseal key."`
	Reset   bool         `json:"reset" default:"false" doc:"Whether to discard the shares that were given so far."`
	Migrate bool         `json:"migrate" doc:"Not implemented yet; refused."`
}

func (h *Handler) unseal(ctx context.Context, x *call) (*core.Answer, error) {
	r := &x.request
	if r.Op != route.Write {
		return nil, unsupported(r)
	}
	var in unsealRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	if in.Migrate {
		return nil, invalid("migrate: changing the seal is not built into this version; leave it out")
	}
	if in.Key.Empty() && !in.Reset {
		return nil, invalid("key: give one unseal key, or reset=true")
	}
	s, err := h.cfg.Backend.Unseal(ctx, in.Key, in.Reset)
	return h.showSeal(x, s, err)
}

// metrics answers without a token where the listener allows it.
func (h *Handler) metrics(ctx context.Context, r *route.Request) (*core.Answer, error) {
	body, kind, err := h.cfg.Backend.Metrics(ctx, r.Query.Get("format"), r.Accept)
	if err != nil {
		return nil, err
	}
	return &core.Answer{Status: http.StatusOK, Body: body, ContentType: kind}, nil
}
