//go:build race

package costtest

// instrumented is how much more a byte may cost in this build: the race detector slows a parser,
// which writes to memory, far more than the loop that it is compared with.
const instrumented = 10
