package redisqueue_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// unreached is a client that fails the test when it is used.
func unreached(t *testing.T) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", Dialer: func(context.Context, string, string) (net.Conn, error) {
		t.Error("New should do no I/O")
		return nil, errors.New("used")
	}})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// incomparable cannot be the key of a map.
type incomparable struct {
	*redis.Client
	_ []int
}

func TestNewRefusesWhatItCannotUse(t *testing.T) {
	client := unreached(t)
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}, HeartbeatFrequency: time.Hour})
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	t.Cleanup(func() { _ = ring.Close(); _ = cluster.Close() })

	type options = redisqueue.Options
	const name, control, ttl = "1 to 512 bytes", "*redis.Client", "10ms to 8760h"
	for _, c := range []struct {
		what   string
		client redis.UniversalClient
		name   string
		opts   options
		says   string // what is allowed
	}{
		{"an empty name", client, "", options{}, name},
		{"a name of 513 bytes", client, strings.Repeat("x", 513), options{}, "512 bytes"},
		{"a name of 171 characters with 513 bytes", client, strings.Repeat("語", 171), options{}, "512 bytes"},
		{"a name with a newline", client, "a\nb", options{}, "without control characters"},
		{"a name with a zero", client, "a\x00", options{}, "without control characters"},
		{"a name that is not UTF-8", client, "a\xff", options{}, "UTF-8"},
		{"a namespace of 513 bytes", client, "x", options{Namespace: strings.Repeat("x", 513)}, "512 bytes"},
		{"a namespace with a newline", client, "x", options{Namespace: "a\nb"}, "without control characters"},
		{"a namespace that is not UTF-8", client, "x", options{Namespace: "\xc3"}, "UTF-8"},

		{"a TTL of 9 ms", client, "x", options{TTL: 9 * time.Millisecond}, ttl},
		{"a TTL just below 10 ms", client, "x", options{TTL: 10*time.Millisecond - 1}, ttl},
		{"a negative TTL", client, "x", options{TTL: -time.Second}, ttl},
		{"a TTL of more than a year", client, "x", options{TTL: 365*24*time.Hour + 1}, ttl},
		{"the longest duration as TTL", client, "x", options{TTL: 1<<63 - 1}, ttl},
		{"a negative MaxSize", client, "x", options{MaxSize: -1}, "0, for no bound"},
		{"a MaxSize beyond what can be counted", client, "x", options{MaxSize: 1<<40 + 1}, "1099511627776"},
		{"a negative MaxItem", client, "x", options{MaxItem: -1}, "1 to"},
		{"a MaxItem beyond what Redis holds", client, "x", options{MaxItem: 512 << 20}, "1 to 536869888"},
		{"a negative MaxDeliveries", client, "x", options{MaxDeliveries: -1}, "0, for no end, or more"},
		{"a policy that is none", client, "x", options{OnMismatch: 3}, "Refuse, Adopt and Replace"},
		{"a negative policy", client, "x", options{OnMismatch: -1}, "Refuse, Adopt and Replace"},
		{"a codec without a name", client, "x", options{Codec: plain{}}, "1 to 64 ASCII characters"},
		{"a codec with a long name", client, "x", options{Codec: plain{strings.Repeat("x", 65)}}, "1 to 64 ASCII characters"},
		{"a codec with a space in its name", client, "x", options{Codec: plain{"a b"}}, "without spaces"},
		{"a codec with a name in another script", client, "x", options{Codec: plain{"語"}}, "ASCII"},
		{"metadata of more than 4 KiB", client, "x", options{Metadata: map[string]string{"k": strings.Repeat("v", 4096)}}, "at most 4096"},

		{"no client", nil, "x", options{}, control},
		{"a nil *redis.Client", (*redis.Client)(nil), "x", options{}, control},
		{"a nil *redis.ClusterClient", (*redis.ClusterClient)(nil), "x", options{}, control},
		{"a *redis.Ring", ring, "x", options{}, control},
		{"a client that cannot be compared", incomparable{Client: client}, "x", options{}, control},
		{"a *redis.Ring as ControlClient", client, "x", options{ControlClient: ring}, control},
		{"a nil ControlClient with a type", client, "x", options{ControlClient: (*redis.Client)(nil)}, control},
		{"a cluster as ControlClient", client, "x", options{ControlClient: cluster}, "single node"},
		{"a ControlClient for a cluster", cluster, "x", options{ControlClient: client}, "leave it nil"},
	} {
		t.Run(c.what, func(t *testing.T) {
			q, err := redisqueue.New[int](c.client, c.name, &c.opts)
			if err == nil || q != nil {
				t.Fatalf("New with %s should fail, got %v, %v", c.what, q, err)
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "redisqueue: new") {
				t.Errorf("the error should name the call and say what is allowed, %q, got %q", c.says, err)
			}
		})
	}
}

func TestNewTakesEverythingAtItsLimits(t *testing.T) {
	client := unreached(t)
	for what, opts := range map[string]*redisqueue.Options{
		"no options":             nil,
		"the zero options":       {},
		"the shortest TTL":       {TTL: 10 * time.Millisecond},
		"the longest TTL":        {TTL: 365 * 24 * time.Hour},
		"the largest MaxSize":    {MaxSize: 1 << 40},
		"the smallest MaxSize":   {MaxSize: 1},
		"the largest MaxItem":    {MaxItem: 512<<20 - 1024},
		"the smallest MaxItem":   {MaxItem: 1},
		"the most MaxDeliveries": {MaxDeliveries: 1<<63 - 1},
		"the longest codec name": {Codec: plain{strings.Repeat("x", 64)}},
		"no metadata":            {Metadata: map[string]string{}},
		"a ControlClient":        {ControlClient: client},
		"the longest namespace":  {Namespace: strings.Repeat("x", 512)},
	} {
		for _, name := range []string{"x", strings.Repeat("x", 512), "{}%:", " ", "語"} {
			if _, err := redisqueue.New[int](client, name, opts); err != nil {
				t.Errorf("New with %s should succeed, got %v", what, err)
			}
		}
	}
}

func TestAClosedClientIsAnError(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		for what, call := range calls() {
			client := s.Client(t)
			q, used := newQueue[int](t, client, name, nil), newQueue[int](t, client, name, nil)
			put(t, used, 1)
			wantGot(t, used, 1)
			_ = client.Close()
			for _, q := range []*redisqueue.Queue[int]{q, used} {
				if err := call(soonCtx(t), q); !errors.Is(err, redis.ErrClosed) {
					t.Errorf("%s with a closed client should say so, got %v", what, err)
				}
			}
		}
		remove(t, newQueue[int](t, s.Client(t), name, nil))
		noLeaks(t, s, name)
	})
}

// Who closes the client while others wait with it ends their waits.
func TestAClientThatIsClosedEndsItsWaits(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		var heard journal
		q := newQueue[int](t, client, name, &redisqueue.Options{TTL: short, Observe: heard.note})
		other := newQueue[int](t, s.Client(t), name, &redisqueue.Options{TTL: short})
		get, rec := begin(t, q.Get), beginReceive(t, q)
		heard.awaitKind(t, redisqueue.Waiting, 2)
		_ = client.Close()
		// An item that comes wakes them up at the latest.
		put(t, other, 1, 2)
		for what, err := range map[string]error{"Get": waitErr(t, get), "Receive": waitErr(t, rec)} {
			if err != nil && !errors.Is(err, redis.ErrClosed) {
				t.Errorf("%s should say that the client is closed, got %v", what, err)
			}
		}
		left := 0
		if get.err != nil {
			left++
		}
		if rec.err != nil {
			left++
		}
		for range left { // nothing that nobody has got is lost
			ack(t, receive(t, other))
		}
		remove(t, other)
	})
}

// waitErr waits until the call has returned, or gives it up.
func waitErr[T any](t testing.TB, c *call[T]) error {
	t.Helper()
	pause(3*time.Second, c.over)
	c.cancel()
	await(t, c.over, "the end of a call")
	if errors.Is(c.err, context.Canceled) {
		t.Log("the call ended by its ctx only")
		return nil
	}
	return c.err
}

func TestAKeyOfAnotherTypeIsAMismatch(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		for _, layout := range []string{"string", "hash"} {
			name := redistest.Name(t)
			client := s.Client(t)
			var err error
			if layout == "string" {
				err = client.Set(soonCtx(t), key(name, ""), "somebody's", 0).Err()
			} else {
				err = client.HSet(soonCtx(t), key(name, ""), "somebody's", 1).Err()
			}
			if err != nil {
				t.Fatal(err)
			}
			q := newQueue[int](t, s.Client(t), name, nil)
			for what, call := range calls() {
				if what == "Delete" {
					continue
				}
				wantOnly(t, what+" of a "+layout, call(soonCtx(t), q), redisqueue.ErrMismatch)
			}
			if n, err := client.Exists(soonCtx(t), key(name, "")).Result(); n != 1 || err != nil {
				t.Errorf("somebody's key should not be touched, got %d, %v", n, err)
			}
			err = q.Delete(soonCtx(t))
			t.Logf("Delete says %v", err)
			client.Del(soonCtx(t), key(name, ""))
		}
	})
}

// key is the queue's key, or one of its parts.
func key(name, part string) string {
	k := "mh1:queue:{" + name + "}"
	if part != "" {
		k += ":" + part
	}
	return k
}
