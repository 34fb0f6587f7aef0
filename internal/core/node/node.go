// Package node is the part of core that serves the paths below sys/ that concern the server
// itself: data keys, machine and process, HTTP headers, and the raw rows of the store. The package
// sys serves mounts, policies and leases.
//
//	core/key-rotation            when the data key is replaced
//	core/config/cors             origins whose web pages may call the API
//	core/config/ui-headers       headers of answers below /ui
//	core/config/audited-headers  request headers that the audit log records
//
// None of these rows is cached for longer than a second, so every server of a store follows a
// change.
package node

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/wire"
)

// Routes returns the routes, below sys/.
func Routes(c Config) []route.Route {
	var out []route.Route
	for _, part := range [][]route.Route{
		(&keysAPI{c}).routes(), (&serverAPI{c}).routes(), (&rawAPI{c}).routes(), (&headerAPI{c}).routes(),
		(&profileAPI{}).routes(), (&logAPI{c}).routes(),
	} {
		out = append(out, part...)
	}
	return out
}

// serverAPI serves information about the server, its machine and its plugins.
type serverAPI struct{ Config }

func (a *serverAPI) routes() []route.Route {
	return []route.Route{
		route.On(route.Read, "ha-status", a.haStatus).WithHelp("The nodes of the cluster: this one."),
		route.On(route.List, "version-history", a.versionHistory).
			WithHelp("The versions that have served this store, and since when."),
		route.On(route.Read, "host-info", a.hostInfo).WithSudo().WithHelp("The machine: processors, memory, disks."),
		route.On(route.Read, "in-flight-req", a.inFlight).WithSudo().WithHelp("The requests that are being served."),
		route.On(route.Read, "internal/counters/tokens", a.countTokens).
			WithHelp("The number of service tokens. The server reads all of them to count."),
		route.On(route.Read, "internal/counters/activity", a.noActivity).
			WithHelp("Not kept: clients are not counted."),
		route.On(route.Read, "internal/counters/activity/monthly", a.noActivity).
			WithHelp("Not kept: clients are not counted."),
		route.On(route.Read, "internal/counters/config", a.noActivity).WithHelp("Not kept: clients are not counted."),
		route.On(route.Read, "internal/counters/entities", a.noEntities).
			WithHelp("Not implemented: there are no entities yet."),
		route.On(route.Read, "internal/counters/requests", a.noRequests).
			WithHelp("Not kept by month: sys/metrics counts requests."),
		route.On(route.Read, "plugins/catalog", a.catalog).
			WithHelp("The engines, login methods and databases that are built in."),
		route.On(route.List, "plugins/catalog", a.catalog).
			WithHelp("The engines, login methods and databases that are built in."),
		route.On(route.List, "plugins/catalog/{type}", a.catalogOf).
			WithHelp("The names of one type that are built in."),
		route.On(route.Read, "plugins/catalog/{type}/{name}", a.plugin).
			WithHelp("The details of one built-in plugin."),
		route.On(route.Write, "plugins/catalog/{type}/{name}", a.noPlugins).WithSudo().
			WithHelp("Refused: plugins cannot be added."),
		route.On(route.Delete, "plugins/catalog/{type}/{name}", a.noPlugins).WithSudo().
			WithHelp("Refused: what is built in cannot be removed."),
	}
}

type haNode struct {
	Hostname       string     `json:"hostname"`
	APIAddress     string     `json:"api_address"`
	ClusterAddress string     `json:"cluster_address"`
	Active         bool       `json:"active_node"`
	LastEcho       *time.Time `json:"last_echo"`
	EchoMS         int64      `json:"echo_duration_ms"`
	SkewMS         int64      `json:"clock_skew_ms"`
	Version        string     `json:"version"`
}

type haStatusOut struct {
	Nodes []haNode `json:"nodes"`
}

func (a *serverAPI) haStatus(_ context.Context, r *route.Request, _ route.None) (*haStatusOut, error) {
	r.SetShape(route.Merged)
	return &haStatusOut{
		Nodes: []haNode{{Hostname: a.Hostname, APIAddress: a.Address, Active: true, Version: a.Version}},
	}, nil
}

type versionInfo struct {
	BuildDate *string   `json:"build_date"`
	Previous  *string   `json:"previous_version"`
	Installed time.Time `json:"timestamp_installed"`
}

type versionsOut struct {
	Keys []string               `json:"keys"`
	Info map[string]versionInfo `json:"key_info"`
}

func (a *serverAPI) versionHistory(ctx context.Context, r *route.Request, _ route.None) (*versionsOut, error) {
	all, err := a.Versions(ctx)
	if err != nil {
		return nil, err
	}
	out := &versionsOut{Info: map[string]versionInfo{}}
	var previous *string
	for _, v := range all {
		out.Keys = append(out.Keys, v.Version)
		out.Info[v.Version] = versionInfo{Previous: previous, Installed: v.Since}
		previous = &v.Version
	}
	r.SetShape(route.Merged)
	return out, nil
}

func (a *serverAPI) hostInfo(ctx context.Context, _ *route.Request, _ route.None) (*wire.Raw, error) {
	if a.Host == nil {
		return nil, fault.New("node.hostInfo", fault.Unsupported,
			"this server has no information about its machine; use one that `keyturn server` started")
	}
	b, err := a.Host(ctx)
	if err != nil {
		return nil, err
	}
	raw := wire.RawOf(b)
	return &raw, nil
}

type flightOut struct {
	Start    time.Time `json:"start_time"`
	Remote   string    `json:"client_remote_address"`
	Path     string    `json:"request_path"`
	Method   string    `json:"request_method"`
	ClientID string    `json:"client_id"`
}

func (a *serverAPI) inFlight(_ context.Context, r *route.Request, _ route.None) (map[string]flightOut, error) {
	if a.InFlight == nil {
		return nil, fault.New("node.inFlight", fault.Unsupported,
			"this server does not count its requests; use one that `keyturn server` started")
	}
	out := map[string]flightOut{}
	for _, f := range a.InFlight() {
		out[f.ID] = flightOut{Start: f.Start, Remote: f.Remote, Path: f.Path, Method: f.Method}
	}
	r.SetShape(route.Merged)
	return out, nil
}

type countersOut struct {
	Counters struct {
		Service struct {
			Total int64 `json:"total"`
		} `json:"service_tokens"`
	} `json:"counters"`
}

func (a *serverAPI) countTokens(ctx context.Context, _ *route.Request, _ route.None) (*countersOut, error) {
	n, err := a.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	out := &countersOut{}
	out.Counters.Service.Total = n
	return out, nil
}

func (a *serverAPI) noActivity(context.Context, *route.Request, route.None) (route.None, error) {
	return route.None{}, fault.New("node.counters", fault.Unsupported,
		"clients are not counted; read sys/internal/counters/tokens for the number of tokens, and the audit log for "+
			"callers")
}

func (a *serverAPI) noEntities(context.Context, *route.Request, route.None) (route.None, error) {
	return route.None{}, fault.New("node.counters", fault.Unsupported,
		"entities are not implemented yet; there are none to count")
}

func (a *serverAPI) noRequests(context.Context, *route.Request, route.None) (route.None, error) {
	return route.None{}, fault.New("node.counters", fault.Unsupported,
		"requests are not counted by month; read sys/metrics for their number and duration")
}

// pluginOut is one row of the catalog.
type pluginOut struct {
	Name        string   `json:"name"`
	Type        string   `json:"type"`
	Version     string   `json:"version"`
	Builtin     bool     `json:"builtin"`
	Deprecation string   `json:"deprecation_status"`
	Args        []string `json:"args,omitempty"`
	Command     string   `json:"command"`
	SHA256      string   `json:"sha256"`
}

func (p Plugin) out() pluginOut {
	return pluginOut{
		Name: p.Name, Type: p.Type, Version: mounts.BuiltinVersion, Builtin: true, Deprecation: "supported",
	}
}

type pluginNames []string

type catalogOut struct {
	Auth     pluginNames `json:"auth"`
	Database pluginNames `json:"database"`
	Engines  pluginNames `json:"secret"`
	Detailed []pluginOut `json:"detailed"`
}

func (a *serverAPI) catalog(_ context.Context, r *route.Request, _ route.None) (*catalogOut, error) {
	out := &catalogOut{Auth: a.named("auth"), Database: a.named("database"), Engines: a.named("secret")}
	for _, p := range a.Plugins {
		out.Detailed = append(out.Detailed, p.out())
	}
	r.SetShape(route.Merged)
	return out, nil
}

// named returns the names of the plugins of one type.
func (a *serverAPI) named(kind string) []string {
	names := []string{}
	for _, p := range a.Plugins {
		if p.Type == kind {
			names = append(names, p.Name)
		}
	}
	return names
}

type pluginKind struct {
	Type string `path:"type" doc:"The type: auth, database or secret."`
}

type pluginIn struct {
	Type string `path:"type" doc:"The type: auth, database or secret."`
	Name string `path:"name" doc:"Its name, as sys/plugins/catalog lists it."`
}

func (a *serverAPI) catalogOf(_ context.Context, r *route.Request, in pluginKind) (route.Keys, error) {
	switch in.Type {
	case "auth", "database", "secret":
		r.SetShape(route.Merged)
		return route.Keys{Keys: a.named(in.Type)}, nil
	}
	return route.Keys{}, fault.New("node.catalog", fault.Invalid,
		"there is no plugin type %q; use auth, database or secret", in.Type)
}

func (a *serverAPI) plugin(_ context.Context, r *route.Request, in pluginIn) (*pluginOut, error) {
	for _, p := range a.Plugins {
		if p.Type == in.Type && p.Name == in.Name {
			out := p.out()
			r.SetShape(route.Merged)
			return &out, nil
		}
	}
	return nil, nil
}

func (a *serverAPI) noPlugins(_ context.Context, _ *route.Request, in pluginIn) (route.None, error) {
	return route.None{}, fault.New("node.catalog", fault.Unsupported,
		"plugins are built into the program and cannot be added, replaced or removed; mount %q if "+
			"sys/plugins/catalog lists it",
		in.Name)
}
