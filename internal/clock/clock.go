// Package clock is the one place where the library reads the time.
//
// [Now] is a reading of Go's monotonic clock that also counts the time for
// which the machine was suspended: on Linux the monotonic clock stands still
// then, while the server's leases run on. The time in suspension is the
// distance between CLOCK_BOOTTIME and CLOCK_MONOTONIC. Elsewhere it is taken
// as zero. The wall clock is never used: setting it has no effect.
package clock

import "time"

// Now reads the clock. Only compare the result with other readings; use [Wall]
// to show it to a person.
func Now() time.Time { return time.Now().Add(suspended()) }

// Until is the time left until t, a reading of this clock.
func Until(t time.Time) time.Duration { return t.Sub(Now()) }

// Since is the time gone since t, a reading of this clock.
func Since(t time.Time) time.Duration { return Now().Sub(t) }

// Wall turns a reading of this clock into a time.Time of the ordinary kind.
func Wall(t time.Time) time.Time { return t.Add(-suspended()) }
