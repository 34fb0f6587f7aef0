package httpapi

import "github.com/keyturn/keyturn/internal/route"

// healthQuery are the parameters of sys/health.
type healthQuery struct {
	Active   int `json:"activecode" default:"200" doc:"The HTTP status of an unsealed server."`
	Sealed   int `json:"sealedcode" default:"503" doc:"The HTTP status of a sealed server."`
	Uninit   int `json:"uninitcode" default:"501" doc:"The HTTP status of a server that is not initialized."`
	Standby  int `json:"standbycode" doc:"Accepted without effect: there is no standby."`
	StandbyO int `json:"standbyok" doc:"Accepted without effect: there is no standby."`
}

// Pages describes the pages that are served while the server is sealed, too.
func Pages() []route.Route {
	return []route.Route{
		route.Page[healthQuery, health](route.Read, "sys/health",
			"How the server stands, as the status; also with HEAD."),
		route.Page[route.None, sealStatus](route.Read, "sys/seal-status",
			"How the seal stands, and how many shares were given."),
		route.Page[route.None, sealBackends](route.Read, "sys/seal-backend-status",
			"Whether the seal can be reached."),
		route.Page[route.None, leader](route.Read, "sys/leader", "Who leads: nobody, for one server is no cluster."),
		route.Page[route.None, initState](route.Read, "sys/init", "Whether the server is initialized."),
		route.Page[initRequest, initAnswer](route.Write, "sys/init",
			"Initialize the server. The shares and the root token are shown once."),
		route.Page[unsealRequest, sealStatus](route.Write, "sys/unseal", "Give one share of the unseal key."),
	}
}
