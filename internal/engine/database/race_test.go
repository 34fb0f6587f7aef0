//go:build race

package database_test

// raceDetector says that each run takes many times as long.
const raceDetector = true
