package redissem_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redissem"
)

// source is a script as it is sent.
func source(t testing.TB, verb string) string {
	t.Helper()
	var all strings.Builder
	for _, name := range []string{"quick_sem_" + verb, "line", "sem_shared", "sem_" + verb} {
		lua, err := os.ReadFile("../internal/turnstile/lua/" + name + ".lua")
		if err != nil && !strings.HasPrefix(name, "quick_") { // not all have a short form
			t.Fatal(err)
		}
		all.Write(lua)
	}
	return all.String()
}

// script picks the calls of a script that the server knows.
func script(t testing.TB, verb string) redistest.Match {
	sum := sha1.Sum([]byte(source(t, verb)))
	return redistest.All(redistest.Is("evalsha"), redistest.Has(hex.EncodeToString(sum[:])))
}

// load makes the scripts known to the server, so that each call is one command.
func load(t *testing.T, client redis.UniversalClient) {
	for _, verb := range []string{"join", "check", "release", "renew", "break", "state", "delete", "open", "resize"} {
		load := func(ctx context.Context, node *redis.Client) error {
			return node.ScriptLoad(ctx, source(t, verb)).Err()
		}
		var err error
		switch c := client.(type) {
		case *redis.ClusterClient:
			err = c.ForEachMaster(soonCtx(t), load)
		case *redis.Client:
			err = load(soonCtx(t), c)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A site is where something gets lost between one process and its server; the
// others are connected directly.
type site struct {
	w               *redistest.Wire
	through, direct redis.UniversalClient
	other           redis.UniversalClient // direct, of another process
	name            string
}

// eachSite runs a behaviour on every server, and on miniredis in a bubble.
func eachSite(t *testing.T, behave func(t *testing.T, s site)) {
	t.Helper()
	t.Run("bubble", func(t *testing.T) {
		redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
			w := redistest.NewWire(t)
			load(t, client)
			behave(t, site{w, redistest.BubbleClient(t, m, w.ThroughBubble), client, redistest.BubbleClient(t, m), "x"})
			wantNoKeys(t, client, "x")
		})
	})
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		w := redistest.NewWire(t)
		name := redistest.Name(t)
		direct := s.Client(t)
		load(t, direct)
		behave(t, site{w, s.Client(t, w.Through), direct, s.Client(t), name})
		wantNoKeys(t, direct, name)
	})
}

// wantGranted says that the server should know these permits, and no others.
func (s site) wantGranted(t *testing.T, all ...*redissem.Permit) {
	t.Helper()
	got := state(t, newSem(t, s.direct, s.name, 2, nil))
	known := map[string]bool{}
	for _, p := range got.Permits {
		known[p.ID] = true
	}
	for _, h := range all {
		delete(known, h.ID())
	}
	if got.Held != len(all) || len(known) != 0 || got.Waiters != 0 {
		t.Errorf("there should be %d permits, those of this test, and nobody waiting, got %+v", len(all), got)
	}
}

func TestALostReplyToAnAcquireOfAFreePermitChangesNothing(t *testing.T) {
	eachSite(t, func(t *testing.T, s site) {
		sem := newSem(t, s.through, s.name, 2, unhurried)
		for what, get := range map[string]func(testing.TB, *redissem.Semaphore) *redissem.Permit{"Acquire": acquire, "TryAcquire": take} {
			lost := s.w.DropReply(script(t, "join"))
			h := get(t, sem)
			if !lost.Struck() {
				t.Fatalf("the reply to the script of %s should have been lost", what)
			}
			s.wantGranted(t, h)
			wantFree(t, newSem(t, s.other, s.name, 2, nil), 1)
			release(t, h)
			wantFree(t, newSem(t, s.other, s.name, 2, nil), 2)
		}
	})
}

func TestALostReplyToAJoinOrCheckThatWaitsChangesNothing(t *testing.T) {
	for _, verb := range []string{"join", "check"} {
		t.Run(verb, func(t *testing.T) {
			eachSite(t, func(t *testing.T, s site) {
				mine := newSem(t, s.direct, s.name, 2, unhurried)
				held := []*redissem.Permit{take(t, mine), take(t, mine)}
				lost := s.w.DropReply(script(t, verb))
				waiter := begin(t, newSem(t, s.through, s.name, 2, unhurried))
				lost.Await(t)
				awaitLine(t, s.direct, s.name, 1)
				if got := state(t, mine); got.Waiters != 1 || got.Held != 2 {
					t.Errorf("whose reply was lost should stand in line once, got %+v", got)
				}
				release(t, held[0])
				h := waiter.granted(t)
				s.wantGranted(t, held[1], h)
				release(t, h)
				release(t, held[1])
			})
		})
	}
}

func TestALostReplyToACheckThatWasGrantedChangesNothing(t *testing.T) {
	eachSite(t, func(t *testing.T, s site) {
		checked := s.w.Watch(script(t, "check"))
		// Holders that are dead: they give nothing back.
		for _, ticket := range []string{"dead-1", "dead-2"} {
			now := s.direct.Time(soonCtx(t)).Val()
			if err := s.direct.ZAdd(soonCtx(t), key(s.name, ""), redis.Z{Member: ticket, Score: float64(now.Add(6 * brief).UnixMicro())}).Err(); err != nil {
				t.Fatal(err)
			}
		}
		waiter := begin(t, newSem(t, s.through, s.name, 2, unhurried))
		checked.AwaitReply(t) // the one that every new subscription sends
		lost := s.w.DropReply(script(t, "check"))
		lost.Await(t) // the one at the end of a holder's lease
		h := waiter.granted(t)
		redistest.EventuallyTrue(t, soon, "the others have ended", func() bool {
			return state(t, newSem(t, s.direct, s.name, 2, nil)).Held == 1
		})
		s.wantGranted(t, h)
		release(t, h)
	})
}

func TestALostReplyToAReleaseChangesNothing(t *testing.T) {
	eachSite(t, func(t *testing.T, s site) {
		sem := newSem(t, s.through, s.name, 2, unhurried)
		stays := take(t, newSem(t, s.other, s.name, 2, unhurried))
		h := take(t, sem)
		// The repeated release finds that the permit is another's by now.
		waiter := begin(t, newSem(t, s.other, s.name, 2, unhurried))
		awaitLine(t, s.direct, s.name, 1)
		lost := s.w.DropReply(script(t, "release"))
		release(t, h)
		if !lost.Struck() {
			t.Fatal("the reply to the release should have been lost")
		}
		h = waiter.granted(t)
		s.wantGranted(t, stays, h)
		wantTaken(t, sem)
		release(t, h)
		release(t, stays)
	})
}

// A release that is repeated while the permit rests must not end the rest.
func TestALostReplyToAReleaseDoesNotEndTheRest(t *testing.T) {
	eachSite(t, func(t *testing.T, s site) {
		sem := newSem(t, s.through, s.name, 2, &redissem.Options{TTL: time.Minute, MinHold: time.Hour})
		h := take(t, sem)
		lost := s.w.DropReply(script(t, "release"))
		release(t, h)
		if !lost.Struck() {
			t.Fatal("the reply to the release should have been lost")
		}
		got := state(t, sem)
		if got.Held != 1 || !got.Permits[0].Resting || got.Permits[0].TTL < time.Minute {
			t.Fatalf("the permit should rest, got %+v", got)
		}
		if err := sem.Break(soonCtx(t), got.Permits[0].ID); err != nil {
			t.Fatal(err)
		}
	})
}

func TestALostReplyToARenewalChangesNothing(t *testing.T) {
	eachSite(t, func(t *testing.T, s site) {
		h := take(t, newSem(t, s.through, s.name, 2, &redissem.Options{TTL: short}))
		for range 2 {
			lost := s.w.DropReply(script(t, "renew"))
			lost.Await(t)
			first := h.Deadline()
			redistest.EventuallyTrue(t, soon, "the permit is renewed by another attempt", func() bool {
				wantHeld(t, h)
				return h.Deadline().After(first)
			})
		}
		s.wantGranted(t, h)
		release(t, h)
	})
}

func TestALostReplyToBreakStateResizeOpenOrDeleteChangesNothing(t *testing.T) {
	eachSite(t, func(t *testing.T, s site) {
		sem := newSem(t, s.through, s.name, 2, nil)
		h := take(t, newSem(t, s.direct, s.name, 2, &redissem.Options{TTL: 3 * time.Second}))
		for _, c := range []struct {
			verb string
			call func() error
		}{
			{"state", func() error { s.wantGranted(t, h); _, err := sem.State(soonCtx(t)); return err }},
			{"resize", func() error { return sem.Resize(soonCtx(t), 1) }},
			{"break", func() error { return sem.Break(soonCtx(t), h.ID()) }},
		} {
			lost := s.w.DropReply(script(t, c.verb))
			if err := c.call(); err != nil || !lost.Struck() {
				t.Errorf("%s whose reply is lost once should return nil, got %v", c.verb, err)
			}
		}
		wantLost(t, h)
		h = acquire(t, newSem(t, s.direct, s.name, 2, unhurried))
		first := begin(t, sem)
		awaitLine(t, s.direct, s.name, 1)
		lost := s.w.DropReply(script(t, "open"))
		second := begin(t, newSem(t, s.through, s.name, 2, unhurried)) // behind the first
		lost.Await(t)
		release(t, h)
		release(t, first.granted(t))
		release(t, second.granted(t))
		lost = s.w.DropReply(script(t, "delete"))
		if err := sem.Delete(soonCtx(t)); err != nil || !lost.Struck() {
			t.Errorf("Delete whose reply is lost once should return nil, got %v", err)
		}
	})
}

// Bytes of a dying connection may arrive long after what was sent on a new one.
func TestAnAcquireThatArrivesAfterItWasGivenUpTakesNothing(t *testing.T) {
	eachSite(t, func(t *testing.T, s site) {
		sem := newSem(t, s.through, s.name, 2, unhurried)
		for what, call := range map[string]func(context.Context) (*redissem.Permit, error){"Acquire": sem.Acquire, "TryAcquire": sem.TryAcquire} {
			late := s.w.HoldCommand(script(t, "join"))
			ctx, cancel := context.WithCancel(context.Background())
			over := make(chan error)
			go func() { _, err := call(ctx); over <- err }()
			late.Await(t)
			cancel()
			wantErr(t, "a cancelled "+what, await(t, over, "the end of "+what), context.Canceled)
			withdrawn := func() bool { return s.direct.ZCard(soonCtx(t), key(s.name, "ended")).Val() > 0 }
			redistest.EventuallyTrue(t, soon, "the withdrawal is carried out", withdrawn)
			late.Release()
			late.AwaitReply(t)
			s.wantGranted(t)
			wantFree(t, newSem(t, s.direct, s.name, 2, nil), 2)
			s.direct.Del(soonCtx(t), key(s.name, "ended"))
		}
	})
}

// lookingAgain is how long a place stands unchecked at most.
const lookingAgain = 30 * time.Second

func TestALostGrantMessageOnlyCostsTime(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		theirs := newSem(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", 1, unhurried)
		mine := newSem(t, client, "x", 1, unhurried)
		w.DropMessages("")
		for range 5 {
			h := acquire(t, mine)
			waiter := begin(t, theirs)
			time.Sleep(time.Second)
			release(t, h)
			start := time.Now()
			<-waiter.over
			if took := time.Since(start); took > lookingAgain+time.Second {
				t.Errorf("who misses the message should find out by a check within %v, it took %v", lookingAgain, took)
			}
			release(t, waiter.granted(t))
		}
	})
}

// A release or a renewal that was overtaken by the end of its lease must not
// touch the permit of the next.
func TestALateReleaseHarmsNobody(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		h := take(t, newSem(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", 1, nil))
		late := w.HoldCommand(redistest.Has(key("x", "")))
		wantErr(t, "a Release without an answer", h.Release(context.Background()), redissem.ErrUnknownOutcome)
		h = acquire(t, newSem(t, client, "x", 1, nil))
		late.Release()
		late.AwaitReply(t)
		for range 10 {
			time.Sleep(time.Minute)
			wantHeld(t, h)
		}
		wantTaken(t, newSem(t, redistest.BubbleClient(t, m), "x", 1, nil))
		release(t, h)
	})
}
