package redislock_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

// works takes a lock through its life with a client: a turn alone, a renewal,
// a wait that is handed the lock by another process, one passed on, a loss.
func works(t *testing.T, s *redistest.Server, client redis.UniversalClient, opts redislock.Options) {
	t.Helper()
	name := redistest.Name(t)
	direct := s.Client(t)
	other := newLock(t, direct, name, unhurried)
	opts.TTL = short
	l := newLock(t, client, name, &opts)

	h := acquire(t, l)
	wantTaken(t, other)
	first := h.Deadline()
	redistest.EventuallyTrue(t, soon, "the lease is renewed", func() bool { return h.Deadline().After(first) })
	release(t, h)

	h = take(t, other)
	wantTaken(t, l)
	one, two := begin(t, l), begin(t, l)
	awaitLine(t, direct, name, 1)
	release(t, h)
	for range 2 {
		select {
		case <-one.over:
			release(t, one.granted(t))
			one = two
		case <-two.over:
			release(t, two.granted(t))
			two = one
		case <-time.After(soon):
			t.Fatal("both who wait should have their turns")
		}
	}
	waiter := begin(t, l)
	h = waiter.granted(t)
	if err := direct.Del(soonCtx(t), key(name, "")).Err(); err != nil {
		t.Fatal(err)
	}
	wantLost(t, h)
	wantErr(t, "Release after the loss", h.Release(soonCtx(t)), redislock.ErrLost)
	wantNoKeys(t, direct, name)
}

func TestAClientThatSpeaksRESP2(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		works(t, s, s.Client(t, func(o *redis.UniversalOptions) { o.Protocol = 2 }), redislock.Options{})
	})
}

func TestAControlClientCarriesEverything(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.SkipOn(t, s.Cluster, "a ControlClient is for a single node")
		mine, control := redistest.NewWire(t), redistest.NewWire(t)
		client := s.Client(t, mine.Through)
		works(t, s, client, redislock.Options{ControlClient: s.Client(t, control.Through)})
		if sent := mine.Counts(); sent["EVALSHA"] > 0 || sent["EVAL"] > 0 || sent["SUBSCRIBE"] > 0 {
			t.Errorf("with a ControlClient the other should be left alone, it sent %v", sent)
		}
		if sent := control.Counts(); sent["EVALSHA"] == 0 || sent["SUBSCRIBE"] == 0 {
			t.Errorf("the ControlClient should carry scripts and subscriptions, it sent %v", sent)
		}
	})
}

// wrapped is what a program makes that counts, traces or names its clients.
type wrapped struct {
	*redis.Client
	name string
}

// hidden does not let anybody ask for its options.
type hidden struct{ redis.UniversalClient }

func TestATypeOfTheProgramsOwnMayBeTheClient(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.SkipOn(t, s.Cluster, "nobody can see that an own type is a cluster client")
		for what, wrap := range map[string]func(redis.UniversalClient) redis.UniversalClient{
			"a pointer to a struct":             func(c redis.UniversalClient) redis.UniversalClient { return &wrapped{c.(*redis.Client), "mine"} },
			"a struct with an interface inside": func(c redis.UniversalClient) redis.UniversalClient { return hidden{c} },
		} {
			t.Run(what, func(t *testing.T) { works(t, s, wrap(s.Client(t)), redislock.Options{}) })
		}
	})
}

func TestADatabaseOfItsOwn(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.SkipOn(t, s.Cluster, "a cluster has one database")
		name := redistest.Name(t)
		zero, three := s.Client(t), s.Client(t, func(o *redis.UniversalOptions) { o.DB = 3 })
		// Pub/sub crosses databases, locks do not.
		h0, h3 := take(t, newLock(t, zero, name, unhurried)), take(t, newLock(t, three, name, unhurried))
		wait0, wait3 := begin(t, newLock(t, s.Client(t), name, unhurried)),
			begin(t, newLock(t, s.Client(t, func(o *redis.UniversalOptions) { o.DB = 3 }), name, unhurried))
		awaitLine(t, zero, name, 1)
		awaitLine(t, three, name, 1)
		release(t, h3)
		h3 = wait3.granted(t)
		wait0.wantWaiting(t)
		release(t, h0)
		release(t, wait0.granted(t))
		release(t, h3)
	})
}

func TestAnOccupiedPoolKeepsNothingUp(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.SkipOn(t, s.Cluster, "a connection cannot be kept")
		for _, used := range []string{"held", "awaited"} {
			t.Run(used, func(t *testing.T) {
				name := redistest.Name(t)
				direct := s.Client(t)
				client := s.Client(t, func(o *redis.UniversalOptions) { o.PoolSize = 1 })
				l := newLock(t, client, name, &redislock.Options{TTL: short})
				var h *redislock.Lease
				if used == "held" {
					h = take(t, l)
				}
				conn := client.(*redis.Client).Conn()
				defer conn.Close()
				if err := conn.Ping(soonCtx(t)).Err(); err != nil {
					t.Fatal(err)
				}
				// The one connection of the pool is gone now.
				if used == "held" {
					release(t, h)
				}
				h = take(t, newLock(t, direct, name, unhurried))
				waiter := begin(t, l)
				awaitLine(t, direct, name, 1)
				release(t, h)
				h = waiter.granted(t)
				first := h.Deadline()
				redistest.EventuallyTrue(t, soon, "the lease is renewed", func() bool {
					wantHeld(t, h)
					return h.Deadline().After(first)
				})
				release(t, h)
				wantFree(t, newLock(t, direct, name, nil))
			})
		}
	})
}

func TestWaitsTakeNoSlotOfThePool(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t, func(o *redis.UniversalOptions) { o.PoolSize = 2 })
		h := take(t, newLock(t, s.Client(t), name, unhurried))
		var heard journal
		for range 50 {
			begin(t, newLock(t, client, name, &redislock.Options{TTL: time.Minute, Observe: heard.note}))
		}
		heard.awaitKind(t, redislock.Waiting, 50)
		for range 20 {
			ctx, cancel := context.WithTimeout(context.Background(), soon)
			if err := client.Get(ctx, key(name, "")).Err(); err != nil {
				t.Errorf("the program's own commands should find a connection, got %v", err)
			}
			cancel()
		}
		release(t, h)
	})
}

// eachNode runs a command on every node that has scripts.
func eachNode(t *testing.T, client redis.UniversalClient, do func(context.Context, *redis.Client) error) {
	t.Helper()
	var err error
	switch c := client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(soonCtx(t), do)
	case *redis.Client:
		err = do(soonCtx(t), c)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestForgottenScriptsAreSentAgain(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		flush := func() {
			eachNode(t, client, func(ctx context.Context, node *redis.Client) error { return node.ScriptFlush(ctx).Err() })
		}
		l, other := newLock(t, s.Client(t), name, &redislock.Options{TTL: short}), newLock(t, client, name, unhurried)
		flush()
		h := take(t, l)
		flush()
		first := h.Deadline()
		redistest.EventuallyTrue(t, soon, "the lease is renewed", func() bool { return h.Deadline().After(first) })
		flush()
		waiter := begin(t, other)
		awaitLine(t, client, name, 1)
		flush()
		release(t, h)
		h = waiter.granted(t)
		flush()
		wantTaken(t, l)
		flush()
		if got := state(t, l); got.Token != h.Token() {
			t.Errorf("State should work after SCRIPT FLUSH, got %+v", got)
		}
		release(t, h)
		flush()
		if err := l.Delete(soonCtx(t)); err != nil {
			t.Errorf("Delete should work after SCRIPT FLUSH, got %v", err)
		}
	})
}

func TestFullMemoryDoesNotKeepALockFromBeingGivenBack(t *testing.T) {
	own := redistest.StartOwn(t, "--maxmemory-policy", "noeviction")
	name := redistest.Name(t)
	client := own.Client(t)
	// Locks that are held, awaited by another process, and awaited inside one.
	alone := take(t, newLock(t, client, name+"alone", &redislock.Options{TTL: short}))
	h := take(t, newLock(t, client, name, unhurried))
	var heard journal
	l := newLock(t, own.Client(t), name, &redislock.Options{TTL: short, Observe: heard.note})
	line := []*attempt{begin(t, l)}
	awaitLine(t, client, name, 1)
	line = append(line, begin(t, newLock(t, own.Client(t), name, unhurried)))
	awaitLine(t, client, name, 2)
	gaveUp := begin(t, newLock(t, own.Client(t), name, unhurried))
	awaitLine(t, client, name, 3)
	resting := take(t, newLock(t, client, name+"rests", &redislock.Options{MinHold: brief}))
	waitsForRest := begin(t, newLock(t, own.Client(t), name+"rests", unhurried))
	awaitLine(t, client, name+"rests", 1)

	limit := func(bytes string) {
		if err := client.ConfigSet(soonCtx(t), "maxmemory", bytes).Err(); err != nil {
			t.Fatal(err)
		}
	}
	limit("1") // every byte is one too many
	fresh := newLock(t, client, name+"new", nil)
	for what, call := range calls(t) {
		if err := call(soonCtx(t), fresh); strings.Contains(what, "Acquire") && (err == nil || !strings.Contains(err.Error(), "OOM")) {
			t.Errorf("%s of a new lock should say that the memory is full, got %v", what, err)
		}
	}
	first := alone.Deadline()
	redistest.EventuallyTrue(t, soon, "a lease is renewed in full memory", func() bool {
		wantHeld(t, alone)
		return alone.Deadline().After(first)
	})
	gaveUp.cancel()
	wantErr(t, "a cancelled wait", gaveUp.ended(t), context.Canceled)
	release(t, alone)
	release(t, resting)
	release(t, waitsForRest.granted(t))
	token := h.Token()
	for i, next := range line {
		release(t, h)
		h = next.granted(t)
		if h.Token() <= token {
			t.Errorf("tokens should grow in full memory, it was %d and is %d", token, h.Token())
		}
		token = h.Token()
		if i == 0 {
			first := h.Deadline()
			redistest.EventuallyTrue(t, soon, "a lease that was handed over is renewed in full memory", func() bool {
				wantHeld(t, h)
				return h.Deadline().After(first)
			})
		}
	}
	release(t, h)
	for _, n := range []string{name, name + "alone", name + "rests"} {
		got, err := newLock(t, client, n, nil).State(soonCtx(t))
		if err != nil || got.Held || got.Waiters != 0 {
			t.Errorf("the lock %s should be free and awaited by nobody, got %+v, %v", n, got, err)
		}
	}
	limit("0")
	redistest.NoLeaks(t, own.Server, name, ":fence", ":ended")
	wantFree(t, fresh)
}
