package recipes_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // what goes wrong here does so on purpose
	// The first use of signals starts a goroutine that never ends, which no test
	// in fake time may do.
	_, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	stop()
	os.Exit(m.Run())
}

// machines is a Redis in memory that several machines use, in fake time.
type machines struct {
	t      *testing.T
	server *miniredis.Miniredis
}

func inFakeTime(t *testing.T, test func(t *testing.T, m machines)) {
	synctest.Test(t, func(t *testing.T) {
		server := miniredis.NewMiniRedis()
		server.ClockTTL(true)
		defer server.Close()
		test(t, machines{t, server})
		time.Sleep(time.Minute) // the library gives up what it cannot reach, and puts its connections away
	})
}

// client is the client of one more machine.
func (m machines) client() *redis.Client {
	return m.clientBy(func(context.Context, string, string) (net.Conn, error) { return m.server.Dial() })
}

func (m machines) clientBy(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *redis.Client {
	client := redis.NewClient(&redis.Options{
		Addr:                     "127.0.0.1:6379", // never dialled
		Dialer:                   dial,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	m.t.Cleanup(func() { _ = client.Close() })
	return client
}

// clientToCut is the client of a machine that can be cut off from the server.
func (m machines) clientToCut() (client *redis.Client, cut func()) {
	var mu sync.Mutex
	var conns []net.Conn
	isCut := false
	client = m.clientBy(func(context.Context, string, string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if isCut {
			return nil, errors.New("no route to host")
		}
		conn, err := m.server.Dial()
		conns = append(conns, conn)
		return conn, err
	})
	return client, func() {
		mu.Lock()
		defer mu.Unlock()
		isCut = true
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
}
