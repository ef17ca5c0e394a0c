package redislock_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
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

	const name, control, ttl = "1 to 512 bytes", "*redis.Client", "10ms to 8760h"
	for _, c := range []struct {
		what   string
		client redis.UniversalClient
		name   string
		opts   redislock.Options
		says   string // what is allowed
	}{
		{"an empty name", client, "", redislock.Options{}, name},
		{"a name of 513 bytes", client, strings.Repeat("x", 513), redislock.Options{}, "512 bytes"},
		{"a name of 171 characters with 513 bytes", client, strings.Repeat("語", 171), redislock.Options{}, "512 bytes"},
		{"a name with a newline", client, "a\nb", redislock.Options{}, "without control characters"},
		{"a name with a zero", client, "a\x00", redislock.Options{}, "without control characters"},
		{"a name with DEL", client, "a\x7f", redislock.Options{}, "without control characters"},
		{"a name with a control character of two bytes", client, "a\u0085", redislock.Options{}, "without control characters"},
		{"a name that is not UTF-8", client, "a\xff", redislock.Options{}, "UTF-8"},
		{"a namespace of 513 bytes", client, "x", redislock.Options{Namespace: strings.Repeat("x", 513)}, "512 bytes"},
		{"a namespace with a newline", client, "x", redislock.Options{Namespace: "a\nb"}, "without control characters"},
		{"a namespace that is not UTF-8", client, "x", redislock.Options{Namespace: "\xc3"}, "UTF-8"},

		{"a TTL of 9 ms", client, "x", redislock.Options{TTL: 9 * time.Millisecond}, ttl},
		{"a TTL just below 10 ms", client, "x", redislock.Options{TTL: 10*time.Millisecond - 1}, ttl},
		{"a negative TTL", client, "x", redislock.Options{TTL: -time.Second}, ttl},
		{"a TTL of more than a year", client, "x", redislock.Options{TTL: 365*24*time.Hour + 1}, ttl},
		{"the longest duration as TTL", client, "x", redislock.Options{TTL: 1<<63 - 1}, ttl},
		{"a Margin as long as the TTL", client, "x", redislock.Options{TTL: time.Second, Margin: time.Second}, "less than TTL, 1s"},
		{"a Margin longer than the default TTL", client, "x", redislock.Options{Margin: time.Minute}, "less than TTL, 10s"},
		{"a negative Margin", client, "x", redislock.Options{Margin: -1}, "more than 0"},
		{"a negative MinHold", client, "x", redislock.Options{MinHold: -1}, "0 to"},
		{"a MinHold of more than a year", client, "x", redislock.Options{MinHold: 1<<63 - 1}, "0 to"},
		{"a negative MaxHold", client, "x", redislock.Options{MaxHold: -1}, "0, for no end, or more"},
		{"LocalHandoffs of more than 10,000", client, "x", redislock.Options{LocalHandoffs: 10001}, "at most 10000"},
		{"metadata of more than 4 KiB", client, "x", redislock.Options{Metadata: map[string]string{"k": strings.Repeat("v", 4096)}}, "at most 4096"},

		{"no client", nil, "x", redislock.Options{}, control},
		{"a nil *redis.Client", (*redis.Client)(nil), "x", redislock.Options{}, control},
		{"a nil *redis.ClusterClient", (*redis.ClusterClient)(nil), "x", redislock.Options{}, control},
		{"a *redis.Ring", ring, "x", redislock.Options{}, control},
		{"a nil *redis.Ring", (*redis.Ring)(nil), "x", redislock.Options{}, control},
		{"a client that cannot be compared", incomparable{Client: client}, "x", redislock.Options{}, control},
		{"a *redis.Ring as ControlClient", client, "x", redislock.Options{ControlClient: ring}, control},
		{"a nil ControlClient with a type", client, "x", redislock.Options{ControlClient: (*redis.Client)(nil)}, control},
		{"a cluster as ControlClient", client, "x", redislock.Options{ControlClient: cluster}, "single node"},
		{"a ControlClient for a cluster", cluster, "x", redislock.Options{ControlClient: client}, "leave it nil"},
	} {
		t.Run(c.what, func(t *testing.T) {
			l, err := redislock.New(c.client, c.name, &c.opts)
			if err == nil || l != nil {
				t.Fatalf("New with %s should fail, got %v, %v", c.what, l, err)
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "redislock: new") {
				t.Errorf("the error should name the call and say what is allowed, %q, got %q", c.says, err)
			}
		})
	}
}

func TestNewTakesEverythingAtItsLimits(t *testing.T) {
	client := unreached(t)
	for what, opts := range map[string]*redislock.Options{
		"no options":             nil,
		"the zero options":       {},
		"the shortest TTL":       {TTL: 10 * time.Millisecond},
		"the longest TTL":        {TTL: 365 * 24 * time.Hour},
		"the largest Margin":     {TTL: time.Second, Margin: time.Second - 1},
		"the smallest Margin":    {Margin: 1},
		"the longest holds":      {MinHold: 365 * 24 * time.Hour, MaxHold: 1<<63 - 1},
		"the most LocalHandoffs": {LocalHandoffs: 10000},
		"the least of them":      {LocalHandoffs: -1 << 63},
		"the longest namespace":  {Namespace: strings.Repeat("語", 170) + "xx"},
		"the client for control": {ControlClient: client},
	} {
		t.Run(what, func(t *testing.T) {
			for _, name := range []string{"x", " ", strings.Repeat("x", 512)} {
				if _, err := redislock.New(client, name, opts); err != nil {
					t.Errorf("New with %s should succeed, got %v", what, err)
				}
			}
		})
	}
}

func TestNewDoesNotKeepTheOptions(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		opts := redislock.Options{TTL: time.Minute, Metadata: map[string]string{"k": "v"}}
		l := newLock(t, s.Client(t), redistest.Name(t), &opts)
		opts.TTL, opts.Metadata["k"] = time.Second, "w"
		h := take(t, l)
		if got := state(t, l); got.TTL < 10*time.Second || got.Metadata["k"] != "v" {
			t.Errorf("a change of the Options after New should have no effect, State says %+v", got)
		}
		release(t, h)
	})
}

// misfits puts something of another type under each of the lock's keys.
var misfits = map[string]func(ctx context.Context, c redis.UniversalClient, key string) error{
	"": func(ctx context.Context, c redis.UniversalClient, key string) error {
		return c.LPush(ctx, key, "theirs").Err()
	},
	"line": func(ctx context.Context, c redis.UniversalClient, key string) error {
		return c.HSet(ctx, key, "k", "theirs").Err()
	},
	"places": func(ctx context.Context, c redis.UniversalClient, key string) error {
		return c.Set(ctx, key, "theirs", 0).Err()
	},
	"ended": func(ctx context.Context, c redis.UniversalClient, key string) error {
		return c.SAdd(ctx, key, "theirs").Err()
	},
	"fence": func(ctx context.Context, c redis.UniversalClient, key string) error {
		return c.LPush(ctx, key, "theirs").Err()
	},
}

func TestAKeyOfAnotherTypeIsAMismatchAndStays(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client := s.Client(t)
		for part, put := range misfits {
			t.Run("under the key "+part, func(t *testing.T) {
				for what, call := range calls(t) {
					if strings.Contains(what, "Do") {
						continue // as Acquire and TryAcquire
					}
					name := redistest.Name(t) + what
					if err := put(soonCtx(t), client, key(name, part)); err != nil {
						t.Fatal(err)
					}
					before := dump(t, client, key(name, part))
					err := call(soonCtx(t), newLock(t, client, name, unhurried))
					taken := what == "Delete" && part == "" && errors.Is(err, redislock.ErrNotAcquired)
					if err != nil && !errors.Is(err, redislock.ErrMismatch) && !taken {
						t.Errorf("%s should work or say ErrMismatch, got %v", what, err)
					}
					if after := dump(t, client, key(name, part)); after != before {
						t.Errorf("%s should not touch what is not the lock's, it was %q and is %q (%v)", what, before, after, err)
					}
					if n := client.Exists(soonCtx(t), key(name, "")).Val(); err != nil && part != "" && n != 0 {
						t.Errorf("%s failed with %v, so nobody should have the lock", what, err)
					}
				}
			})
		}
	})
}

// dump is what lies under a key.
func dump(t *testing.T, client redis.UniversalClient, key string) string {
	t.Helper()
	ctx := soonCtx(t)
	switch kind := client.Type(ctx, key).Val(); kind {
	case "string":
		return kind + " " + client.Get(ctx, key).Val()
	case "list":
		return kind + " " + strings.Join(client.LRange(ctx, key, 0, -1).Val(), " ")
	case "set":
		return kind + " " + strings.Join(client.SMembers(ctx, key).Val(), " ")
	case "hash":
		return kind + " " + strings.Join(client.HVals(ctx, key).Val(), " ")
	default:
		return kind
	}
}

func TestAHeldLockThatBecomesAnotherTypeIsLost(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		h := take(t, newLock(t, s.Client(t), name, &redislock.Options{TTL: short}))
		waiter := begin(t, newLock(t, s.Client(t), name, &redislock.Options{TTL: short}))
		awaitLine(t, client, name, 1)
		_, err := client.TxPipelined(soonCtx(t), func(p redis.Pipeliner) error {
			p.Del(soonCtx(t), key(name, ""))
			p.LPush(soonCtx(t), key(name, ""), "theirs")
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		wantLost(t, h)
		wantErr(t, "a wait for a lock that has become a list", waiter.ended(t), redislock.ErrMismatch)
		if got := dump(t, client, key(name, "")); got != "list theirs" {
			t.Errorf("what is not the lock's should stay, got %q", got)
		}
	})
}

func TestAClosedClientSaysSo(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		l := newLock(t, client, name, nil)
		_ = client.Close()
		for what, call := range calls(t) {
			wantErr(t, what+" on a closed client", call(soonCtx(t), l), redis.ErrClosed)
		}
		wantFree(t, newLock(t, s.Client(t), name, nil))
		redistest.NoLeaks(t, s, name, ":fence")
	})
}

func TestALeaseOutlivesTheClosingOfItsClient(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		other := newLock(t, s.Client(t), name, unhurried)
		for _, used := range []string{"only once", "in private too"} {
			t.Run(used, func(t *testing.T) {
				client := s.Client(t)
				l := newLock(t, client, name, &redislock.Options{TTL: short})
				h := take(t, l)
				if used == "in private too" {
					first := h.Deadline()
					redistest.EventuallyTrue(t, soon, "the lease is renewed", func() bool { return h.Deadline().After(first) })
				}
				_ = client.Close()
				first := h.Deadline()
				redistest.EventuallyTrue(t, soon, "the lease is renewed after its client was closed", func() bool {
					wantHeld(t, h)
					return h.Deadline().After(first)
				})
				wantTaken(t, other)
				_, err := l.TryAcquire(soonCtx(t))
				wantErr(t, "a new call on a closed client", err, redis.ErrClosed)
				release(t, h)
				wantFree(t, other)
			})
		}
	})
}

func TestAWaitEndsWhenItsClientIsClosed(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client, closed := s.Client(t), s.Client(t)
		h := take(t, newLock(t, client, name, unhurried))
		waiter := begin(t, newLock(t, closed, name, unhurried))
		awaitLine(t, client, name, 1)
		_ = closed.Close()
		wantErr(t, "a wait whose client is closed", waiter.ended(t), redis.ErrClosed)
		release(t, h)
		wantNoKeys(t, client, name)
	})
}
