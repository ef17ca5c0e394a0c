package redissem_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redissem"
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
		limit  int
		opts   redissem.Options
		says   string // what is allowed
	}{
		{"a negative limit", client, "x", -1, redissem.Options{}, "0 to 1000000"},
		{"the least limit", client, "x", -1 << 63, redissem.Options{}, "0 to 1000000"},
		{"a limit of more than a million", client, "x", 1_000_001, redissem.Options{}, "0 to 1000000"},
		{"an OnMismatch that is none", client, "x", 1, redissem.Options{OnMismatch: 3}, "Refuse, Adopt and Replace"},
		{"a negative OnMismatch", client, "x", 1, redissem.Options{OnMismatch: -1}, "Refuse, Adopt and Replace"},

		{"an empty name", client, "", 1, redissem.Options{}, name},
		{"a name of 513 bytes", client, strings.Repeat("x", 513), 1, redissem.Options{}, "512 bytes"},
		{"a name of 171 characters with 513 bytes", client, strings.Repeat("語", 171), 1, redissem.Options{}, "512 bytes"},
		{"a name with a newline", client, "a\nb", 1, redissem.Options{}, "without control characters"},
		{"a name with a zero", client, "a\x00", 1, redissem.Options{}, "without control characters"},
		{"a name with DEL", client, "a\x7f", 1, redissem.Options{}, "without control characters"},
		{"a name with a control character of two bytes", client, "a\u0085", 1, redissem.Options{}, "without control characters"},
		{"a name that is not UTF-8", client, "a\xff", 1, redissem.Options{}, "UTF-8"},
		{"a namespace of 513 bytes", client, "x", 1, redissem.Options{Namespace: strings.Repeat("x", 513)}, "512 bytes"},
		{"a namespace with a newline", client, "x", 1, redissem.Options{Namespace: "a\nb"}, "without control characters"},
		{"a namespace that is not UTF-8", client, "x", 1, redissem.Options{Namespace: "\xc3"}, "UTF-8"},

		{"a TTL of 9 ms", client, "x", 1, redissem.Options{TTL: 9 * time.Millisecond}, ttl},
		{"a TTL just below 10 ms", client, "x", 1, redissem.Options{TTL: 10*time.Millisecond - 1}, ttl},
		{"a negative TTL", client, "x", 1, redissem.Options{TTL: -time.Second}, ttl},
		{"a TTL of more than a year", client, "x", 1, redissem.Options{TTL: 365*24*time.Hour + 1}, ttl},
		{"the longest duration as TTL", client, "x", 1, redissem.Options{TTL: 1<<63 - 1}, ttl},
		{"a Margin as long as the TTL", client, "x", 1, redissem.Options{TTL: time.Second, Margin: time.Second}, "less than TTL, 1s"},
		{"a Margin longer than the default TTL", client, "x", 1, redissem.Options{Margin: time.Minute}, "less than TTL, 10s"},
		{"a negative Margin", client, "x", 1, redissem.Options{Margin: -1}, "more than 0"},
		{"a negative MinHold", client, "x", 1, redissem.Options{MinHold: -1}, "0 to"},
		{"a MinHold of more than a year", client, "x", 1, redissem.Options{MinHold: 1<<63 - 1}, "0 to"},
		{"a negative MaxHold", client, "x", 1, redissem.Options{MaxHold: -1}, "0, for no end, or more"},
		{"LocalHandoffs of more than 10,000", client, "x", 1, redissem.Options{LocalHandoffs: 10001}, "at most 10000"},
		{"metadata of more than 4 KiB", client, "x", 1, redissem.Options{Metadata: map[string]string{"k": strings.Repeat("v", 4096)}}, "at most 4096"},

		{"no client", nil, "x", 1, redissem.Options{}, control},
		{"a nil *redis.Client", (*redis.Client)(nil), "x", 1, redissem.Options{}, control},
		{"a nil *redis.ClusterClient", (*redis.ClusterClient)(nil), "x", 1, redissem.Options{}, control},
		{"a *redis.Ring", ring, "x", 1, redissem.Options{}, control},
		{"a nil *redis.Ring", (*redis.Ring)(nil), "x", 1, redissem.Options{}, control},
		{"a client that cannot be compared", incomparable{Client: client}, "x", 1, redissem.Options{}, control},
		{"a *redis.Ring as ControlClient", client, "x", 1, redissem.Options{ControlClient: ring}, control},
		{"a nil ControlClient with a type", client, "x", 1, redissem.Options{ControlClient: (*redis.Client)(nil)}, control},
		{"a cluster as ControlClient", client, "x", 1, redissem.Options{ControlClient: cluster}, "single node"},
		{"a ControlClient for a cluster", cluster, "x", 1, redissem.Options{ControlClient: client}, "leave it nil"},
	} {
		t.Run(c.what, func(t *testing.T) {
			l, err := redissem.New(c.client, c.name, c.limit, &c.opts)
			if err == nil || l != nil {
				t.Fatalf("New with %s should fail, got %v, %v", c.what, l, err)
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "redissem: new") {
				t.Errorf("the error should name the call and say what is allowed, %q, got %q", c.says, err)
			}
		})
	}
}

func TestNewTakesEverythingAtItsLimits(t *testing.T) {
	client := unreached(t)
	for what, opts := range map[string]*redissem.Options{
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
		"the last OnMismatch":    {OnMismatch: redissem.Replace},
	} {
		t.Run(what, func(t *testing.T) {
			for i, name := range []string{"x", " ", strings.Repeat("x", 512)} {
				limit := []int{0, 1, redissem.MaxLimit}[i]
				if _, err := redissem.New(client, name, limit, opts); err != nil {
					t.Errorf("New with %s should succeed, got %v", what, err)
				}
			}
		})
	}
}

func TestNewDoesNotKeepTheOptions(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		opts := redissem.Options{TTL: time.Minute, Metadata: map[string]string{"k": "v"}}
		l := newSem(t, s.Client(t), redistest.Name(t), 1, &opts)
		opts.TTL, opts.Metadata["k"] = time.Second, "w"
		h := take(t, l)
		if got := state(t, l).Permits[0]; got.TTL < 10*time.Second || got.Metadata["k"] != "v" {
			t.Errorf("a change of the Options after New should have no effect, State says %+v", got)
		}
		release(t, h)
	})
}

// misfits puts something of another type under each of the semaphore's keys.
var misfits = map[string]func(ctx context.Context, c redis.UniversalClient, key string) error{
	"": func(ctx context.Context, c redis.UniversalClient, key string) error {
		return c.LPush(ctx, key, "theirs").Err()
	},
	"holders": func(ctx context.Context, c redis.UniversalClient, key string) error {
		return c.Set(ctx, key, "theirs", 0).Err()
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
	"limit": func(ctx context.Context, c redis.UniversalClient, key string) error {
		return c.LPush(ctx, key, "theirs").Err()
	},
	"changes": func(ctx context.Context, c redis.UniversalClient, key string) error {
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
					err := call(soonCtx(t), newSem(t, client, name, 1, unhurried))
					taken := what == "Delete" && part == "" && errors.Is(err, redissem.ErrNotAcquired)
					if err != nil && !errors.Is(err, redissem.ErrMismatch) && !taken {
						t.Errorf("%s should work or say ErrMismatch, got %v", what, err)
					}
					if after := dump(t, client, key(name, part)); after != before {
						t.Errorf("%s should not touch what is not the semaphore's, it was %q and is %q (%v)", what, before, after, err)
					}
					if n := client.Exists(soonCtx(t), key(name, "")).Val(); err != nil && part != "" && n != 0 {
						t.Errorf("%s failed with %v, so nobody should have a permit", what, err)
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

func TestAPermitWhoseKeyBecomesAnotherTypeIsLost(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		h := take(t, newSem(t, s.Client(t), name, 1, &redissem.Options{TTL: short}))
		waiter := begin(t, newSem(t, s.Client(t), name, 1, &redissem.Options{TTL: short}))
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
		wantErr(t, "a wait for a semaphore that has become a list", waiter.ended(t), redissem.ErrMismatch)
		if got := dump(t, client, key(name, "")); got != "list theirs" {
			t.Errorf("what is not the semaphore's should stay, got %q", got)
		}
	})
}

func TestAClosedClientSaysSo(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		l := newSem(t, client, name, 1, nil)
		_ = client.Close()
		for what, call := range calls(t) {
			wantErr(t, what+" on a closed client", call(soonCtx(t), l), redis.ErrClosed)
		}
		wantFree(t, newSem(t, s.Client(t), name, 1, nil), 1)
		redistest.NoLeaks(t, s, name, ":limit")
	})
}

func TestAPermitOutlivesTheClosingOfItsClient(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		other := newSem(t, s.Client(t), name, 1, unhurried)
		for _, used := range []string{"only once", "in private too"} {
			t.Run(used, func(t *testing.T) {
				client := s.Client(t)
				l := newSem(t, client, name, 1, &redissem.Options{TTL: short})
				h := take(t, l)
				if used == "in private too" {
					first := h.Deadline()
					redistest.EventuallyTrue(t, soon, "the permit is renewed", func() bool { return h.Deadline().After(first) })
				}
				_ = client.Close()
				first := h.Deadline()
				redistest.EventuallyTrue(t, soon, "the permit is renewed after its client was closed", func() bool {
					wantHeld(t, h)
					return h.Deadline().After(first)
				})
				wantTaken(t, other)
				_, err := l.TryAcquire(soonCtx(t))
				wantErr(t, "a new call on a closed client", err, redis.ErrClosed)
				release(t, h)
				wantFree(t, other, 1)
			})
		}
	})
}

func TestAWaitEndsWhenItsClientIsClosed(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client, closed := s.Client(t), s.Client(t)
		h := take(t, newSem(t, client, name, 1, unhurried))
		waiter := begin(t, newSem(t, closed, name, 1, unhurried))
		awaitLine(t, client, name, 1)
		_ = closed.Close()
		wantErr(t, "a wait whose client is closed", waiter.ended(t), redis.ErrClosed)
		release(t, h)
		wantNoKeys(t, client, name)
	})
}
