package redisevent_test

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
)

// The event's number begins at the server's time, and grows all the same when that
// goes back: a change is never hidden. A client whose wall clock is wrong is one
// whose server has another time.
func TestNoClockThatIsWrongOrJumpsHidesAChange(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, 0, 20 * 365 * 24 * time.Hour} {
		for _, step := range []time.Duration{-time.Hour, time.Hour} {
			redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
				server := redistest.NewServerTime(t, m, off)
				e := newEvent(t, client, "x", nil)
				for _, ops := range [][]string{{"Set", "Clear"}, {"Pulse"}} {
					change(t, e, "Pulse")
					w := begin(t, redistest.BubbleClient(t, m), "x")
					server.Step(step)
					time.Sleep(time.Minute)
					w.stillWaits(t, "a step of the clock is no change")
					change(t, e, ops...)
					w.released(t)
				}
			})
		}
	}
}
