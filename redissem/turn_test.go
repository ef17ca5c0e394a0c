package redissem_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redissem"
)

func TestSoManyPermitsAndNoMore(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		for _, limit := range []int{1, 2, 7} {
			name := fmt.Sprint(name, "-", limit)
			a, b := newSem(t, s.Client(t), name, limit, unhurried), newSem(t, s.Client(t), name, limit, unhurried)
			ids := map[string]bool{}
			var all []*redissem.Permit
			for i := range limit {
				h := take(t, []*redissem.Semaphore{a, b}[i%2])
				ids[h.ID()] = true
				all = append(all, h)
			}
			wantTaken(t, a)
			wantTaken(t, b)
			if len(ids) != limit {
				t.Errorf("each permit should have an id of its own, got %v", ids)
			}
			if got := state(t, a); got.Waiters != 0 || got.Held != limit {
				t.Errorf("a TryAcquire should not stand in line, got %+v", got)
			}
			release(t, all[0])
			release(t, take(t, b))
			for _, h := range all[1:] {
				release(t, h)
			}
			wantFree(t, b, limit)
			redistest.NoLeaks(t, s, name, ":limit")
		}
	})
}

func TestAReleaseServesTheNextProcessAtOnceAndInTheirOrder(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		holder := newSem(t, client, name, 2, unhurried)
		held := []*redissem.Permit{take(t, holder), take(t, holder)}
		var heard journal
		var line []*attempt
		for i := range 4 {
			next := newSem(t, s.Client(t), name, 2, &redissem.Options{TTL: time.Minute, Observe: heard.note})
			line = append(line, begin(t, next))
			awaitLine(t, client, name, i+1)
		}
		for i, next := range line {
			// Nothing ends by itself in a minute, and nobody looks before: that it
			// comes soon means that it was told.
			release(t, held[0])
			held = append(held[1:], next.granted(t))
			for _, later := range line[i+1:] {
				later.wantWaiting(t)
			}
		}
		for _, h := range held {
			release(t, h)
		}
		redistest.EventuallyTrue(t, soon, "each turn is observed as handed over", func() bool {
			return heard.count(by(redissem.HandedOver)) == len(line)
		})
		redistest.NoLeaks(t, s, name, ":limit")
	})
}

func TestTryAcquireDoesNotBargePastTheLine(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		sem := newSem(t, client, name, 2, unhurried)
		first, second := take(t, sem), take(t, sem)
		waiter := begin(t, newSem(t, s.Client(t), name, 2, unhurried))
		awaitLine(t, client, name, 1)
		// A permit becomes free, and nobody tells the one who waits.
		ticket, _, _ := cut(first.ID())
		if err := client.ZRem(soonCtx(t), key(name, ""), ticket).Err(); err != nil {
			t.Fatal(err)
		}
		wantTaken(t, newSem(t, s.Client(t), name, 2, unhurried))
		release(t, waiter.granted(t))
		release(t, second)
		wantErr(t, "the release of a permit that was taken away", first.Release(soonCtx(t)), redissem.ErrLost)
	})
}

func TestTheWaitersOfAProcessAreServedInTheirOrder(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		held := take(t, newSem(t, s.Client(t), name, 1, unhurried))
		var heard journal
		sem := newSem(t, client, name, 1, &redissem.Options{TTL: time.Minute, Observe: heard.note})
		var line []*attempt
		for i := range 20 {
			line = append(line, begin(t, sem))
			heard.awaitKind(t, redissem.Waiting, i+1)
		}
		release(t, held)
		for i, a := range line {
			h := a.granted(t)
			for _, later := range line[i+1:] {
				later.wantWaiting(t)
			}
			release(t, h)
		}
	})
}

func TestAPermitIsPassedOnInsideAProcessWithoutRedis(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		const n = 50
		w := redistest.NewWire(t)
		var heard journal
		through := redistest.BubbleClient(t, m, w.ThroughBubble)
		sem := newSem(t, through, "busy", 2, &redissem.Options{TTL: time.Minute, Observe: heard.note})
		other := newSem(t, client, "busy", 2, unhurried)
		held := []*redissem.Permit{take(t, other), take(t, other)}
		var wg sync.WaitGroup
		var inside, most atomic.Int32
		ids := map[string]bool{}
		var mu sync.Mutex
		for range n {
			wg.Go(func() {
				h, err := sem.Acquire(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				for now := inside.Add(1); ; {
					if old := most.Load(); now <= old || most.CompareAndSwap(old, now) {
						break
					}
				}
				mu.Lock()
				ids[h.ID()] = true
				mu.Unlock()
				inside.Add(-1)
				release(t, h)
			})
		}
		time.Sleep(time.Second)
		w.ResetCounts()
		for _, h := range held {
			release(t, h)
		}
		wg.Wait()
		time.Sleep(time.Second)
		if len(ids) != n || most.Load() > 2 {
			t.Errorf("%d turns should have an id each and be at most two at a time, got %d ids, %d at a time", n, len(ids), most.Load())
		}
		counts := w.Counts()
		scripts := counts["EVALSHA"] + counts["EVAL"]
		if passed := heard.count(by(redissem.PassedOn)); passed < n-4 || scripts > 12 {
			t.Errorf("%d turns should be passed on, all but a few, got %d, with %d scripts", n, passed, scripts)
		}
	})
}

// A process passes a permit on as often as it likes while no other stands in line,
// and soon hands it over when one does: at once if it is told, with the next renewal
// if the message is lost.
func TestPassingOnLeavesOthersTheirTurn(t *testing.T) {
	const handoffs, n = 3, 40
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprint("message lost ", lost), func(t *testing.T) {
			redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
				w := redistest.NewWire(t)
				opts := &redissem.Options{TTL: 3 * time.Second, LocalHandoffs: handoffs}
				busy := newSem(t, redistest.BubbleClient(t, m, w.ThroughBubble), "busy", 1, opts)
				other := newSem(t, client, "busy", 1, opts)
				held := take(t, busy)
				turns := make(chan *redissem.Semaphore, n+1)
				var wg sync.WaitGroup
				turn := func(sem *redissem.Semaphore) {
					wg.Go(func() {
						h, err := sem.Acquire(soonCtx(t))
						if err != nil {
							t.Errorf("Acquire should succeed, got %v", err)
							return
						}
						turns <- sem
						release(t, h)
					})
				}
				for range n {
					turn(busy)
				}
				synctest.Wait()
				if lost {
					w.DropMessages("wanted")
				}
				turn(other)
				synctest.Wait()
				if lost {
					time.Sleep(1500 * time.Millisecond)
				}
				release(t, held)
				wg.Wait()
				close(turns)
				before := 0
				for sem := range turns {
					if sem == other {
						break
					}
					before++
				}
				// Those of the permit that was held when the other came, and of the one
				// that its place, which was first, gets.
				if before > handoffs+1+handoffs {
					t.Errorf("with %d LocalHandoffs the other process should soon have its turn, it came after %d turns", handoffs, before)
				}
			})
		})
	}
}

func TestManyTurnsOfManyProcesses(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		const limit = 3
		name := redistest.Name(t)
		var wg sync.WaitGroup
		var inside atomic.Int32
		turns := func(sem *redissem.Semaphore) error {
			for range 20 {
				h, err := sem.Acquire(soonCtx(t))
				if err != nil {
					return err
				}
				if n := inside.Add(1); n > limit {
					err = fmt.Errorf("%d holders at a time", n)
				}
				inside.Add(-1)
				if err := errors.Join(err, h.Release(soonCtx(t))); err != nil {
					return err
				}
			}
			return nil
		}
		for range 4 {
			sem := newSem(t, s.Client(t), name, limit, unhurried)
			for range 8 {
				wg.Go(func() {
					if err := turns(sem); err != nil {
						t.Errorf("each turn should come soon, and be one of at most %d: %v", limit, err)
					}
				})
			}
		}
		wg.Wait()
		wantNoKeys(t, s.Client(t), name)
	})
}

func TestACancelledWaitLeavesNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		held := take(t, newSem(t, client, name, 1, unhurried))
		sem := newSem(t, s.Client(t), name, 1, unhurried)
		for range 3 {
			var line []*attempt
			for range 10 {
				line = append(line, begin(t, sem))
			}
			awaitLine(t, client, name, 1)
			for _, a := range line {
				a.cancel()
				_ = a.ended(t)
			}
		}
		release(t, held)
		redistest.NoLeaks(t, s, name, ":limit", ":ended")
		wantFree(t, sem, 1)
	})
}
