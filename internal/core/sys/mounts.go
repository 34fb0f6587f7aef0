package sys

import (
	"context"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/mount"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

func mountRoutes(cfg Config) []route.Route {
	var out []route.Route
	for _, class := range []string{mount.ClassSecret, mount.ClassAuth} {
		base := map[string]string{mount.ClassSecret: "mounts", mount.ClassAuth: "auth"}[class]
		c := mountAPI{cfg, class}
		out = append(out, route.On(route.Read, base, c.list).WithHelp("List what is mounted."))
		one := []route.Route{
			route.On(route.Read, base+"/{path...}", c.read).WithHelp("Read a mount, or with /tune its settings."),
			route.On(route.Write, base+"/{path...}", c.write).
				WithHelp("Mount an engine, or with /tune change its settings."),
			route.On(route.Delete, base+"/{path...}", c.disable).WithHelp("Disable a mount and revoke its leases."),
		}
		for _, r := range one {
			// As in Vault, because enabling a login method lets the caller become anybody.
			r.Sudo = class == mount.ClassAuth
			out = append(out, r)
		}
	}
	a := &moveAPI{cfg}
	return append(out,
		route.On(route.Write, "remount", a.remount).WithSudo().WithHelp("Move a mount to another path."),
		route.On(route.Read, "remount/status/{id}", a.remountStatus).WithHelp("The state of a move."),
	)
}

// mountAPI serves sys/mounts or sys/auth.
type mountAPI struct {
	Config
	class string
}

// configOut is the "config" of a mount.
type configOut struct {
	DefaultTTL         time.Duration `json:"default_lease_ttl"`
	MaxTTL             time.Duration `json:"max_lease_ttl"`
	ForceNoCache       bool          `json:"force_no_cache"`
	AuditRequestKeys   []string      `json:"audit_non_hmac_request_keys,omitempty"`
	AuditResponseKeys  []string      `json:"audit_non_hmac_response_keys,omitempty"`
	ListingVisibility  string        `json:"listing_visibility,omitempty"`
	PassthroughHeaders []string      `json:"passthrough_request_headers,omitempty"`
	ResponseHeaders    []string      `json:"allowed_response_headers,omitempty"`
	TokenType          string        `json:"token_type,omitempty"`
}

// mountOut is one mount in answers. It contains no secret.
type mountOut struct {
	Accessor              string            `json:"accessor"`
	Config                configOut         `json:"config"`
	DeprecationStatus     string            `json:"deprecation_status"`
	Description           string            `json:"description"`
	ExternalEntropyAccess bool              `json:"external_entropy_access"`
	Local                 bool              `json:"local"`
	Options               map[string]string `json:"options"`
	Path                  string            `json:"path,omitempty"`
	PluginVersion         string            `json:"plugin_version"`
	RunningPluginVersion  string            `json:"running_plugin_version"`
	RunningSHA256         string            `json:"running_sha256"`
	SealWrap              bool              `json:"seal_wrap"`
	Type                  string            `json:"type"`
	UUID                  string            `json:"uuid"`
}

func outOf(e *mount.Entry) mountOut {
	t := e.Tune
	c := configOut{
		DefaultTTL: t.DefaultTTL, MaxTTL: t.MaxTTL, ForceNoCache: t.ForceNoCache,
		AuditRequestKeys:  t.AuditClearRequest,
		AuditResponseKeys: t.AuditClearResponse, ListingVisibility: t.ListingVisibility,
		PassthroughHeaders: t.PassthroughHeaders, ResponseHeaders: t.AllowedResponseHeaders, TokenType: t.TokenType,
	}
	if e.Class == mount.ClassAuth && c.TokenType == "" {
		c.TokenType = "default-service"
	}
	return mountOut{
		Accessor: e.Accessor, Config: c, DeprecationStatus: "supported", Description: e.Description, Local: e.Local,
		Options: e.Options, RunningPluginVersion: mounts.BuiltinVersion, SealWrap: e.SealWrap, Type: e.Type,
		UUID: e.UUID,
	}
}

func (c mountAPI) list(_ context.Context, r *route.Request, _ route.None) (map[string]mountOut, error) {
	r.SetShape(route.Merged)
	return c.matching(func(*mount.Entry) bool { return true }), nil
}

func (c mountAPI) matching(keep func(*mount.Entry) bool) map[string]mountOut {
	out := map[string]mountOut{}
	for _, e := range c.Mounts.Snapshot().Table.Live(c.class) {
		if keep(e) {
			out[strings.TrimPrefix(e.Path, authPrefix(c.class))] = outOf(e)
		}
	}
	return out
}

// classPath is the full path of a mount that a route below sys/mounts or sys/auth names.
func classPath(class, path string) string { return authPrefix(class) + path + "/" }

func authPrefix(class string) string {
	if class == mount.ClassAuth {
		return "auth/"
	}
	return ""
}

type mountPath struct {
	Path string `path:"path" doc:"The mount's path, or the path followed by /tune for its settings."`
}

func (c mountAPI) read(_ context.Context, r *route.Request, in mountPath) (any, error) {
	r.SetShape(route.Merged)
	path, tune := strings.CutSuffix(in.Path, "/tune")
	e := c.Mounts.Snapshot().Table.At(classPath(c.class, path))
	if e == nil {
		if c.class == mount.ClassAuth { // both texts are Vault's, because clients match them
			return nil, fault.New("sys.read", fault.Invalid,
				"nothing is mounted there: No auth engine at %s/; list sys/auth", path)
		}
		return nil, fault.New("sys.read", fault.Invalid,
			"nothing is mounted there: No secret engine mount at %s/; list sys/mounts", path)
	}
	if tune {
		return c.readTune(e), nil
	}
	return outOf(e), nil
}

// tuneOut is the effective settings of a mount.
type tuneOut struct {
	configOut
	Description string            `json:"description"`
	Options     map[string]string `json:"options,omitempty"`
}

func (c mountAPI) readTune(e *mount.Entry) tuneOut {
	out := tuneOut{configOut: outOf(e).Config, Description: e.Description, Options: e.Options}
	if o := c.Mounts.Snapshot().ByUUID(e.UUID); o != nil {
		out.DefaultTTL, out.MaxTTL = o.DefaultTTL(), o.MaxTTL()
	}
	return out
}

// tuneIn is the settings of a mount in requests.
type tuneIn struct {
	DefaultTTL         *wire.TTL          `json:"default_lease_ttl" default:"the server's" doc:"The TTL of leases and tokens whose request and role have none."`
	MaxTTL             *wire.TTL          `json:"max_lease_ttl" default:"the server's" doc:"The longest TTL of leases and tokens."`
	ForceNoCache       *bool              `json:"force_no_cache" doc:"Accepted without effect: there is no such cache."`
	Description        *string            `json:"description" doc:"A description, shown in the list of mounts."`
	AuditRequestKeys   *[]string          `json:"audit_non_hmac_request_keys" doc:"Fields of requests that the audit log shows as they are."`
	AuditResponseKeys  *[]string          `json:"audit_non_hmac_response_keys" doc:"Fields of answers that the audit log shows as they are."`
	ListingVisibility  *string            `json:"listing_visibility" default:"hidden" doc:"Whether those without a token see the mount: unauth or hidden."`
	PassthroughHeaders *[]string          `json:"passthrough_request_headers" doc:"Stored without effect: no engine reads headers yet."`
	ResponseHeaders    *[]string          `json:"allowed_response_headers" doc:"Stored without effect: no engine sets headers yet."`
	TokenType          *string            `json:"token_type" doc:"Stored without effect until there are login methods besides token."`
	Options            map[string]*string `json:"options" doc:"The engine's options; kv has version, 1 or 2."`
	PluginVersion      *string            `json:"plugin_version" doc:"Accepted without effect: engines are built in."`
	PluginName         *string            `json:"plugin_name" doc:"Accepted without effect: type says which engine."`
}

type enableIn struct {
	Path        string             `path:"path" doc:"Where to mount. Followed by /tune, the path names the mount whose settings are changed."`
	Type        string             `json:"type" means:"generic=kv,kv-v1=kv,kv-v2=kv" doc:"The kind of engine or login method: such as kv, database or rotation."`
	Local       bool               `json:"local" doc:"Accepted without effect: there is no replication."`
	SealWrap    bool               `json:"seal_wrap" doc:"Accepted without effect: everything that is stored is encrypted once."`
	External    bool               `json:"external_entropy_access" doc:"Accepted without effect: random numbers come from the system."`
	Config      tuneIn             `json:"config" doc:"An object of settings: default_lease_ttl, max_lease_ttl, listing_visibility and the others of tuning."`
	ReqOptions  map[string]*string `json:"options" doc:"The engine's options; kv has version, 1 or 2."`
	Descr       *string            `json:"description" doc:"A description, shown in the list of mounts."`
	NameOfKind  *string            `json:"plugin_name" also:"type" means:"generic=kv,kv-v1=kv,kv-v2=kv" doc:"The kind of engine if type is plugin, which old clients send."`
	VersionOf   *string            `json:"plugin_version" doc:"Accepted without effect: engines are built in."`
	DefaultTTL  *wire.TTL          `json:"default_lease_ttl" default:"the server's" doc:"For tuning: the TTL of leases and tokens whose request and role have none."`
	MaxTTL      *wire.TTL          `json:"max_lease_ttl" default:"the server's" doc:"For tuning: the longest TTL of leases and tokens."`
	Force       *bool              `json:"force_no_cache" doc:"Accepted without effect: there is no such cache."`
	ReqKeys     *[]string          `json:"audit_non_hmac_request_keys" doc:"For tuning: fields of requests that the audit log shows as they are."`
	RespKeys    *[]string          `json:"audit_non_hmac_response_keys" doc:"For tuning: fields of answers that the audit log shows as they are."`
	Visibility  *string            `json:"listing_visibility" default:"hidden" doc:"For tuning: whether those without a token see the mount: unauth or hidden."`
	PassHeaders *[]string          `json:"passthrough_request_headers" doc:"Stored without effect: no engine reads headers yet."`
	RespHeaders *[]string          `json:"allowed_response_headers" doc:"Stored without effect: no engine sets headers yet."`
	TokenType   *string            `json:"token_type" doc:"Stored without effect until there are login methods besides token."`
}

// tune is the part of the request that sys/mounts/<path>/tune accepts, too.
func (in *enableIn) tune() tuneIn {
	return tuneIn{
		DefaultTTL: in.DefaultTTL, MaxTTL: in.MaxTTL, ForceNoCache: in.Force, Description: in.Descr,
		AuditRequestKeys: in.ReqKeys, AuditResponseKeys: in.RespKeys, ListingVisibility: in.Visibility,
		PassthroughHeaders: in.PassHeaders, ResponseHeaders: in.RespHeaders, TokenType: in.TokenType,
		Options: in.ReqOptions,
	}
}

func (c mountAPI) write(ctx context.Context, r *route.Request, in enableIn) (route.None, error) {
	if path, tune := strings.CutSuffix(in.Path, "/tune"); tune {
		return route.None{}, c.tuneMount(ctx, r, classPath(c.class, path), in.tune())
	}
	e := mount.Entry{Class: c.class, Path: in.Path, Type: in.Type, Local: in.Local, SealWrap: in.SealWrap}
	if in.Descr != nil {
		e.Description = *in.Descr
	}
	if e.Type == "plugin" && in.NameOfKind != nil {
		e.Type = *in.NameOfKind
	}
	e.Options = mounts.MergeOptions(nil, in.ReqOptions)
	cfg := in.Config
	cfg.Description = nil
	applyTune(&e, cfg)
	if in.Local || in.SealWrap {
		r.Warn("local and seal_wrap have no effect here: nothing is replicated, and everything is sealed")
	}
	warnings, err := c.Mounts.Enable(ctx, e)
	warn(r, warnings)
	return route.None{}, err
}

func (c mountAPI) tuneMount(ctx context.Context, r *route.Request, path string, in tuneIn) error {
	// sys/mounts/auth/<path>/tune leads to login methods, too.
	if strings.HasPrefix(path, authPrefix(mount.ClassAuth)) && !r.Sudo {
		return fault.New("sys.tune", fault.Denied,
			"permission denied: %q is a login method; tuning it needs the capability sudo on the path", path)
	}
	warnings, err := c.Mounts.Change(ctx, path, in.Options, func(e *mount.Entry) { applyTune(e, in) })
	warn(r, warnings)
	return err
}

func warn(r *route.Request, warnings []string) {
	for _, text := range warnings {
		r.Warn("%s", text)
	}
}

func applyTune(e *mount.Entry, in tuneIn) {
	set(&e.Tune.DefaultTTL, (*time.Duration)(in.DefaultTTL))
	set(&e.Tune.MaxTTL, (*time.Duration)(in.MaxTTL))
	set(&e.Tune.ForceNoCache, in.ForceNoCache)
	set(&e.Description, in.Description)
	set(&e.Tune.AuditClearRequest, in.AuditRequestKeys)
	set(&e.Tune.AuditClearResponse, in.AuditResponseKeys)
	set(&e.Tune.ListingVisibility, in.ListingVisibility)
	set(&e.Tune.PassthroughHeaders, in.PassthroughHeaders)
	set(&e.Tune.AllowedResponseHeaders, in.ResponseHeaders)
	set(&e.Tune.TokenType, in.TokenType)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

type disableIn struct {
	Path  string `path:"path" doc:"The mount's path."`
	Force bool   `json:"force" default:"false" doc:"Disables the mount even while a rotation is in flight, which then never finishes."`
}

func (c mountAPI) disable(ctx context.Context, r *route.Request, in disableIn) (route.None, error) {
	path, job := classPath(c.class, in.Path), ""
	err := c.Mounts.Retire(ctx, path, in.Force, func(e *mount.Entry) ([]storage.Op, error) {
		if e.Class != c.class {
			return nil, fault.New("sys.disable", fault.Invalid, "%q is a login method; disable it at sys/auth", path)
		}
		id, ops, err := c.Jobs.Plan(Job{Kind: "disable", Mount: e.UUID, Prefix: path})
		job = id
		return ops, err
	})
	if err == nil && job != "" {
		(&jobsAPI{c.Config}).warnOfUnrevoked(ctx, r, path, job)
	}
	return route.None{}, err
}

// moveAPI serves sys/remount.
type moveAPI struct{ Config }

type remountIn struct {
	From string `json:"from" doc:"The mount to move."`
	To   string `json:"to" doc:"Its new path."`
}

type remountOut struct {
	ID string `json:"migration_id"`
}

func (a *moveAPI) remount(ctx context.Context, r *route.Request, in remountIn) (*remountOut, error) {
	if in.From == "" || in.To == "" {
		return nil, fault.New("sys.remount", fault.Invalid, "fields \"from\" and \"to\" are both needed")
	}
	clean := func(p string) string { return strings.Trim(p, "/") + "/" }
	id, ops, err := a.Jobs.Plan(Job{Kind: "move", From: clean(in.From), To: clean(in.To)})
	if err != nil {
		return nil, err
	}
	if err := a.Mounts.Move(ctx, clean(in.From), strings.Trim(in.To, "/"), ops...); err != nil {
		return nil, err
	}
	r.SetShape(route.Merged)
	return &remountOut{id}, nil
}

type statusOut struct {
	ID   string       `json:"migration_id"`
	Info remountState `json:"migration_info"`
}

type remountState struct {
	Source string `json:"source_mount"`
	Target string `json:"target_mount"`
	Status string `json:"status"`
}

func (a *moveAPI) remountStatus(ctx context.Context, _ *route.Request, in idIn) (*statusOut, error) {
	j, err := a.Jobs.Status(ctx, in.ID)
	if err != nil || j == nil {
		return nil, err
	}
	return &statusOut{ID: j.ID, Info: remountState{Source: j.From, Target: j.To, Status: j.State}}, nil
}
