package cli

func rotateCommand() *command {
	return &command{
		name: "rotate", short: "Rotate keys, roll back, and show rotations",
		long: "Works with the keys that the rotation engine rotates. A rotation creates a new key at\nthe provider, " +
			"verifies that it works, publishes it, gives readers time to read it,\nand retires the old key.",
		sub: []*command{
			actionCommand("now", "rotate", "Success! Started the rotation of key: %s", &command{
				short: "Rotate a key now",
				long:  "Starts a rotation. It continues in the background; rotate status shows its progress.",
				examples: []example{{"Rotate a key:", "keyturn rotate now stripe"},
					{"Rotate a key and wait until the new one is published:", "keyturn rotate now -wait stripe"},
					{"Rotate a key that leaked, without the grace period:", "keyturn rotate now -leaked stripe"}},
			}),
			rotateStatus(), rotateOverdue(), rotateHistory(), rotatePlan(), rotateOrphans(), rotateSupply(),
			rotateConfirm(),
			actionCommand("rollback", "rollback", "Success! Rolling back key: %s", &command{
				short: "Publish the previous key again", long: "Publishes the old key again, and retires the new " +
					"one after its grace period. With\n-to or -version, publishes another key that is still valid " +
					"at the provider.",
				examples: []example{{"Publish the previous key:", "keyturn rotate rollback stripe"},
					{"Publish the key that version 1 of the path had:", "keyturn rotate rollback -version=1 stripe"}},
			}),
			actionCommand("pause", "pause", "Success! Paused key: %s", &command{
				short:    "Pause the rotation of a key",
				long:     "Stops a key's schedule. A rotation in flight stops before its next step.",
				examples: []example{{"Pause a key:", "keyturn rotate pause stripe"}},
			}),
			actionCommand("resume", "resume", "Success! Resumed key: %s", &command{
				short: "Resume the rotation of a key", long: "Resumes a paused key.",
				examples: []example{{"Resume a key:", "keyturn rotate resume stripe"}},
			}),
		},
	}
}
