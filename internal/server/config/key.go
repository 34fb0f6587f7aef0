package config

import (
	"strings"

	"github.com/hashicorp/hcl/hcl/ast"
)

// A key is one member of a block.
type key struct {
	name    string
	takes   string // what its value is
	without string // its default, for the reference; "": the reference names none
	doc     string // what it is for; a sentence
	reload  bool   // SIGHUP re-reads it
	set     setter
}

// A setter takes one member of a block.
type setter func(item *ast.ObjectItem)

// given are the members of a block as they were given, for comparing and showing.
type given map[string]any

// joined is names for an error.
func joined(names []string) string { return strings.Join(names, ", ") }

// inBlock is a block in an error.
func inBlock(block string) string {
	if block == topBlock {
		return "the configuration"
	}
	return block
}

// The blocks that have keys of their own, as the reference and the errors name them.
const (
	topBlock          = ""
	tcpBlock          = `listener "tcp"`
	unixBlock         = `listener "unix"`
	listenerTelemetry = "telemetry of a listener"
	telemetryBlock    = "telemetry"
)
