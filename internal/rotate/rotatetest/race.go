//go:build race

package rotatetest

// raceDetector says that each run takes many times as long.
const raceDetector = true
