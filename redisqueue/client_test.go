package redisqueue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// works takes a queue through its life with a client: items that are there and
// items that are waited for, a full queue, a claim that is renewed, an item that comes again,
// a loss, Join, a Writer, the end.
func works(t *testing.T, s *redistest.Server, client redis.UniversalClient, opts redisqueue.Options) {
	t.Helper()
	name := redistest.Name(t)
	opts.TTL, opts.MaxSize = short, 2
	direct := s.Client(t)
	q, other := newQueue[int](t, client, name, &opts), newQueue[int](t, direct, name, bounded(2))
	put(t, q, 1, 2)
	wantFull(t, q, 3)
	parked := beginPut(t, q, 3)
	awaitCounts(t, other, counts{waiting: 2, parked: 1})
	gaveUp := beginPut(t, q, -1)
	awaitCounts(t, other, counts{waiting: 2, parked: 2})
	gaveUp.cancel()
	wantErr(t, "a cancelled Put", gaveUp.fails(t, "Put"), errCanceled)
	awaitCounts(t, other, counts{waiting: 2, parked: 1})
	wantGot(t, other, 1)
	parked.returns(t, "Put")
	wantGot(t, q, 2, 3)
	wantEmpty(t, q)

	getting := begin(t, q.Get)
	pause(50*time.Millisecond, getting.over)
	put(t, other, 4)
	if v := getting.returns(t, "Get"); v != 4 {
		t.Errorf("Get should return 4, got %d", v)
	}
	getting = begin(t, q.Get)
	pause(50*time.Millisecond, getting.over)
	getting.cancel()
	wantErr(t, "a cancelled Get", getting.fails(t, "Get"), errCanceled)
	receiving := beginReceive(t, q)
	pause(50*time.Millisecond, receiving.over)
	put(t, other, 5)
	d := receiving.returns(t, "Receive")
	pause(2*short, d.Done())
	wantHeld(t, d)
	joining := beginErr(t, q.Join)
	nack(t, d, 30*time.Millisecond)
	ack(t, wantReceived(t, q, 5, 2))
	joining.returns(t, "Join")

	w := buffered(t, q, 10)
	for i := range 5 {
		if err := w.Put(soonCtx(t), i); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		wantGot(t, other, i)
	}
	if err := w.Close(soonCtx(t)); err != nil {
		t.Errorf("Close should return nil, got %v", err)
	}

	put(t, other, 6)
	d = receive(t, q)
	remove(t, other)
	wantLost(t, d)
	getting, receiving = begin(t, q.Get), beginReceive(t, q)
	pause(50*time.Millisecond, getting.over)
	shutdown(t, other)
	wantErr(t, "Get of a queue that was shut down", getting.fails(t, "Get"), redisqueue.ErrShutdown)
	wantErr(t, "Receive of a queue that was shut down", receiving.fails(t, "Receive"), redisqueue.ErrShutdown)
	remove(t, q)
}

func TestAClientThatSpeaksRESP2(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		works(t, s, s.Client(t, func(o *redis.UniversalOptions) { o.Protocol = 2 }), redisqueue.Options{})
	})
}

func TestAClientWithAPoolOfOneOrTwo(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 2} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, s *redistest.Server) {
				works(t, s, s.Client(t, func(o *redis.UniversalOptions) { o.PoolSize = size }), redisqueue.Options{})
			})
		})
	}
}

func TestAControlClientCarriesTheWaits(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.SkipOn(t, s.Cluster, "a ControlClient is for a single node")
		mine, control := redistest.NewWire(t), redistest.NewWire(t)
		works(t, s, s.Client(t, mine.Through), redisqueue.Options{ControlClient: s.Client(t, control.Through)})
		if sent := mine.Counts(); sent["BLPOP"] > 0 || sent["BLMOVE"] > 0 || sent["SUBSCRIBE"] > 0 {
			t.Errorf("with a ControlClient the other should carry no waits, it sent %v", sent)
		}
		if sent := control.Counts(); sent["BLPOP"] == 0 || sent["BLMOVE"] == 0 || sent["SUBSCRIBE"] == 0 {
			t.Errorf("the ControlClient should carry the waits, it sent %v", sent)
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
	for what, wrap := range map[string]func(redis.UniversalClient) redis.UniversalClient{
		"a pointer to a struct":             func(c redis.UniversalClient) redis.UniversalClient { return &wrapped{c.(*redis.Client), "mine"} },
		"a struct with an interface inside": func(c redis.UniversalClient) redis.UniversalClient { return hidden{c} },
	} {
		t.Run(what, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, s *redistest.Server) {
				s.SkipOn(t, s.Cluster, "nobody can see that an own type is a cluster client")
				works(t, s, wrap(s.Client(t)), redisqueue.Options{})
			})
		})
	}
}

// occupy takes the whole pool of a client.
func occupy(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	c := client.(*redis.Client)
	for range c.Options().PoolSize {
		conn := c.Conn()
		t.Cleanup(func() { _ = conn.Close() })
		if err := conn.Ping(soonCtx(t)).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnOccupiedPoolKeepsNothingUp(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.SkipOn(t, s.Cluster, "a connection cannot be kept")
		name := redistest.Name(t)
		client := s.Client(t, func(o *redis.UniversalOptions) { o.PoolSize = 2 })
		q, other := newQueue[int](t, client, name, &redisqueue.Options{TTL: short}), newQueue[int](t, s.Client(t), name, unhurried)
		put(t, other, 1)
		d := receive(t, q)
		occupy(t, client)
		thief := beginReceive(t, other)
		pause(2*short, d.Done())
		wantHeld(t, d) // the heartbeats go on
		thief.wantWaiting(t, "Receive of what another holds")
		thief.cancel()
		await(t, thief.over, "the end of Receive")
		ack(t, d)
		getting := begin(t, q.Get)
		put(t, other, 2)
		if v := getting.returns(t, "Get"); v != 2 {
			t.Errorf("Get should return 2, got %d", v)
		}
		put(t, q, 3)
		wantGot(t, q, 3)
		remove(t, q)
	})
}

func TestWaitsTakeNoSlotOfThePool(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t, func(o *redis.UniversalOptions) { o.PoolSize = 2 })
		full := newQueue[int](t, client, name+"full", bounded(1))
		put(t, full, 0)
		var heard journal
		opts := &redisqueue.Options{TTL: time.Minute, Observe: heard.note}
		var cancels []context.CancelFunc
		for range 20 {
			cancels = append(cancels,
				begin(t, newQueue[int](t, client, name, opts).Get).cancel,
				beginReceive(t, newQueue[int](t, client, name, opts)).cancel,
				beginPut(t, full, 1).cancel,
				beginErr(t, full.Join).cancel)
		}
		heard.awaitKind(t, redisqueue.Waiting, 40)
		awaitCounts(t, full, counts{waiting: 1, parked: 20})
		for range 20 {
			if err := client.Get(soonCtx(t), "no-such-key").Err(); !errors.Is(err, redis.Nil) {
				t.Fatalf("the program's own commands should find a connection, got %v", err)
			}
		}
		if n := client.PoolStats().Timeouts; n > 0 {
			t.Errorf("nobody should have waited for the pool in vain, %d did", n)
		}
		for _, cancel := range cancels {
			cancel()
		}
		awaitCounts(t, full, counts{waiting: 1})
		remove(t, full)
		remove(t, newQueue[int](t, client, name, opts))
		noLeaks(t, s, name)
	})
}

func TestForgottenScriptsAreSentAgain(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		flusher := s.Client(t)
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				default:
				}
				eachNode(t, flusher, func(ctx context.Context, node *redis.Client) error { return node.ScriptFlush(ctx).Err() })
				pause(time.Millisecond, stop)
			}
		}()
		works(t, s, s.Client(t), redisqueue.Options{})
		close(stop)
		<-stopped
	})
}

// Full memory must not keep anything from being taken, finished or given back.
func TestFullMemoryKeepsNothingFromBeingGivenBack(t *testing.T) {
	own := redistest.StartOwn(t, "--maxmemory-policy", "noeviction")
	name := redistest.Name(t)
	client := own.Client(t)
	opts := &redisqueue.Options{TTL: short, MaxSize: 8}
	w := redistest.NewWire(t)
	q, dies := newQueue[int](t, client, name, opts), newQueue[int](t, own.Client(t, w.Through), name, opts)
	put(t, q, 0, 1, 2, 3, 4, 5, 6, 7)
	parked := beginPut(t, q, 8)
	gaveUp := beginPut(t, q, 9)
	awaitCounts(t, q, counts{waiting: 8, parked: 2})
	toLose, toAck, toNack, toDelay := receive(t, dies), receive(t, q), receive(t, q), receive(t, q)
	parked.returns(t, "Put")
	gaveUp.returns(t, "Put")
	// 4 to 9 wait.
	put(t, q, 10, 11)
	gaveUp = beginPut(t, q, 12)
	awaitCounts(t, q, counts{waiting: 8, parked: 1, claimed: 4})

	limit := func(bytes string) {
		if err := client.ConfigSet(soonCtx(t), "maxmemory", bytes).Err(); err != nil {
			t.Fatal(err)
		}
	}
	limit("1") // every byte is one too many
	if err := newQueue[int](t, client, name+"new", nil).Put(soonCtx(t), 1); err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("Put should say that the memory is full, got %v", err)
	}
	gaveUp.cancel()
	wantErr(t, "a cancelled Put", gaveUp.fails(t, "Put"), errCanceled)
	awaitCounts(t, q, counts{waiting: 8, claimed: 4})
	pause(short, toAck.Done()) // across heartbeats
	ack(t, toAck)
	nack(t, toNack, 0)
	nack(t, toDelay, 50*time.Millisecond)
	wantGot(t, q, toNack.Value(), 4)
	w.Down()
	await(t, toLose.Done(), "the loss of an item")
	seen := map[int]bool{}
	for range 9 {
		d := receive(t, q)
		seen[d.Value()] = true
		ack(t, d)
	}
	if !seen[toLose.Value()] || !seen[toDelay.Value()] {
		t.Errorf("what was lost and what was delayed should come again, got %v", seen)
	}
	wantCounts(t, q, counts{})
	wantEmpty(t, q)
	limit("0")
	remove(t, q)
	redistest.NoLeaks(t, own.Server, name, append(late, ":about")...)
}
