package node

import (
	"context"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/wire"
)

// logger is the name of the only logger. Vault's first one has the same name.
const logger = "core"

// logAPI serves the log and the configuration of this server.
type logAPI struct{ Config }

func (a *logAPI) routes() []route.Route {
	return []route.Route{
		route.On(route.Read, "config/state/sanitized", a.state).
			WithHelp("The configuration of this server, without values that could be secret."),
		route.On(route.Write, "config/reload/{subsystem}", a.reload).WithHelp(
			"Accepted because Vault reads its licence again here. Nothing is read, because no licence is needed."),
		route.On(route.Read, "loggers", a.read).WithHelp("The levels of the loggers."),
		route.On(route.Write, "loggers", a.write).
			WithHelp("Change the level of the log until the configuration is read again."),
		route.On(route.Delete, "loggers", a.revert).WithHelp("Reset the log level to the configuration's."),
		route.On(route.Read, "loggers/{name}", a.readOne).WithHelp("The level of one logger."),
		route.On(route.Write, "loggers/{name}", a.writeOne).
			WithHelp("Change the level of one logger until the configuration is read again."),
		route.On(route.Delete, "loggers/{name}", a.revertOne).
			WithHelp("Reset the level of one logger to the configuration's."),
		route.On(route.Read, "monitor", a.monitor).WithHelp(
			"The lines of the log from now on, for as long as the client listens. A client that does not keep " +
				"up loses lines."),
	}
}

func (a *logAPI) state(_ context.Context, r *route.Request, _ route.None) (*wire.Raw, error) {
	if a.State == nil {
		return nil, fault.New("node.state", fault.Unsupported,
			"this server has no configuration; use one that `keyturn server` started")
	}
	b, err := a.State()
	if err != nil {
		return nil, err
	}
	r.SetShape(route.Merged)
	raw := wire.RawOf(b)
	return &raw, nil
}

type reloadIn struct {
	Subsystem string `path:"subsystem" doc:"What to read again: license."`
}

func (a *logAPI) reload(_ context.Context, r *route.Request, in reloadIn) (route.None, error) {
	if in.Subsystem != "license" {
		return route.None{}, fault.New("node.reload", fault.Invalid,
			"there is no subsystem %q that can be reloaded; send SIGHUP to the server to have its configuration "+
				"read again",
			in.Subsystem)
	}
	r.Warn("no licence is needed, so none was read; send SIGHUP to the server to have its configuration read again")
	return route.None{}, nil
}

func errNoLog() error {
	return fault.New("node.log", fault.Unsupported,
		"this server does not control its log; use one that `keyturn server` started")
}

// checkLogger refuses an unknown logger.
func (a *logAPI) checkLogger(name string) error {
	if a.Log.Level == nil {
		return errNoLog()
	}
	if name != logger {
		return fault.New("node.log", fault.NotFound, "there is no logger %q; use %q, which is the only one", name,
			logger)
	}
	return nil
}

type loggerIn struct {
	Name string `path:"name" doc:"The logger: core, which is all of the log."`
}

type levelIn struct {
	Level string `json:"level" doc:"The log level: trace, debug, info, warn or error."`
}

type oneLevelIn struct {
	loggerIn
	levelIn
}

func (a *logAPI) read(ctx context.Context, r *route.Request, _ route.None) (map[string]string, error) {
	return a.readOne(ctx, r, loggerIn{logger})
}

func (a *logAPI) readOne(_ context.Context, r *route.Request, in loggerIn) (map[string]string, error) {
	if err := a.checkLogger(in.Name); err != nil {
		return nil, err
	}
	r.SetShape(route.Merged)
	return map[string]string{logger: a.Log.Level()}, nil
}

func (a *logAPI) write(ctx context.Context, r *route.Request, in levelIn) (route.None, error) {
	return a.writeOne(ctx, r, oneLevelIn{loggerIn{logger}, in})
}

func (a *logAPI) writeOne(_ context.Context, _ *route.Request, in oneLevelIn) (route.None, error) {
	if err := a.checkLogger(in.Name); err != nil {
		return route.None{}, err
	}
	if in.Level == "" {
		return route.None{}, fault.New("node.log", fault.Invalid,
			"field \"level\" is required; give trace, debug, info, warn or error")
	}
	if err := a.Log.SetLevel(in.Level); err != nil {
		return route.None{}, fault.New("node.log", fault.Invalid, "field \"level\": %s", err)
	}
	return route.None{}, nil
}

func (a *logAPI) revert(ctx context.Context, r *route.Request, _ route.None) (route.None, error) {
	return a.revertOne(ctx, r, loggerIn{logger})
}

func (a *logAPI) revertOne(_ context.Context, _ *route.Request, in loggerIn) (route.None, error) {
	if err := a.checkLogger(in.Name); err != nil {
		return route.None{}, err
	}
	a.Log.Revert()
	return route.None{}, nil
}

type monitorIn struct {
	Level string `json:"log_level" default:"info" doc:"The level of the lines: trace, debug, info, warn or error. It does not change the level of the log itself."`
	Form  string `json:"log_format" default:"the log's own" doc:"The form of the lines: standard (or text) or json."`
}

func (a *logAPI) monitor(_ context.Context, r *route.Request, in monitorIn) (route.None, error) {
	if a.Log.Watch == nil {
		return route.None{}, errNoLog()
	}
	if in.Level == "" {
		in.Level = "info"
	}
	// Call it once now, so that a wrong parameter is an error.
	_, stop, err := a.watch(in)
	if err != nil {
		return route.None{}, err
	}
	stop()
	reply := r.Reply()
	reply.ContentType, reply.NoAuditData = "text/plain; charset=utf-8", true
	reply.Stream = func(ctx context.Context, send func([]byte) error) error {
		lines, stop, err := a.watch(in)
		if err != nil {
			return err
		}
		defer stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case line := <-lines:
				if err := send(line); err != nil {
					return err
				}
			}
		}
	}
	return route.None{}, nil
}

func (a *logAPI) watch(in monitorIn) (lines <-chan []byte, stop func(), err error) {
	lines, stop, ok, err := a.Log.Watch(in.Level, in.Form)
	switch {
	case err != nil:
		return nil, nil, fault.New("node.monitor", fault.Invalid, "parameters \"log_level\" and \"log_format\": %s",
			err)
	case !ok:
		return nil, nil, fault.New("node.monitor", fault.Unavailable,
			"too many clients are streaming the log already; end one of the streams, or read the log where it is "+
				"written")
	}
	return lines, stop, nil
}
