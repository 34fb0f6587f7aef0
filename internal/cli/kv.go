package cli

func kvCommand() *command {
	return &command{
		name: "kv", short: "Store and read secrets by key, with their versions",
		long: "Works with key-value engines of version 1 and 2; which of them is mounted is\nfound out by itself. A path begins with the mount, or -mount names it.",
		sub: []*command{
			kvGet(), kvPut(), kvPatch(), kvList(), kvDelete(),
			kvUndelete(), kvDestroy(), kvRollback(), kvMetadata(), kvEnableVersioning(),
		},
	}
}
