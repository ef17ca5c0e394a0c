package redisevent_test

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

// go-redis holds one lock while it writes to a pub/sub connection and before each
// read: over a net.Pipe a second SUBSCRIBE, written while the server was still
// writing the answer to the first, stopped both sides for ever. The bubble is a
// user's, as in Example_synctest.
func TestManyEventsAtOnceOverAConnectionWithoutABuffer(t *testing.T) {
	for range 20 {
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
			for i := range 5 {
				e := newEvent(t, client, fmt.Sprint(i), nil)
				all.Go(func() {
					if err := e.Wait(t.Context()); err != nil {
						t.Errorf("Wait should return nil, got %v", err)
					}
				})
				time.AfterFunc(time.Duration(i%3)*time.Second, func() {
					if err := e.Set(t.Context()); err != nil {
						t.Errorf("Set should return nil, got %v", err)
					}
				})
			}
			all.Wait()
			if took := time.Since(start); took != 2*time.Second {
				t.Errorf("the last event is set after 2 s, the waits took %v", took)
			}
		})
	}
}
