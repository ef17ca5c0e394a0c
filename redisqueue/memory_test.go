package redisqueue_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// fill has every byte more refused from now on; the function it returns ends that.
func fill(t *testing.T, own *redistest.Own) (drain func()) {
	t.Helper()
	limit := func(bytes string) {
		if err := own.Client(t).ConfigSet(soonCtx(t), "maxmemory", bytes).Err(); err != nil {
			t.Fatal(err)
		}
	}
	limit("1")
	return func() { limit("0") }
}

// BLMOVE is refused then, and the script that claims is not: who waits asks again,
// but not all the time.
func TestAReceiveThatWaitsWithFullMemoryAsksSeldom(t *testing.T) {
	t.Parallel()
	own := redistest.StartOwn(t, "--maxmemory-policy", "noeviction")
	w := redistest.NewWire(t)
	name := redistest.Name(t)
	opts := &redisqueue.Options{TTL: short}
	q, other := newQueue[int](t, own.Client(t, w.Through), name, opts), newQueue[int](t, own.Client(t), name, opts)
	blocked := w.Watch(redistest.Is("BLMOVE"))
	waiter := beginReceive(t, q)
	blocked.Await(t)
	drain := fill(t, own)
	w.ResetCounts()
	pause(3*time.Second, waiter.over)
	if n := w.Counts()["BLMOVE"]; n < 3 || n > 30 {
		t.Errorf("in 3 s it should ask about ten times, it did %d times", n)
	}
	waiter.wantWaiting(t, "Receive with full memory")
	drain()
	put(t, other, 1)
	ack(t, waiter.returns(t, "Receive"))
	remove(t, q)
}

func TestFullMemoryKeepsNobodyFromJoining(t *testing.T) {
	t.Parallel()
	own := redistest.StartOwn(t, "--maxmemory-policy", "noeviction")
	name := redistest.Name(t)
	q := newQueue[int](t, own.Client(t), name, nil)
	for _, end := range []func(){
		func() { wantGot(t, q, 1) },
		func() { ack(t, receive(t, q)) },
	} {
		put(t, q, 1)
		drain := fill(t, own)
		var heard journal
		joining := beginErr(t, newQueue[int](t, own.Client(t), name, &redisqueue.Options{Observe: heard.note}).Join)
		redistest.Eventually(t, soon, func() error {
			select {
			case <-joining.over:
				return errors.Join(errors.New("Join should wait"), joining.err)
			default:
			}
			if n, _ := heard.count(redisqueue.Waiting); n == 0 {
				return fmt.Errorf("Join should wait")
			}
			return nil
		})
		end()
		joining.returns(t, "Join")
		drain()
	}
	remove(t, q)
}

// Where CLIENT UNBLOCK cannot be used a list of the process's own ends its BLPOP.
func TestFullMemoryKeepsACancelledGetFromNothing(t *testing.T) {
	t.Parallel()
	own := redistest.StartOwn(t, "--maxmemory-policy", "noeviction")
	q := newQueue[int](t, hidden{own.Client(t)}, redistest.Name(t), nil)
	blocked := func(n string) {
		t.Helper()
		redistest.EventuallyTrue(t, 3*time.Second, n+" clients are blocked", func() bool {
			return own.Client(t).(*redis.Client).InfoMap(soonCtx(t), "clients").Item("Clients", "blocked_clients") == n
		})
	}
	waiter := begin(t, q.Get)
	blocked("1")
	drain := fill(t, own)
	waiter.cancel()
	blocked("0") // before its 5 s are over
	drain()
	remove(t, q)
}
