package redistest

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// linger is how long the library keeps its connections and goroutines after
// their last use, with slack. A goroutine that still runs when the function of a
// bubble returns panics the test binary.
const linger = 250*time.Millisecond + time.Second

// Bubble runs fn in a testing/synctest bubble with a miniredis of its own:
// time stands still while anything runs and jumps ahead when everything
// waits. When fn returns, the linger of the library passes, and only then are
// client and server closed.
//
// In a bubble no goroutine may ever wait for a slot in a client's pool (its
// timers outlive the bubble and break the next one). BubbleOptions has a
// pool of 1,000 connections; a test with more goroutines must raise it.
func Bubble(t *testing.T, fn func(t *testing.T, client *redis.Client, m *miniredis.Miniredis)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := BubbleServer(t)
		client := BubbleClient(t, m)
		fn(t, client, m)
	})
}

// BubbleServer makes the server of a bubble. It is closed by the test's cleanup,
// once the linger has passed.
func BubbleServer(t testing.TB) *miniredis.Miniredis {
	t.Helper()
	m := miniredis.NewMiniRedis()
	m.ClockTTL(true)
	t.Cleanup(m.Close)
	return m
}

// BubbleClient makes a client for a server of a bubble. Before it is closed,
// the linger passes.
func BubbleClient(t testing.TB, m *miniredis.Miniredis, change ...func(*redis.Options)) *redis.Client {
	t.Helper()
	o := BubbleOptions(m)
	for _, c := range change {
		c(o)
	}
	client := redis.NewClient(o)
	t.Cleanup(func() {
		time.Sleep(linger)
		_ = client.Close() // the test may have closed it
	})
	return client
}

// BubbleOptions are options that keep a client inside a bubble: no socket, no
// name to resolve, no notifications whose goroutines stay.
func BubbleOptions(m *miniredis.Miniredis) *redis.Options {
	return &redis.Options{
		Addr:                     "127.0.0.1:6379",
		Dialer:                   BubbleDialer(m),
		PoolSize:                 1000,
		MaintNotificationsConfig: noMaintenance(),
	}
}

// BubbleDialer dials the server in memory.
func BubbleDialer(m *miniredis.Miniredis) Dialer {
	return func(context.Context, string, string) (net.Conn, error) {
		conn, err := m.Dial()
		if err != nil {
			return nil, err
		}
		return &socket{Conn: conn}, nil
	}
}
