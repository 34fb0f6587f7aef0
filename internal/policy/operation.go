package policy

// Operation is what a request does, as rules know it.
type Operation uint16

// The operations, and the capabilities that are none. They are bits.
const (
	Create Operation = 1 << iota
	Read
	Update
	Patch
	Delete
	List
	sudo
	deny
	subscribe // Vault's, for events; nothing asks for it
	recovery  // Vault's, for snapshots; nothing asks for it
)
