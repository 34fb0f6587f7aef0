//go:build race

package rotatetest

// raceDetector says that the race detector is on, which makes each run many times slower.
const raceDetector = true
