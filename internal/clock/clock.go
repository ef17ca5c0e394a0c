package clock

import (
	"sync/atomic"
	"time"
)

// pretended is how long the host was suspended according to tests.
var pretended atomic.Int64

// Suspend has the clock jump as if the host had been suspended, during which no
// timer runs. Only tests call it. It cannot be undone: this clock never goes back.
func Suspend(d time.Duration) { pretended.Add(int64(d)) }

func lost() time.Duration { return suspended() + time.Duration(pretended.Load()) }

// Now reads the clock. Only compare the result with other readings; use [Wall]
// to show it to a person.
func Now() time.Time { return time.Now().Add(lost()) }

// Until is the time left until t, a reading of this clock.
func Until(t time.Time) time.Duration { return t.Sub(Now()) }

// Since is the time gone since t, a reading of this clock.
func Since(t time.Time) time.Duration { return Now().Sub(t) }

// Wall turns a reading of this clock into a time.Time of the ordinary kind.
func Wall(t time.Time) time.Time { return t.Add(-lost()) }
