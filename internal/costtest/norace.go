//go:build !race

package costtest

// instrumented is how much more a byte may cost in this build.
const instrumented = 1
