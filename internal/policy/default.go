package policy

// DefaultText is the policy that every token has unless it is made without: it
// concerns the token's own affairs alone.
const DefaultText = `# What a token may do with itself.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self"  { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "sys/capabilities-self"  { capabilities = ["update"] }
path "sys/internal/ui/resultant-acl" { capabilities = ["read"] }

# Its own store.
path "cubbyhole/*" { capabilities = ["create", "read", "update", "delete", "list"] }

# Leases whose id it knows.
path "sys/renew"         { capabilities = ["update"] }
path "sys/leases/renew"  { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }

# Wrapping, and tools without a state.
path "sys/wrapping/wrap"   { capabilities = ["update"] }
path "sys/wrapping/lookup" { capabilities = ["update"] }
path "sys/wrapping/unwrap" { capabilities = ["update"] }
path "sys/tools/hash"      { capabilities = ["update"] }
path "sys/tools/hash/*"    { capabilities = ["update"] }
`
