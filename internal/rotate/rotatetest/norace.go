//go:build !race

package rotatetest

const raceDetector = false
