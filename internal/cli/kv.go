package cli

func kvCommand() *command {
	return &command{
		name: "kv", short: "Store and read secrets by key, with their versions",
		long: "Works with key-value engines of version 1 and 2, and detects which version is\nmounted. A path " +
			"begins with the mount, unless -mount names it.",
		sub: []*command{
			kvGet(), kvPut(), kvPatch(), kvList(), kvDelete(),
			kvUndelete(), kvDestroy(), kvRollback(), kvMetadata(), kvEnableVersioning(),
		},
	}
}
