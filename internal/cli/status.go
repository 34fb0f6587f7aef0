package cli

import (
	"context"
	"fmt"
	"maps"

	"github.com/hashicorp/vault/api"
)

func statusCommand() *command {
	return &command{
		name: "status", short: "Show whether the server is sealed", fields: true,
		long: "Shows the state of the seal. The exit code is 0 when the server is unsealed, 2\nwhen it is sealed " +
			"and 1 when it does not answer.",
		examples: []example{
			{"Show the state:", "keyturn status"},
			{"Wait until the server is unsealed:", "until keyturn status >/dev/null; do sleep 1; done"},
		},
		run: func(ctx context.Context, s *session) error {
			client, err := s.connect()
			if err != nil {
				return err
			}
			client.announce(access{op: "read", path: "sys/leader"})
			status, err := client.get(ctx, "sys/seal-status")
			if err != nil {
				return local(err, "checking the seal's status")
			}
			if sealed, _ := status["sealed"].(bool); !sealed {
				addLeader(ctx, client, status)
				return s.out.showStatus(status)
			}
			if err := s.out.showStatus(status); err != nil {
				return err
			}
			return exitCode(exitRemote)
		},
	}
}

// addLeader adds the active server. It ignores an error, because the status of the seal is known.
func addLeader(ctx context.Context, client *client, status map[string]any) {
	if leader, err := client.get(ctx, "sys/leader"); err == nil {
		maps.Copy(status, leader)
	}
}

// statusLabels are the rows of a status. A row that the server does not send is left out.
var statusLabels = []struct{ key, label string }{
	{"type", "Seal Type"},
	{"initialized", "Initialized"},
	{"sealed", "Sealed"},
	{"n", "Total Shares"},
	{"t", "Threshold"},
	{"progress", "Unseal Progress"},
	{"nonce", "Unseal Nonce"},
	{"version", "Version"},
	{"keyturn_version", "Keyturn Version"},
	{"build_date", "Build Date"},
	{"storage_type", "Storage Type"},
	{"cluster_name", "Cluster Name"},
	{"cluster_id", "Cluster ID"},
	{"ha_enabled", "HA Enabled"},
	{"leader_address", "HA Leader"},
	{"active_time", "Active Since"},
}

func (out *printer) showStatus(status map[string]any) error {
	if out.field != "" {
		return out.showField(&api.Secret{Data: status})
	}
	if done, err := out.encode(status); done {
		return err
	}
	sealed, _ := status["sealed"].(bool)
	ha, _ := status["ha_enabled"].(bool)
	var rows []pair
	for _, row := range statusLabels {
		value, sent := status[row.key]
		label := row.label
		switch row.key {
		case "n":
			if recovery, _ := status["recovery_seal"].(bool); recovery {
				label = "Total Recovery Shares"
			}
		case "progress":
			value, sent = fmt.Sprintf("%v/%v", value, status["t"]), sealed
		case "nonce":
			sent = sealed
		case "leader_address", "active_time":
			sent = sent && ha
		}
		if sent {
			rows = append(rows, pair{key: label, show: value})
		}
	}
	return out.write(pairTable(rows))
}
