package redislock_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
)

// A pipeline over a net.Pipe stopped both sides, the client with the rest of its
// commands and the server with its first answers: leases were lost. The bubble is a
// user's, as in Example_synctest.
func TestManyLocksAtOnceOverAConnectionWithoutABuffer(t *testing.T) {
	for round := range 20 {
		synctest.Test(t, func(t *testing.T) {
			server := miniredis.NewMiniRedis()
			server.ClockTTL(true)
			defer server.Close()
			o := redistest.BubbleOptions(server)
			o.Dialer = func(context.Context, string, string) (net.Conn, error) { return server.Dial() }
			client := redis.NewClient(o)
			defer client.Close()
			defer time.Sleep(time.Second)

			start := time.Now()
			var all sync.WaitGroup
			for i := range 2 * (5 + round) {
				l := newLock(t, client, fmt.Sprint(i/2), nil) // of two each one waits
				all.Go(func() {
					h, err := l.Acquire(t.Context())
					if err != nil {
						t.Errorf("Acquire should succeed, got %v", err)
						return
					}
					time.Sleep(10 * time.Second) // renewed three times
					if err := h.Release(t.Context()); err != nil {
						t.Errorf("Release should return nil, got %v", err)
					}
				})
			}
			all.Wait()
			if took := time.Since(start); took > 21*time.Second {
				t.Errorf("two turns of 10 s should take 20 s, they took %v", took)
			}
		})
	}
}
