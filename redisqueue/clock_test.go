package redisqueue_test

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// A client whose wall clock is wrong is one whose server has another time: nothing
// that either says to the other is a time of day.
func TestAWallClockThatIsWrongChangesNothing(t *testing.T) {
	for _, off := range []time.Duration{-time.Hour, time.Hour, 20 * 365 * 24 * time.Hour} {
		redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
			redistest.NewServerTime(t, m, off)
			q := newQueue[int](t, client, "x", &redisqueue.Options{TTL: 9 * time.Second})
			put(t, q, 1, 2)
			held, later := receive(t, q), receive(t, q)
			start := time.Now()
			nack(t, later, 5*time.Second)
			back := wantReceived(t, newQueue[int](t, redistest.BubbleClient(t, m), "x", nil), 2, 2)
			wantTook(t, "a delay of 5 s", start, 5*time.Second)
			time.Sleep(time.Minute) // heartbeats
			wantHeld(t, held)
			wantHeld(t, back)
			ack(t, back)
			ack(t, held)
		})
	}
}

// During a suspension of the host no timer runs; the delivery looks at the clock.
// (Not parallel: the clock is that of all deliveries.)
func TestASuspensionOfTheHostCountsAsTime(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		const ttl = 9 * time.Second
		q := newQueue[int](t, client, "x", &redisqueue.Options{TTL: ttl})
		put(t, q, 1)
		d := receive(t, q)
		time.Sleep(time.Minute)
		clock.Suspend(ttl / 2)
		wantHeld(t, d)
		clock.Suspend(ttl)
		wantErr(t, "Err after a suspension longer than the TTL", d.Err(), redisqueue.ErrLost)
		start := time.Now()
		<-d.Done()
		if took := time.Since(start); took > ttl/3+time.Second {
			t.Errorf("Done should close when the next timer runs, within %v, it took %v", ttl/3, took)
		}
	})
}
