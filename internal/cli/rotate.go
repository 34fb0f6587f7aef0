package cli

func rotateCommand() *command {
	return &command{
		name: "rotate", short: "Turn keys, go back, and see how turns went",
		long: "Works with the keys that the rotation engine turns: it creates a new key at its\nprovider, proves that it works, publishes it, gives readers time, and retires the\nold one.",
		sub: []*command{
			turnCommand("now", "rotate", "Success! Turning key: %s", &command{
				short: "Turn a key now", long: "Starts a turn. It goes on by itself; rotate status shows how far it is.",
				examples: []example{{"Turn a key:", "keyturn rotate now stripe"}, {"Turn a key and see it done:", "keyturn rotate now -wait stripe"}, {"Turn a key that leaked, without the grace period:", "keyturn rotate now -leaked stripe"}},
			}),
			rotateStatus(), rotateHistory(), rotatePlan(), rotateOrphans(),
			turnCommand("rollback", "rollback", "Success! Rolling back key: %s", &command{
				short: "Go back to the key before", long: "Publishes the old key again, and retires the new one after its grace period. With\n-to or -version, publishes another key that still lives at the provider.",
				examples: []example{{"Go back:", "keyturn rotate rollback stripe"}, {"Go back to what version 1 of the path held:", "keyturn rotate rollback -version=1 stripe"}},
			}),
			turnCommand("pause", "pause", "Success! Paused key: %s", &command{
				short: "Stop turning a key", long: "Stops a key's schedule, and a turn before its next step.",
				examples: []example{{"Pause a key:", "keyturn rotate pause stripe"}},
			}),
			turnCommand("resume", "resume", "Success! Resumed key: %s", &command{
				short: "Go on turning a key", long: "Resumes a paused key.",
				examples: []example{{"Resume a key:", "keyturn rotate resume stripe"}},
			}),
		},
	}
}
