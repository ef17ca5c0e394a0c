package redislock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

func TestTryAcquireSaysNoAndDoesNotStandInLine(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		holder := newLock(t, s.Client(t), name, unhurried)
		other := newLock(t, s.Client(t), name, unhurried)
		h := take(t, holder)
		wantTaken(t, other)
		wantTaken(t, holder) // not reentrant, and no passing on to one that does not wait
		state, err := other.State(soonCtx(t))
		if err != nil || state.Waiters != 0 {
			t.Errorf("nobody should wait after a TryAcquire, State says %d, %v", state.Waiters, err)
		}
		release(t, h)
		wantFree(t, other)
		redistest.NoLeaks(t, s, name, ":fence")
	})
}

func TestTryAcquireDoesNotBargePastTheLine(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		for _, who := range []string{"another process", "the process that waits"} {
			t.Run(who, func(t *testing.T) {
				name := redistest.Name(t)
				client, waits, tries := s.Client(t), s.Client(t), s.Client(t)
				if who != "another process" {
					tries = waits
				}
				take(t, newLock(t, client, name, unhurried))
				waiter := begin(t, newLock(t, waits, name, unhurried))
				awaitLine(t, client, name, 1)
				// The lock becomes free, and nobody tells the one who waits.
				if err := client.Del(soonCtx(t), key(name, "")).Err(); err != nil {
					t.Fatal(err)
				}
				wantTaken(t, newLock(t, tries, name, unhurried))
				release(t, waiter.granted(t))
			})
		}
	})
}

func TestTryAcquireIsNotStoppedByALineThatNobodyCanReach(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		w := redistest.NewWire(t)
		client := s.Client(t)
		h := take(t, newLock(t, client, name, unhurried))
		begin(t, newLock(t, s.Client(t, w.Through), name, unhurried))
		awaitLine(t, client, name, 1)
		w.Down() // the waiter's process has no connection any more
		awaitLine(t, client, name, 0)
		release(t, h)
		wantFree(t, newLock(t, client, name, unhurried))
		w.Up()
	})
}

func TestReleaseHandsOverToTheNextProcessAtOnce(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		load(t, client)
		h := take(t, newLock(t, client, name, unhurried))
		var heard journal
		var line []*attempt
		for i := range 3 {
			w := redistest.NewWire(t)
			settled := w.Watch(script(t, "check")) // the one that every new subscription sends may tell of a grant too
			l := newLock(t, s.Client(t, w.Through), name, &redislock.Options{TTL: time.Minute, Observe: heard.note})
			line = append(line, begin(t, l))
			awaitLine(t, client, name, i+1)
			settled.AwaitReply(t)
		}
		for i, next := range line {
			before := h.Token()
			release(t, h)
			h = next.granted(t)
			if h.Token() <= before {
				t.Errorf("the token should grow with each turn, it was %d and is %d", before, h.Token())
			}
			for _, later := range line[i+1:] {
				later.wantWaiting(t)
			}
		}
		release(t, h)
		redistest.EventuallyTrue(t, soon, "each turn is observed as handed over", func() bool {
			return heard.count(by(redislock.HandedOver)) == len(line)
		})
		redistest.NoLeaks(t, s, name, ":fence")
	})
}

func TestWaitersOfOneProcessAreServedInTheirOrder(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		for _, holds := range []string{"another process", "their own process"} {
			t.Run(holds, func(t *testing.T) {
				name := redistest.Name(t)
				client := s.Client(t)
				first := client
				if holds == "another process" {
					first = s.Client(t)
				}
				h := take(t, newLock(t, first, name, unhurried))
				var heard journal
				l := newLock(t, client, name, &redislock.Options{TTL: time.Minute, Observe: heard.note})
				var line []*attempt
				for i := range 20 {
					line = append(line, begin(t, l))
					heard.awaitKind(t, redislock.Waiting, i+1)
				}
				token := h.Token()
				release(t, h)
				for i, a := range line {
					h := a.granted(t)
					if h.Token() <= token {
						t.Fatalf("waiter %d should come after waiter %d, their tokens are %d and %d", i, i-1, h.Token(), token)
					}
					token = h.Token()
					for _, later := range line[i+1:] {
						later.wantWaiting(t)
					}
					release(t, h)
				}
			})
		}
	})
}

// queue lets n goroutines wait for the lock, and returns the tokens of their
// turns when all have been.
func queue(t *testing.T, l *redislock.Lock, n int) (tokens func() []uint64) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []uint64
	for range n {
		a := begin(t, l)
		wg.Go(func() {
			<-a.over
			if a.err != nil {
				t.Errorf("Acquire should succeed, got %v", a.err)
				return
			}
			mu.Lock()
			all = append(all, a.lease.Token())
			mu.Unlock()
			if err := a.lease.Release(soonCtx(t)); err != nil {
				t.Errorf("Release should return nil, got %v", err)
			}
		})
	}
	return func() []uint64 {
		over := make(chan struct{})
		go func() { wg.Wait(); close(over) }()
		await(t, over, "the turn of each who waits")
		return all
	}
}

func TestTheLockIsPassedOnInsideAProcessWithoutRedis(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		const n = 50
		w := redistest.NewWire(t)
		var heard journal
		through := redistest.BubbleClient(t, m, w.ThroughBubble)
		l := newLock(t, through, "busy", &redislock.Options{TTL: time.Minute, Observe: heard.note})
		h := take(t, newLock(t, client, "busy", unhurried))
		tokens := queue(t, l, n)
		time.Sleep(time.Second)
		w.ResetCounts()
		release(t, h)
		all := tokens()
		if !slices.IsSorted(all) || len(slices.Compact(all)) != n {
			t.Errorf("each turn should have a greater token than the one before, got %d", all)
		}
		time.Sleep(time.Second)
		// Standing in line for the others, releasing, and leaving the line, the
		// latter perhaps twice; and the PINGs of the subscription.
		if sent := w.Counts()["EVALSHA"] + w.Counts()["EVAL"]; sent > 4 {
			t.Errorf("%d turns inside a process should take four commands at most, it sent %v", n, w.Counts())
		}
		if passed := heard.count(by(redislock.PassedOn)); passed != n-1 {
			t.Errorf("%d of %d turns should be observed as passed on, got %d", n-1, n, passed)
		}
	})
}

func TestPassingOnIsBounded(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		const handoffs, n = 3, 12
		name := redistest.Name(t)
		client := s.Client(t)
		h := take(t, newLock(t, client, name, unhurried))
		var heard journal
		tokens := queue(t, newLock(t, s.Client(t), name, &redislock.Options{
			TTL: time.Minute, LocalHandoffs: handoffs, Observe: heard.note,
		}), n)
		heard.awaitKind(t, redislock.Waiting, n)
		awaitLine(t, client, name, 1)
		other := begin(t, newLock(t, s.Client(t), name, unhurried))
		awaitLine(t, client, name, 2)
		release(t, h)
		h = other.granted(t)
		turn := h.Token()
		release(t, h)
		before := 0
		for _, token := range tokens() {
			if token < turn {
				before++
			}
		}
		if before == 0 || before > handoffs+1 {
			t.Errorf("the other process should come after 1 to %d turns of the first, it came after %d", handoffs+1, before)
		}
	})
}

func TestNegativeLocalHandoffsNeverPassesOn(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var heard journal
		l := newLock(t, s.Client(t), name, &redislock.Options{TTL: time.Minute, LocalHandoffs: -1, Observe: heard.note})
		h := take(t, l)
		tokens := queue(t, l, 10)
		heard.awaitKind(t, redislock.Waiting, 10)
		release(t, h)
		tokens()
		heard.awaitKind(t, redislock.Released, 11)
		if passed := heard.count(by(redislock.PassedOn)); passed != 0 {
			t.Errorf("LocalHandoffs -1 should never pass on, it did %d times", passed)
		}
	})
}

// What one Lock may be passed is what it would have asked for itself.
func TestALeaseIsNotPassedOnToOtherTerms(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		quick := newLock(t, client, "x", &redislock.Options{TTL: 5 * time.Second})
		long := newLock(t, client, "x", &redislock.Options{TTL: time.Hour})
		h := take(t, long)
		waiter := begin(t, quick)
		time.Sleep(time.Second)
		release(t, h)
		h = waiter.granted(t)
		if left := time.Until(h.Deadline()); left > 5*time.Second {
			t.Errorf("a lease with a TTL of 5 s should end within that, it is trusted for %v", left)
		}
		release(t, h)
	})
}

func TestAThousandWaitsCostNextToNothing(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		h := take(t, newLock(t, client, "x", unhurried))
		l := newLock(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", unhurried)
		var line []*attempt
		for range 1000 {
			line = append(line, begin(t, l))
		}
		time.Sleep(time.Second)
		w.ResetCounts()
		const minutes = 10
		time.Sleep(minutes * time.Minute)
		if sent := w.Total(); sent > minutes*60*2 {
			t.Errorf("a thousand waits should send fewer than two commands a second, in %d minutes they sent %v", minutes, w.Counts())
		}
		if conns := w.Conns(); conns > 3 {
			t.Errorf("a thousand waits should keep three connections at most, they keep %d", conns)
		}
		for _, a := range line {
			a.cancel()
		}
		time.Sleep(time.Second)
		if subscribed := w.PubSubConns(); subscribed != 0 {
			t.Errorf("a second after the last wait no subscription should be left, there are %d", subscribed)
		}
		release(t, h)
	})
}

func TestManyTurnsOfManyProcesses(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		var wg sync.WaitGroup
		var inside sync.Mutex
		var last uint64
		turns := func(l *redislock.Lock) error {
			for range 20 {
				h, err := l.Acquire(soonCtx(t))
				if err != nil {
					return err
				}
				if !inside.TryLock() {
					return errors.New("two holders at a time")
				}
				token := h.Token()
				if token <= last {
					err = fmt.Errorf("token %d after %d", token, last)
				}
				last = token
				inside.Unlock()
				if err := errors.Join(err, h.Release(soonCtx(t))); err != nil {
					return err
				}
			}
			return nil
		}
		for range 4 {
			l := newLock(t, s.Client(t), name, unhurried)
			for range 8 {
				wg.Go(func() {
					if err := turns(l); err != nil {
						t.Errorf("each turn should come soon, alone, and with a token of its own: %v", err)
					}
				})
			}
		}
		wg.Wait()
		wantNoKeys(t, s.Client(t), name)
	})
}

// A process passes the lock on as often as it likes while no other stands in line,
// and soon hands it over when one does: at once if it is told, with the next renewal
// if the message is lost.
func TestAProcessThatIsAlonePassesOnUntilAnotherComes(t *testing.T) {
	const handoffs, n = 3, 40
	cases := map[string]struct {
		lost, comes bool
		most        int // turns before the other's
	}{
		"nobody comes":            {most: n},
		"it is told":              {comes: true, most: handoffs + 1 + handoffs}, // its own place was there first
		"it hears at the renewal": {comes: true, lost: true, most: handoffs + 1 + handoffs},
	}
	for what, c := range cases {
		t.Run(what, func(t *testing.T) {
			redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
				w := redistest.NewWire(t)
				opts := &redislock.Options{TTL: 3 * time.Second, LocalHandoffs: handoffs}
				l := newLock(t, redistest.BubbleClient(t, m, w.ThroughBubble), "busy", opts)
				h := take(t, l)
				tokens := queue(t, l, n)
				synctest.Wait()
				if c.lost {
					w.DropMessages("wanted")
				}
				var other *attempt
				if c.comes {
					other = begin(t, newLock(t, client, "busy", unhurried))
				}
				synctest.Wait()
				if c.lost {
					time.Sleep(1500 * time.Millisecond)
				}
				w.ResetCounts()
				release(t, h)
				before := n
				if c.comes {
					h := other.granted(t)
					turn := h.Token()
					release(t, h)
					before = 0
					for _, token := range tokens() {
						if token < turn {
							before++
						}
					}
				} else {
					tokens()
					// The first grant was for one goroutine, with a token for each of its few
					// handoffs: it is given back and comes again for many. Then the last
					// one gives it back, and the place in line is left.
					if sent := w.Counts()["EVALSHA"] + w.Counts()["EVAL"]; sent > 6 {
						t.Errorf("%d turns of a process that is alone should take six scripts at most, it sent %v", n, w.Counts())
					}
				}
				if before == 0 || before > c.most {
					t.Errorf("the other process should come after 1 to %d turns of the first, it came after %d", c.most, before)
				}
			})
		})
	}
}

// What a process knows of others ends with its place in line: nobody tells it of those
// who come while it has none.
func TestAProcessWithoutAPlaceIsNotAlone(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		through := redistest.BubbleClient(t, m, w.ThroughBubble)
		l := newLock(t, through, "busy", unhurried)
		h := take(t, newLock(t, through, "busy", &redislock.Options{TTL: time.Hour})) // not passed on
		next, second := begin(t, l), begin(t, l)
		synctest.Wait() // stands in line alone, with many tokens to come
		second.cancel()
		synctest.Wait()
		release(t, h)
		h = next.granted(t)
		time.Sleep(time.Second) // longer than a process passes on while others wait
		other := begin(t, newLock(t, client, "busy", unhurried))
		synctest.Wait()
		held := w.HoldReply(redistest.Has(`"host"`)) // of the join that comes next: it would tell of the other
		mine := begin(t, l)
		held.Await(t)
		go func() { _ = h.Release(context.Background()) }()
		h = other.granted(t)
		select {
		case <-mine.over:
			t.Error("the lock should be handed over to the other process, which came first")
		default:
		}
		held.Release()
		release(t, h)
		release(t, mine.granted(t))
	})
}

// A turn of a Lock that does not pass on is not passed on, nor is one passed on to it,
// whatever other Locks of the process do.
func TestNegativeLocalHandoffsBesideOthers(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		var heard journal
		h := take(t, newLock(t, client, "busy", unhurried))
		never := newLock(t, client, "busy", &redislock.Options{TTL: time.Minute, LocalHandoffs: -1, Observe: heard.note})
		tokens := queue(t, never, 20)
		synctest.Wait()
		release(t, h)
		tokens()
		heard.awaitKind(t, redislock.Released, 20)
		if passed := heard.count(by(redislock.PassedOn)); passed != 0 {
			t.Errorf("LocalHandoffs -1 should never be passed a lock on, it was %d times", passed)
		}
	})
}
