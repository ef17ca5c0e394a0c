//go:build !race

package multihost_test

const raceDetector = false
