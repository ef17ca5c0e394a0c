// Package clock is the one place where the library reads the time.
//
// [Now] is a reading of Go's monotonic clock that also counts the time for
// which the machine was suspended: on Linux the monotonic clock stands still
// then, while the server's leases run on. The time in suspension is the
// distance between CLOCK_BOOTTIME and CLOCK_MONOTONIC. Elsewhere it is taken
// as zero. The wall clock is never used: setting it has no effect.
package clock
