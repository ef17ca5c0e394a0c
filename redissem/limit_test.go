package redissem_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redissem"
)

func on(policy redissem.OnMismatch) *redissem.Options {
	return &redissem.Options{TTL: time.Minute, OnMismatch: policy}
}

func resize(t testing.TB, s *redissem.Semaphore, limit int) {
	t.Helper()
	if err := s.Resize(soonCtx(t), limit); err != nil {
		t.Fatalf("Resize to %d should succeed, got %v", limit, err)
	}
}

func TestAnotherLimitIsRefusedAndBothAreNamed(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		ours := newSem(t, client, name, 17, unhurried)
		held := take(t, ours)
		for what, call := range calls(t) {
			err := call(soonCtx(t), newSem(t, client, name, 23, unhurried))
			switch what {
			case "State", "Break": // say nothing of limits
				if err != nil {
					t.Errorf("%s should not compare limits, got %v", what, err)
				}
			case "Delete":
				wantErr(t, what, err, redissem.ErrNotAcquired)
			default:
				wantErr(t, what+" with another limit", err, redissem.ErrMismatch)
				if !strings.Contains(err.Error(), "17") || !strings.Contains(err.Error(), "23") {
					t.Errorf("%s should name both limits, 17 and 23, got %q", what, err)
				}
			}
		}
		if got := state(t, ours); got.Limit != 17 || got.Declared != 17 || got.Held != 1 || got.Waiters != 0 {
			t.Errorf("what was refused should have changed nothing, got %+v", got)
		}
		resize(t, ours, 19)
		_, err := newSem(t, client, name, 19, unhurried).Acquire(soonCtx(t))
		wantErr(t, "the present limit in place of the declared one", err, redissem.ErrMismatch)
		if !strings.Contains(err.Error(), "17") || !strings.Contains(err.Error(), "resized to 19") {
			t.Errorf("the error should name the declared and the present limit, got %q", err)
		}
		release(t, take(t, newSem(t, client, name, 17, unhurried)))
		release(t, held)
	})
}

func TestAdoptGoesByTheLimitInRedis(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		ours := newSem(t, client, name, 2, unhurried)
		release(t, take(t, ours))
		adopts := newSem(t, client, name, 9, on(redissem.Adopt))
		wantFree(t, adopts, 2)
		resize(t, adopts, 3)
		wantFree(t, adopts, 3)
		if got := state(t, adopts); got.Declared != 2 || got.Limit != 3 {
			t.Errorf("2 should stay declared and 3 be present, got %+v", got)
		}
		// The first of all has nothing to adopt.
		wantFree(t, newSem(t, client, name+"-new", 4, on(redissem.Adopt)), 4)
	})
}

func TestReplaceSetsBothLimitsOnce(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		ours := newSem(t, client, name, 2, unhurried)
		wantFree(t, ours, 2)
		resize(t, ours, 1)
		replaces := newSem(t, client, name, 4, on(redissem.Replace))
		wantFree(t, replaces, 4)
		if got := state(t, ours); got.Declared != 4 || got.Limit != 4 {
			t.Errorf("4 should be declared and present, got %+v", got)
		}
		// Who has compared before follows Redis; who comes now is refused.
		wantFree(t, ours, 4)
		_, err := newSem(t, client, name, 2, unhurried).TryAcquire(soonCtx(t))
		wantErr(t, "the limit that was replaced", err, redissem.ErrMismatch)
		// Who has replaced does not do so again, nor does one with the same limit.
		resize(t, ours, 3)
		wantFree(t, replaces, 3)
		wantFree(t, newSem(t, client, name, 4, on(redissem.Replace)), 3)
	})
}

// Replace by somebody who waits behind others of its process serves them all.
func TestReplaceWhileOthersWaitServesThem(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		held := take(t, newSem(t, s.Client(t), name, 1, unhurried))
		first := begin(t, newSem(t, client, name, 1, unhurried))
		awaitLine(t, client, name, 1)
		second := begin(t, newSem(t, client, name, 3, on(redissem.Replace)))
		release(t, first.granted(t))
		release(t, second.granted(t))
		release(t, held)
	})
}

func TestAMismatchEndsTheWaitsOfItsOwnHandleOnly(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		held := take(t, newSem(t, s.Client(t), name, 1, unhurried))
		waits := begin(t, newSem(t, client, name, 1, unhurried))
		awaitLine(t, client, name, 1)
		wantErr(t, "a wait behind others, with another limit", begin(t, newSem(t, client, name, 5, unhurried)).ended(t), redissem.ErrMismatch)
		var heard journal // one semaphore per call is fine
		behind := begin(t, newSem(t, client, name, 1, &redissem.Options{TTL: time.Minute, Observe: heard.note}))
		heard.awaitKind(t, redissem.Waiting, 1)
		adopts := begin(t, newSem(t, client, name, 5, on(redissem.Adopt)))
		waits.wantWaiting(t)
		release(t, held)
		for _, a := range []*attempt{waits, behind, adopts} {
			release(t, a.granted(t))
		}
	})
}

// The first of a process stands in line with a limit that is refused, and others
// come before it has heard so.
func TestAMismatchOfTheFirstInLineLeavesThoseBehindInPeace(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		theirs := redistest.BubbleClient(t, m, w.ThroughBubble)
		load(t, client)
		good := newSem(t, theirs, "x", 2, unhurried)
		release(t, take(t, good))
		held := []*redissem.Permit{take(t, newSem(t, client, "x", 2, unhurried)), take(t, newSem(t, client, "x", 2, unhurried))}
		answer := w.HoldReply(script(t, "join"))
		bad := begin(t, newSem(t, theirs, "x", 3, unhurried))
		answer.Await(t)
		behind := begin(t, good)
		time.Sleep(time.Millisecond)
		answer.Release()
		wantErr(t, "another limit", bad.ended(t), redissem.ErrMismatch)
		time.Sleep(time.Second)
		behind.wantWaiting(t)
		release(t, held[0])
		release(t, behind.granted(t))
		release(t, held[1])
	})
}

// A permit is not passed on to somebody whose limit may yet be refused.
func TestAPermitIsNotPassedOnBeforeTheLimitWasCompared(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		theirs := redistest.BubbleClient(t, m, w.ThroughBubble)
		load(t, client)
		good := newSem(t, theirs, "x", 1, unhurried)
		held := take(t, newSem(t, client, "x", 1, unhurried))
		turn := begin(t, good)
		time.Sleep(time.Second)
		filler := begin(t, good) // so that the grant may be passed on
		time.Sleep(time.Second)
		release(t, held)
		h := turn.granted(t)
		filler.cancel()
		_ = filler.ended(t)
		time.Sleep(time.Millisecond)
		answer := w.HoldReply(script(t, "join"))
		bad := begin(t, newSem(t, theirs, "x", 2, unhurried))
		answer.Await(t)
		go func() { _ = h.Release(context.Background()) }() // behind the answer that is held
		time.Sleep(time.Millisecond)
		bad.wantWaiting(t)
		answer.Release()
		wantErr(t, "another limit", bad.ended(t), redissem.ErrMismatch)
		time.Sleep(time.Second) // the release is carried out
		wantFree(t, newSem(t, client, "x", 1, unhurried), 1)
	})
}

func TestALimitOfZeroIsAGateThatResizeOpens(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		gate := newSem(t, client, name, 0, unhurried)
		wantTaken(t, gate)
		var line []*attempt
		for i := range 3 {
			sem := newSem(t, s.Client(t), name, 0, unhurried)
			for range 3 {
				line = append(line, begin(t, sem))
			}
			awaitLine(t, client, name, i+1)
		}
		resize(t, gate, 9)
		for _, a := range line { // all at once: none is given back before all have one
			a.granted(t)
		}
		wantTaken(t, gate)
		if got := state(t, gate); got.Held != 9 || got.Limit != 9 || got.Declared != 0 || got.Waiters != 0 {
			t.Errorf("nine should be inside and nobody wait, got %+v", got)
		}
		resize(t, gate, 0)
		for _, a := range line {
			wantHeld(t, a.permit)
			release(t, a.permit)
		}
		wantTaken(t, gate)
		redistest.NoLeaks(t, s, name, ":limit", ":changes", ":ended")
	})
}

func TestALoweredLimitTakesPermitsFromNobody(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		sem := newSem(t, client, name, 4, unhurried)
		var held []*redissem.Permit
		for range 4 {
			held = append(held, take(t, sem))
		}
		waiter := begin(t, newSem(t, s.Client(t), name, 4, unhurried))
		awaitLine(t, client, name, 1)
		resize(t, sem, 2)
		for range 2 {
			release(t, held[0])
			held = held[1:]
			wantTaken(t, sem)
			waiter.wantWaiting(t)
			if got := state(t, sem); got.Held != len(held) || got.Waiters != 1 {
				t.Errorf("%d should be held and one wait, got %+v", len(held), got)
			}
		}
		for _, h := range held {
			wantHeld(t, h)
		}
		release(t, held[0])
		release(t, waiter.granted(t))
		release(t, held[1])
		wantFree(t, sem, 2)
	})
}

func TestResizeUnderLoadIsObeyed(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		operator := newSem(t, s.Client(t), name, 4, unhurried)
		var inside, bound atomic.Int32
		bound.Store(4)
		ctx, stop := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for range 3 {
			sem := newSem(t, s.Client(t), name, 4, unhurried)
			for range 4 {
				wg.Go(func() {
					for {
						h, err := sem.Acquire(ctx)
						if err != nil {
							if !errors.Is(err, context.Canceled) {
								t.Errorf("Acquire should succeed, got %v", err)
							}
							return
						}
						if n, most := inside.Add(1), bound.Load(); n > most {
							t.Errorf("%d inside with a limit of %d", n, most)
						}
						use(h, time.Millisecond)
						inside.Add(-1)
						if err := h.Release(ctx); err != nil {
							t.Errorf("Release should succeed, got %v", err)
						}
					}
				})
			}
		}
		for i := range 12 {
			switch n := i % 4; n {
			case 3:
				resize(t, operator, 4)
			default: // down: what is taken may stay, but once it has gone
				bound.Store(4)
				resize(t, operator, n)
				redistest.EventuallyTrue(t, soon, "no more are inside than that", func() bool { return state(t, operator).Held <= n })
				bound.Store(int32(n))
				if n > 0 {
					redistest.EventuallyTrue(t, soon, "they go on", func() bool { return state(t, operator).Held == n })
				}
				bound.Store(4)
			}
		}
		stop()
		wg.Wait()
		resize(t, operator, 4)
		// What a cancelled Acquire was granted at the last moment is on its way back.
		redistest.EventuallyTrue(t, soon, "all have left", func() bool { return state(t, operator).Held == 0 })
		wantFree(t, operator, 4)
	})
}

// The answer to a Resize is lost, and before it is sent again somebody else
// resizes: the repeat must not undo that.
func TestARepeatedResizeUndoesNothing(t *testing.T) {
	eachSite(t, func(t *testing.T, s site) {
		mine, other := newSem(t, s.through, s.name, 1, unhurried), newSem(t, s.direct, s.name, 1, unhurried)
		release(t, take(t, mine))
		for i, replay := range []func() error{
			func() error { return mine.Resize(soonCtx(t), 5) },
			func() error {
				h, err := newSem(t, s.through, s.name, 7, on(redissem.Replace)).TryAcquire(soonCtx(t))
				if err == nil {
					release(t, h)
				}
				return err
			},
		} {
			verb := []string{"resize", "join"}[i]
			lost := s.w.DropReply(script(t, verb))
			repeat := s.w.HoldCommand(redistest.Has(key(s.name, "limit")))
			over := make(chan error)
			go func() { over <- replay() }()
			lost.Await(t)
			repeat.Await(t)
			resize(t, other, 3)
			repeat.Release()
			if err := await(t, over, "the repeated change"); err != nil {
				t.Errorf("a change whose answer was lost once should succeed, got %v", err)
			}
			if got := state(t, other); got.Limit != 3 {
				t.Errorf("the later Resize to 3 should stand, got %+v", got)
			}
		}
		s.direct.Del(soonCtx(t), key(s.name, "limit"))
	})
}

func TestResizeRefusesBadLimits(t *testing.T) {
	sem := newSem(t, unreached(t), "x", 1, nil)
	for _, limit := range []int{-1, -1 << 63, 1_000_001, 1<<63 - 1} {
		if err := sem.Resize(t.Context(), limit); err == nil || !strings.Contains(err.Error(), "0 to 1000000") {
			t.Errorf("Resize to %d should say what is allowed, got %v", limit, err)
		}
	}
}

func TestTheLimitIsKeptWhileItIsUsedAndForgottenAfterwards(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		const day = 24 * time.Hour
		limit := key("x", "limit")
		sem := newSem(t, client, "x", 2, &redissem.Options{TTL: time.Hour})
		resize(t, sem, 3)
		h := take(t, sem)
		time.Sleep(7 * day) // renewed every 20 minutes
		wantHeld(t, h)
		if got := state(t, sem); got.Limit != 3 || got.Declared != 2 {
			t.Errorf("while a permit is held, the limit should be kept, got %+v", got)
		}
		release(t, h)
		resting := newSem(t, client, "x", 2, &redissem.Options{TTL: time.Hour, MinHold: 10 * day})
		release(t, take(t, resting))
		time.Sleep(9 * day)
		if got := state(t, sem); got.Limit != 3 || got.Held != 1 {
			t.Errorf("while a permit rests, the limit should be kept, got %+v", got)
		}
		time.Sleep(2 * day)
		if left := m.TTL(limit); left <= 0 || left > 2*day {
			t.Errorf("after use the limit should be kept for a day or two, got %v", left)
		}
		time.Sleep(2 * day)
		if m.Exists(limit) {
			t.Error("the limit should be forgotten after two days of disuse")
		}
		wantFree(t, newSem(t, client, "x", 4, nil), 4)
	})
}

// Redis evicts keys that have a TTL when memory runs short.
func TestWhoWaitsRestoresALimitThatIsGone(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		held := take(t, newSem(t, client, "x", 1, unhurried))
		waiter := begin(t, newSem(t, redistest.BubbleClient(t, m), "x", 1, unhurried))
		awaitLine(t, client, "x", 1)
		m.Del(key("x", "limit"))
		release(t, held)
		start := time.Now()
		<-waiter.over
		if took := time.Since(start); took > lookingAgain+time.Second {
			t.Errorf("who waits should look again within %v, it took %v", lookingAgain, took)
		}
		release(t, waiter.granted(t))
	})
}

// However many goroutines come at once, one command compares their limit.
func TestOneCommandComparesTheLimitOfManyWaits(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		theirs := redistest.BubbleClient(t, m, w.ThroughBubble)
		held := take(t, newSem(t, client, "x", 1, unhurried))
		for _, limit := range []int{2, 1} { // refused, and not
			load(t, client)
			w.ResetCounts()
			answer := w.HoldReply(script(t, "join"))
			sem := newSem(t, theirs, "x", limit, unhurried)
			var line []*attempt
			for range 100 {
				line = append(line, begin(t, sem))
			}
			answer.Await(t)
			time.Sleep(time.Second)
			answer.Release()
			time.Sleep(time.Second)
			if counts := w.Counts(); counts["EVALSHA"] > 3 {
				t.Errorf("100 waits should join and check, all together, got %v", counts)
			}
			for _, a := range line {
				if limit == 1 {
					a.wantWaiting(t)
					a.cancel()
				} else {
					wantErr(t, "each of many waits with another limit", a.ended(t), redissem.ErrMismatch)
				}
			}
			time.Sleep(time.Second)
		}
		release(t, held)
	})
}

func TestThereIsNoSuchThingAsAThirdLimit(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		var wg sync.WaitGroup
		var ok atomic.Int32
		for i := range 20 { // who comes first decides
			sem := newSem(t, client, name, 3+i%2, unhurried)
			wg.Go(func() {
				h, err := sem.Acquire(soonCtx(t))
				switch {
				case err == nil:
					ok.Add(1)
					release(t, h)
				case !errors.Is(err, redissem.ErrMismatch):
					t.Errorf("Acquire should succeed or say ErrMismatch, got %v", err)
				}
			})
		}
		wg.Wait()
		if ok.Load() != 10 {
			t.Errorf("of two limits one should be declared: %s", fmt.Sprint(ok.Load(), " of 20 calls succeeded"))
		}
	})
}

// A process that is alone passes its permits on as it likes; of a lowered limit it hears
// at once, or with the next renewal if the message is lost.
func TestALoweredLimitIsHeardByAProcessThatIsAlone(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprint("message lost ", lost), func(t *testing.T) {
			redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
				w := redistest.NewWire(t)
				const ttl = 9 * time.Second
				sem := newSem(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", 4, &redissem.Options{TTL: ttl})
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				for range 20 {
					wg.Go(func() {
						for {
							h, err := sem.Acquire(ctx)
							if err != nil {
								return
							}
							time.Sleep(20 * time.Millisecond)
							release(t, h)
						}
					})
				}
				time.Sleep(time.Second)
				if lost {
					w.DropMessages("wanted")
				}
				operator := newSem(t, client, "x", 4, nil)
				if err := operator.Resize(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				redistest.EventuallyTrue(t, time.Minute, "one permit is taken", func() bool { return state(t, operator).Held <= 1 })
				most := 200 * time.Millisecond
				if lost {
					most += ttl / 3
				}
				if took := time.Since(start); took > most {
					t.Errorf("a lowered limit should be obeyed within %v, it took %v", most, took)
				}
				cancel()
				wg.Wait()
			})
		})
	}
}
