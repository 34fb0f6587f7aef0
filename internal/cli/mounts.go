package cli

func secretsCommand() *command {
	return &command{
		name: "secrets", short: "Mount, tune, move and disable secrets engines",
		long: "Works with secrets engines: what answers below a path.",
		sub: []*command{
			enableCommand(secretsKind, []example{
				{"Mount the database engine at database/:", "keyturn secrets enable database"},
				{"Mount the key-value engine with versions at static/:",
					"keyturn secrets enable -version=2 -path=static kv"},
			}),
			disableCommand(secretsKind,
				[]example{{"Disable the engine at database/:", "keyturn secrets disable database"}}),
			listMountsCommand(secretsKind, []example{{"List the engines:", "keyturn secrets list"}}),
			tuneCommand(secretsKind, []example{{"Set the lease times of a mount:",
				"keyturn secrets tune -default-lease-ttl=30m -max-lease-ttl=2h database"}}),
			moveCommand(secretsKind, []example{{"Move an engine:", "keyturn secrets move static keys"}}),
		},
	}
}

func authCommand() *command {
	return &command{
		name: "auth", short: "List, enable, tune, move and disable login methods",
		long: "Works with login methods, below auth/.",
		sub: []*command{
			listMountsCommand(authKind, []example{{"List the methods:", "keyturn auth list"}}),
			enableCommand(authKind, []example{{"Enable user names and passwords:", "keyturn auth enable userpass"}}),
			disableCommand(authKind, []example{{"Disable a method:", "keyturn auth disable userpass"}}),
			tuneCommand(authKind,
				[]example{{"Set how long its tokens live:", "keyturn auth tune -default-lease-ttl=1h userpass"}}),
			authHelp(),
			moveCommand(authKind, []example{{"Move a method:", "keyturn auth move userpass people"}}),
		},
	}
}
