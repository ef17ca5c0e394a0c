package redisqueue_test

import (
	"strings"
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

type queueItem = redistest.QueueItem

// A process that was paused for longer than its TTL is told as soon as it runs
// again, and its item has come again meanwhile.
func TestAPausedConsumerHearsThatItsItemIsLost(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[queueItem](t, s.Client(t), name, &redisqueue.Options{TTL: short})
		put(t, q, queueItem{Number: 1}, queueItem{Number: 2})
		c := start(t, s, role{Do: "hold", Name: name, TTL: short})
		if line := c.line(t); line != "1 1" {
			t.Fatalf("the child should receive the first item, got %q", line)
		}
		c.tell(t, "err")
		if line := c.line(t); line != "done" {
			t.Fatalf("the delivery should stand, its Err is %s", line)
		}
		redistest.PauseProcess(t, c.cmd.Process)
		d := wantReceived(t, q, queueItem{Number: 2}, 1)
		again := wantReceived(t, q, queueItem{Number: 1}, 2)
		redistest.ResumeProcess(t, c.cmd.Process)
		for ask, want := range map[string]string{"err": "lost", "done": "over", "ack": "lost"} {
			c.tell(t, ask)
			if line := c.line(t); line != want {
				t.Errorf("after the pause %s should say %s, got %s", ask, want, line)
			}
		}
		wantHeld(t, again)
		wantCounts(t, q, counts{claimed: 2})
		ack(t, again)
		ack(t, d)
		wantCounts(t, q, counts{})
		c.kill()
		remove(t, q)
	})
}

// The same when nobody else wants the item: it waits, and the consumer is told
// all the same.
func TestAPausedConsumerHearsOfItWithoutAnybodyElse(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[queueItem](t, s.Client(t), name, &redisqueue.Options{TTL: short})
		put(t, q, queueItem{Number: 1})
		c := start(t, s, role{Do: "hold", Name: name, TTL: short})
		c.line(t)
		redistest.PauseProcess(t, c.cmd.Process)
		<-time.NewTimer(short + short/2).C
		redistest.ResumeProcess(t, c.cmd.Process)
		c.tell(t, "ack")
		if line := c.line(t); line != "lost" {
			t.Errorf("Ack after a pause longer than the TTL should say ErrLost, got %s", line)
		}
		ack(t, wantReceived(t, q, queueItem{Number: 1}, 2))
		c.kill()
		remove(t, q)
	})
}

func TestAKilledConsumersItemsComeBackInOrder(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[queueItem](t, s.Client(t), name, &redisqueue.Options{TTL: short})
		var holders []*member
		for i := range 3 {
			put(t, q, queueItem{Number: i + 1})
			c := start(t, s, role{Do: "hold", Name: name, TTL: short})
			if line := c.line(t); !strings.HasPrefix(line, string(rune('1'+i))) {
				t.Fatalf("a child should receive item %d, got %q", i+1, line)
			}
			holders = append(holders, c)
		}
		put(t, q, queueItem{Number: 4})
		s2 := state(t, q)
		if len(s2.Consumers) != 3 || s2.Claimed != 3 {
			t.Errorf("State should tell of 3 consumers with an item each, got %+v", s2)
		}
		start := time.Now()
		holders[1].kill()
		waiter := wantReceived(t, q, queueItem{Number: 4}, 1)
		back := wantReceived(t, q, queueItem{Number: 2}, 2)
		if after := time.Since(start); after > short+soon/2 {
			t.Errorf("the item should come back after the TTL of %v, it took %v", short, after)
		}
		ack(t, waiter)
		ack(t, back)
		for _, i := range []int{0, 2} {
			holders[i].tell(t, "ack")
			if line := holders[i].line(t); line != "done" {
				t.Errorf("a consumer that lives should keep its item, Ack said %s", line)
			}
			holders[i].kill()
		}
		wantCounts(t, q, counts{})
		remove(t, q)
	})
}

func TestADeadConsumerUsesUpItsDeliveries(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		const ttl = 300 * time.Millisecond
		q := newQueue[queueItem](t, s.Client(t), name, &redisqueue.Options{TTL: ttl, MaxDeliveries: 2})
		put(t, q, queueItem{Number: 1})
		for i := range 2 {
			c := start(t, s, role{Do: "hold", Name: name, TTL: ttl, MaxDeliveries: 2})
			if line := c.line(t); line != []string{"1 1", "1 2"}[i] {
				t.Fatalf("a child should receive the item, got %q", line)
			}
			c.kill()
		}
		waiter := beginReceive(t, q) // sweeps
		awaitCounts(t, q, counts{dead: 1})
		waiter.wantWaiting(t, "Receive of a queue whose one item is dead")
		waiter.cancel()
		remove(t, q)
	})
}

// What a killed process wanted to put is put when there is room, or not at
// all; it keeps nobody up and no room.
func TestAKilledPutterKeepsNobodyUp(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[queueItem](t, s.Client(t), name, bounded(1))
		put(t, q, queueItem{Number: 1})
		c := start(t, s, role{Do: "park", Name: name, TTL: time.Minute, MaxSize: 1, Goroutines: 7})
		awaitCounts(t, q, counts{waiting: 1, parked: 1})
		mine := beginPut(t, q, queueItem{Number: 2})
		awaitCounts(t, q, counts{waiting: 1, parked: 2})
		c.kill()
		wantGot(t, q, queueItem{Number: 1})
		v := get(t, q)
		if v.Producer == 7 {
			v = get(t, q)
		}
		if v.Number != 2 {
			t.Errorf("the Put behind should come next, got %+v", v)
		}
		mine.returns(t, "Put")
		wantEmpty(t, q)
		put(t, q, queueItem{Number: 3})
		wantFull(t, q, queueItem{Number: 4})
		wantGot(t, q, queueItem{Number: 3})
		wantCounts(t, q, counts{})
		remove(t, q)
		noLeaks(t, s, name)
	})
}

func TestAPanicAtWorkGivesTheItemBackAndIsNotRecovered(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		q := newQueue[queueItem](t, s.Client(t), name, unhurried)
		put(t, q, queueItem{Number: 1})
		c := start(t, s, role{Do: "panic", Name: name, TTL: time.Minute})
		if line := c.line(t); line != "1 1" {
			t.Fatalf("the child should work on the item, got %q", line)
		}
		await(t, c.over, "the end of a child that panics")
		if c.err == nil || c.cmd.ProcessState.ExitCode() != 2 {
			t.Errorf("the child should panic, it ended with %v", c.err)
		}
		// At once, not when the TTL of a minute has ended.
		ack(t, wantReceived(t, q, queueItem{Number: 1}, 2))
		remove(t, q)
		noLeaks(t, s, name)
	})
}
