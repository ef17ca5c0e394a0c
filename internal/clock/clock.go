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
