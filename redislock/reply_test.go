package redislock_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

// source is a script as it is sent.
func source(t testing.TB, verb string) string {
	t.Helper()
	var all strings.Builder
	for _, name := range []string{"quick_" + verb, "line", "shared", verb} {
		lua, err := os.ReadFile("../internal/turnstile/lua/" + name + ".lua")
		if err != nil && !strings.HasPrefix(name, "quick_") { // not all have a short form
			t.Fatal(err)
		}
		all.Write(lua)
	}
	return all.String()
}

// script picks the calls of a script that the server knows.
func script(t testing.TB, verb string) redistest.Match { return evalsha(source(t, verb)) }

func evalsha(source string) redistest.Match {
	sum := sha1.Sum([]byte(source))
	return redistest.All(redistest.Is("evalsha"), redistest.Has(hex.EncodeToString(sum[:])))
}

// load makes the scripts known to the server, so that each call is one command.
func load(t *testing.T, client redis.UniversalClient) {
	for _, verb := range []string{"join", "check", "release", "renew", "break", "state", "delete"} {
		eachNode(t, client, func(ctx context.Context, node *redis.Client) error {
			return node.ScriptLoad(ctx, source(t, verb)).Err()
		})
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

// wantGranted says that the server should know the lease, and no other.
func (s site) wantGranted(t *testing.T, h *redislock.Lease) {
	t.Helper()
	if got := state(t, newLock(t, s.direct, s.name, nil)); !got.Held || got.Token != h.Token() || got.Waiters != 0 {
		t.Errorf("there should be one holder, with token %d, and nobody waiting, got %+v", h.Token(), got)
	}
}

func TestALostReplyToAnAcquireOfAFreeLockChangesNothing(t *testing.T) {
	t.Parallel()
	eachSite(t, func(t *testing.T, s site) {
		l := newLock(t, s.through, s.name, unhurried)
		for what, get := range map[string]func(testing.TB, *redislock.Lock) *redislock.Lease{"Acquire": acquire, "TryAcquire": take} {
			lost := s.w.DropReply(script(t, "join"))
			h := get(t, l)
			if !lost.Struck() {
				t.Fatalf("the reply to the script of %s should have been lost", what)
			}
			s.wantGranted(t, h)
			wantTaken(t, newLock(t, s.other, s.name, nil))
			release(t, h)
			wantFree(t, newLock(t, s.other, s.name, nil))
		}
	})
}

func TestALostReplyToAnAcquireOfATakenLockChangesNothing(t *testing.T) {
	t.Parallel()
	eachSite(t, func(t *testing.T, s site) {
		h := take(t, newLock(t, s.direct, s.name, unhurried))
		lost := s.w.DropReply(script(t, "join"))
		waiter := begin(t, newLock(t, s.through, s.name, unhurried))
		lost.Await(t)
		awaitLine(t, s.direct, s.name, 1)
		if got := state(t, newLock(t, s.direct, s.name, nil)); got.Waiters != 1 {
			t.Errorf("whose reply was lost should stand in line once, State says %d", got.Waiters)
		}
		release(t, h)
		h = waiter.granted(t)
		s.wantGranted(t, h)
		release(t, h)
	})
}

func TestALostReplyToACheckThatWaitsChangesNothing(t *testing.T) {
	t.Parallel()
	eachSite(t, func(t *testing.T, s site) {
		h := take(t, newLock(t, s.direct, s.name, unhurried))
		lost := s.w.DropReply(script(t, "check"))
		waiter := begin(t, newLock(t, s.through, s.name, unhurried))
		lost.Await(t)
		awaitLine(t, s.direct, s.name, 1)
		release(t, h)
		h = waiter.granted(t)
		s.wantGranted(t, h)
		release(t, h)
	})
}

func TestALostReplyToACheckThatWasGrantedChangesNothing(t *testing.T) {
	t.Parallel()
	eachSite(t, func(t *testing.T, s site) {
		checked := s.w.Watch(script(t, "check"))
		setNX(t, s.direct, s.name, 3*time.Second) // a holder that gives nothing back
		waiter := begin(t, newLock(t, s.through, s.name, unhurried))
		checked.AwaitReply(t) // the one that every new subscription sends
		lost := s.w.DropReply(script(t, "check"))
		lost.Await(t) // the one at the end of the holder's lease
		h := waiter.granted(t)
		s.wantGranted(t, h)
		release(t, h)
	})
}

func TestALostReplyToAReleaseChangesNothing(t *testing.T) {
	t.Parallel()
	eachSite(t, func(t *testing.T, s site) {
		l := newLock(t, s.through, s.name, unhurried)
		h := take(t, l)
		lost := s.w.DropReply(script(t, "release"))
		release(t, h)
		if !lost.Struck() {
			t.Fatal("the reply to the release should have been lost")
		}
		// The repeated release finds that the lock is another's by now.
		h = take(t, l)
		waiter := begin(t, newLock(t, s.other, s.name, unhurried))
		awaitLine(t, s.direct, s.name, 1)
		lost = s.w.DropReply(script(t, "release"))
		release(t, h)
		if !lost.Struck() {
			t.Fatal("the reply to the release should have been lost")
		}
		h = waiter.granted(t)
		s.wantGranted(t, h)
		wantTaken(t, l)
		release(t, h)
	})
}

func TestALostReplyToARenewalChangesNothing(t *testing.T) {
	t.Parallel()
	eachSite(t, func(t *testing.T, s site) {
		h := take(t, newLock(t, s.through, s.name, &redislock.Options{TTL: short}))
		token := h.Token()
		for range 2 {
			lost := s.w.DropReply(script(t, "renew"))
			lost.Await(t)
			first := h.Deadline()
			redistest.EventuallyTrue(t, soon, "the lease is renewed by another attempt", func() bool {
				wantHeld(t, h)
				return h.Deadline().After(first)
			})
		}
		if h.Token() != token {
			t.Errorf("the token should stay, it was %d and is %d", token, h.Token())
		}
		s.wantGranted(t, h)
		release(t, h)
	})
}

func TestALostReplyToBreakStateOrDeleteChangesNothing(t *testing.T) {
	t.Parallel()
	eachSite(t, func(t *testing.T, s site) {
		l := newLock(t, s.through, s.name, nil)
		h := take(t, newLock(t, s.direct, s.name, breakable))
		for verb, call := range map[string]func() error{
			"state": func() error {
				if got := state(t, l); got.Token != h.Token() {
					t.Errorf("State should tell of token %d, got %+v", h.Token(), got)
				}
				return nil
			},
			"break": func() error { return l.Break(soonCtx(t), 0) },
		} {
			lost := s.w.DropReply(script(t, verb))
			if err := call(); err != nil || !lost.Struck() {
				t.Errorf("%s whose reply is lost once should return nil, got %v", verb, err)
			}
		}
		wantLost(t, h)
		lost := s.w.DropReply(script(t, "delete"))
		if err := l.Delete(soonCtx(t)); err != nil || !lost.Struck() {
			t.Errorf("Delete whose reply is lost once should return nil, got %v", err)
		}
	})
}

// Bytes of a dying connection may arrive long after what was sent on a new one.
func TestAnAcquireThatArrivesAfterItWasGivenUpTakesNothing(t *testing.T) {
	t.Parallel()
	eachSite(t, func(t *testing.T, s site) {
		l := newLock(t, s.through, s.name, unhurried)
		for what, call := range map[string]func(context.Context) (*redislock.Lease, error){"Acquire": l.Acquire, "TryAcquire": l.TryAcquire} {
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
			if got := state(t, newLock(t, s.direct, s.name, nil)); got.Held || got.Waiters != 0 {
				t.Errorf("%s that was given up should take nothing, got %+v", what, got)
			}
			wantFree(t, newLock(t, s.direct, s.name, nil))
			s.direct.Del(soonCtx(t), key(s.name, "ended"))
		}
	})
}

// lookingAgain is how long a place stands unchecked at most.
const lookingAgain = 30 * time.Second

func TestALostGrantMessageOnlyCostsTime(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		theirs := newLock(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", unhurried)
		mine := newLock(t, client, "x", unhurried)
		w.DropMessages("")
		for range 5 {
			h := acquire(t, mine)
			waiter := begin(t, theirs)
			time.Sleep(time.Second)
			release(t, h)
			start := time.Now()
			<-waiter.over
			if took := time.Since(start); took > 31*time.Second {
				t.Errorf("who misses the message should find out by a check within 30 s, it took %v", took)
			}
			release(t, waiter.granted(t))
		}
	})
}

func TestALateGrantMessageIsNotTrusted(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		theirs := redistest.BubbleClient(t, m, w.ThroughBubble)
		for _, late := range []time.Duration{time.Second, 2 * time.Second, 3100 * time.Millisecond, 8 * time.Second, 20 * time.Second} {
			h := acquire(t, newLock(t, client, "x", unhurried))
			waiter := begin(t, newLock(t, theirs, "x", unhurried))
			time.Sleep(1500 * time.Millisecond)
			held := w.HoldMessage("grant")
			release(t, h)
			third := begin(t, newLock(t, redistest.BubbleClient(t, m), "x", unhurried))
			time.Sleep(late)
			held.Release()
			// Whoever is the first of the two, they are not so at a time.
			var first, second *attempt
			select {
			case <-waiter.over:
				first, second = waiter, third
			case <-third.over:
				first, second = third, waiter
			}
			h = first.granted(t)
			s := site{name: "x", direct: client}
			time.Sleep(5 * time.Second)
			second.wantWaiting(t)
			wantHeld(t, h)
			release(t, h)
			h = second.granted(t)
			s.wantGranted(t, h)
			release(t, h)
			time.Sleep(time.Minute)
		}
	})
}

// Who waits is told when a released lock will have rested (MinHold). The answer
// to a check that was sent before knows nothing of that.
func TestAnOlderAnswerDoesNotMakeAWaiterForgetWhenToLook(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		theirs := redistest.BubbleClient(t, m, w.ThroughBubble)
		load(t, client)
		const minHold = 5 * time.Second
		h := take(t, newLock(t, client, "x", &redislock.Options{TTL: time.Minute, MinHold: minHold}))
		start := time.Now()
		old := w.HoldReply(script(t, "check"))
		waiter := begin(t, newLock(t, theirs, "x", unhurried))
		old.Await(t)
		release(t, h)
		time.Sleep(100 * time.Millisecond) // the message is heard
		old.Release()
		<-waiter.over
		if took := time.Since(start); took > minHold+100*time.Millisecond {
			t.Errorf("the lock should be taken when its MinHold of %v is over, it took %v", minHold, took)
		}
		release(t, waiter.granted(t))
	})
}

// A release that was overtaken by the end of its lease must not end the turn of
// the next.
func TestALateReleaseHarmsNobody(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		h := take(t, newLock(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", nil))
		late := w.HoldCommand(redistest.Has(key("x", "")))
		wantErr(t, "a Release without an answer", h.Release(context.Background()), redislock.ErrUnknownOutcome)
		h = acquire(t, newLock(t, client, "x", nil))
		late.Release()
		late.AwaitReply(t)
		for range 10 {
			time.Sleep(time.Minute)
			wantHeld(t, h)
		}
		wantTaken(t, newLock(t, redistest.BubbleClient(t, m), "x", nil))
		release(t, h)
	})
}

// hammer locks and unlocks n locks again and again, each held for about the
// time of its first renewal. A renewal that came after its release and kept the
// key would go on doing so: in the end the keys should be gone.
func hammer(t *testing.T, client redis.UniversalClient, name string, n, rounds int, ttl, spread time.Duration) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		l := newLock(t, client, fmt.Sprint(name, i), &redislock.Options{TTL: ttl, LocalHandoffs: -1})
		wg.Go(func() {
			for range rounds {
				ctx, cancel := context.WithTimeout(context.Background(), soon)
				h, err := l.Acquire(ctx)
				switch {
				case err == nil:
					use(h, (ttl-5*time.Millisecond)/3-spread/2+rand.N(spread))
					_ = h.Release(ctx) // a loaded machine may lose a lease of 50 ms
				case !errors.Is(err, redislock.ErrUnavailable): // nor may it get one
					t.Errorf("Acquire should succeed, got %v", err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	for i := range n {
		wantNoKeys(t, client, fmt.Sprint(name, i))
	}
}

func TestARenewalThatRacesTheReleaseKeepsNothing(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		hammer(t, s.Client(t), redistest.Name(t)+"-", 20, redistest.Long(20, 5000), 50*time.Millisecond, 4*time.Millisecond)
	})
}

func TestARenewalThatRacesTheReleaseKeepsNothingInABubble(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		// Many calls at a time in one pipeline need a connection with a buffer.
		w := redistest.NewWire(t)
		hammer(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", 20, 50, 50*time.Millisecond, 10*time.Microsecond)
	})
}
