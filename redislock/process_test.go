package redislock_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

// childVariable tells a process of the test binary that it is a holder: address,
// whether that is of a cluster, name, TTL.
const childVariable = "MULTIHOST_LOCK_TEST_CHILD"

// child acquires the lock, says its token, and then answers what it is asked.
func child() int {
	var addr, name string
	var cluster bool
	var ttl time.Duration
	if _, err := fmt.Sscan(os.Getenv(childVariable), &addr, &cluster, &name, (*int64)(&ttl)); err != nil {
		fmt.Println(err)
		return 2
	}
	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{addr}, IsClusterMode: cluster})
	lock, err := redislock.New(client, name, &redislock.Options{TTL: ttl})
	if err != nil {
		fmt.Println(err)
		return 2
	}
	h, err := lock.Acquire(context.Background())
	if err != nil {
		fmt.Println(err)
		return 2
	}
	token := h.Token()
	fmt.Println("token", token)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var err error
		switch in.Text() {
		case "err":
			err = h.Err()
		case "token":
			if h.Token() != token {
				err = redislock.ErrLost
			}
		case "done":
			<-h.Done()
			err = h.Err()
		case "release":
			err = h.Release(context.Background())
		}
		fmt.Println(in.Text(), errors.Is(err, redislock.ErrLost), err)
	}
	return 0
}

// A member is a child as its parent sees it.
type member struct{ *redistest.Child }

func start(t testing.TB, s *redistest.Server, name string, ttl time.Duration) member {
	t.Helper()
	return member{redistest.StartChild(t, childVariable, fmt.Sprintf("%s %v %s %d", s.Addr, s.Cluster, name, ttl))}
}

// holds waits until the child has the lock and returns its token.
func (m member) holds(t testing.TB) uint64 {
	t.Helper()
	line := m.Line(t, soon)
	token, err := strconv.ParseUint(strings.TrimPrefix(line, "token "), 10, 64)
	if err != nil {
		t.Fatalf("a child should say its token, it says %q", line)
	}
	return token
}

// says asks the child and wants to hear whether that is ErrLost.
func (m member) says(t testing.TB, what string, lost bool) {
	t.Helper()
	m.Tell(t, what)
	line := m.Line(t, soon)
	if !strings.HasPrefix(line, fmt.Sprint(what, " ", lost)) {
		t.Errorf("%q should be ErrLost: %v, the child says %q", what, lost, line)
	}
}

// wantNext says that the token is that of a later turn.
func wantNext(t testing.TB, h *redislock.Lease, earlier uint64) {
	t.Helper()
	if token := h.Token(); token <= earlier {
		t.Errorf("the next token should be greater than %d, it is %d", earlier, token)
	}
}

func TestTheNextHasTheLockWhenTheTTLOfAKilledHolderHasEnded(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		c := start(t, s, name, short)
		token := c.holds(t)
		waiter := begin(t, newLock(t, client, name, unhurried))
		awaitLine(t, client, name, 1)
		c.Kill()
		killed := time.Now()
		next := waiter.granted(t)
		// It was renewed a third of the TTL ago at the most.
		took := time.Since(killed)
		t.Logf("the next has the lock %v after the holder was killed, its TTL is %v", took.Round(time.Millisecond), short)
		if slack := short / 3; took < short*2/3-slack || took > short+slack {
			t.Errorf("the next should have the lock when the TTL of %v has ended, it had it after %v", short, took)
		}
		wantNext(t, next, token)
		release(t, next)
		wantNoKeys(t, client, name)
	})
}

// A holder that is stopped for longer than its TTL is told as soon as it runs
// again, in all ways, and touches nothing of the next.
func TestAStoppedHolderIsToldOfItsLossAndTheNextTokenIsGreater(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		c := start(t, s, name, short)
		token := c.holds(t)
		waiter := begin(t, newLock(t, client, name, unhurried))
		awaitLine(t, client, name, 1)
		c.says(t, "err", false)
		redistest.PauseProcess(t, c.Process)
		next := waiter.granted(t)
		wantNext(t, next, token)
		redistest.ResumeProcess(t, c.Process)
		for _, ask := range []string{"err", "token", "done", "release"} {
			c.says(t, ask, true)
		}
		wantHeld(t, next)
		wantTaken(t, newLock(t, client, name, unhurried))
		release(t, next)
		c.Kill()
		wantNoKeys(t, client, name)
	})
}

// One that nobody waits behind is told all the same: a renewal that comes too late
// does not revive its lease.
func TestAStoppedHolderIsToldWithoutAnybodyElse(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		c := start(t, s, name, short)
		token := c.holds(t)
		redistest.PauseProcess(t, c.Process)
		redistest.EventuallyTrue(t, soon, "the lease ends at the server", func() bool {
			n, err := client.Exists(soonCtx(t), key(name, "")).Result()
			return err == nil && n == 0
		})
		redistest.ResumeProcess(t, c.Process)
		for _, ask := range []string{"err", "token", "done", "release"} {
			c.says(t, ask, true)
		}
		next := take(t, newLock(t, client, name, unhurried))
		wantNext(t, next, token)
		release(t, next)
		c.Kill()
		wantNoKeys(t, client, name)
	})
}

func TestAKilledWaiterIsPassedOverAtOnce(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		h := take(t, newLock(t, client, name, unhurried))
		c := start(t, s, name, short)
		awaitLine(t, client, name, 1)
		waiter := begin(t, newLock(t, s.Client(t), name, unhurried))
		awaitLine(t, client, name, 2)
		c.Kill()
		awaitLine(t, client, name, 1) // the server has seen the end of its connection
		token := h.Token()
		released := time.Now()
		release(t, h)
		next := waiter.granted(t)
		if took := time.Since(released); took > offer*2/3 {
			t.Errorf("a waiter whose connection is closed should be passed over at once, it took %v", took)
		}
		wantNext(t, next, token)
		release(t, next)
	})
}

// offer is how long a grant lasts that was handed over and not renewed.
const offer = 3 * time.Second

// The first in line is stopped when the lock is handed over to it, and then goes on
// or is killed.
func TestAWaiterThatIsStoppedOrKilledAtTheHandOverCostsThreeSeconds(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		t.Run(map[bool]string{false: "stopped", true: "killed"}[killed], func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, s *redistest.Server) {
				name := redistest.Name(t)
				client := s.Client(t)
				h := take(t, newLock(t, client, name, unhurried))
				token := h.Token()
				c := start(t, s, name, time.Minute)
				awaitLine(t, client, name, 1)
				waiter := begin(t, newLock(t, s.Client(t), name, unhurried))
				awaitLine(t, client, name, 2)
				redistest.PauseProcess(t, c.Process)
				released := time.Now()
				release(t, h)
				if owner, err := client.Get(soonCtx(t), key(name, "")).Result(); err != nil {
					t.Fatalf("the lock should be handed over to the stopped process, it has %q, %v", owner, err)
				}
				waiter.wantWaiting(t)
				if killed {
					c.Kill()
				}
				next := waiter.granted(t)
				took := time.Since(released)
				t.Logf("the next has the lock after %v", took.Round(time.Millisecond))
				if took < offer-100*time.Millisecond || took > offer+offer/3 {
					t.Errorf("the next should have the lock %v after the hand-over, it had it after %v", offer, took)
				}
				wantNext(t, next, token)
				token = next.Token()
				if !killed {
					// It reads a grant that has ended, does not take it for its own, and
					// is in line again.
					awaitLine(t, client, name, 0)
					redistest.ResumeProcess(t, c.Process)
					awaitLine(t, client, name, 1)
					wantHeld(t, next)
					if !c.Silent() {
						t.Errorf("a process that was stopped at the hand-over should wait, it says %q", c.Line(t, soon))
					}
				}
				release(t, next)
				if !killed {
					if got := c.holds(t); got <= token {
						t.Errorf("its token should be greater than %d, it is %d", token, got)
					}
					c.says(t, "release", false)
				}
				wantNoKeys(t, client, name)
			})
		})
	}
}
