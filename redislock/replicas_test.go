package redislock_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

// A family is a primary and its replicas.
type family struct {
	name     string
	primary  *redistest.Own
	replicas []*redistest.Own
	w        *redistest.Wire
	client   redis.UniversalClient // of the primary, through the wire
}

// eachFamily runs a behaviour on every kind of server that can have replicas.
func eachFamily(t *testing.T, replicas int, behave func(t *testing.T, f *family)) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		// A replica is to be in step at once; by default it is not, for 5 s.
		f := &family{name: redistest.Name(t), primary: s.StartOwn(t, "--repl-diskless-sync-delay", "0"), w: redistest.NewWire(t)}
		f.client = f.primary.Client(t, f.w.Through)
		host, port, _ := strings.Cut(f.primary.Addr, ":")
		for range replicas {
			f.replicas = append(f.replicas, s.StartOwn(t, "--replicaof", host, port))
		}
		f.awaitStep(t)
		behave(t, f)
	})
}

// awaitStep waits until all replicas are in step.
func (f *family) awaitStep(t *testing.T) {
	t.Helper()
	redistest.EventuallyTrue(t, 3*soon, "all replicas are in step", func() bool {
		pipe := f.client.Pipeline()
		pipe.Incr(soonCtx(t), "step")
		n := pipe.Do(soonCtx(t), "wait", len(f.replicas), 100)
		_, err := pipe.Exec(soonCtx(t))
		return err == nil && n.Val() == int64(len(f.replicas))
	})
}

// wantOwner says who should have the lock at each of the replicas, now.
func (f *family) wantOwner(t *testing.T, owner string) {
	t.Helper()
	for i, r := range f.replicas {
		record := r.Client(t).Get(soonCtx(t), key(f.name, "")).Val()
		if got, _, _ := strings.Cut(record, "\n"); got != owner {
			t.Errorf("replica %d should have the owner %q, it has %q", i, owner, got)
		}
	}
}

func both(ttl time.Duration) *redislock.Options {
	return &redislock.Options{TTL: ttl, Replicas: 2, ReplicaTimeout: ttl / 3}
}

func TestAGrantCountsWhenTheReplicasHaveIt(t *testing.T) {
	t.Parallel()
	eachFamily(t, 2, func(t *testing.T, f *family) {
		l := newLock(t, f.client, f.name, both(time.Minute))
		for name, get := range map[string]func(context.Context) (*redislock.Lease, error){"Acquire": l.Acquire, "TryAcquire": l.TryAcquire} {
			f.replicas[0].Pause(t)
			asked := f.w.Watch(redistest.Is("wait"))
			got := make(chan *redislock.Lease)
			go func() {
				h, err := get(soonCtx(t))
				if err != nil {
					t.Errorf("%s should succeed, got %v", name, err)
				}
				got <- h
			}()
			asked.Await(t)
			f.replicas[0].Resume(t)
			h := await(t, got, "the lock")
			f.wantOwner(t, state(t, l).Owner)
			release(t, h)
		}
	})
}

// After a hand-over, which the command of another has made.
func TestAGrantThatWasHandedOverCountsWhenTheReplicasHaveIt(t *testing.T) {
	t.Parallel()
	eachFamily(t, 2, func(t *testing.T, f *family) {
		h := take(t, newLock(t, f.primary.Client(t), f.name, unhurried))
		var j journal
		opts := both(time.Minute)
		opts.Observe = j.note
		l := newLock(t, f.client, f.name, opts)
		waiter := begin(t, l)
		awaitLine(t, f.client, f.name, 1)
		f.replicas[1].Pause(t)
		asked := f.w.Watch(redistest.Is("wait"))
		release(t, h)
		asked.Await(t)
		waiter.wantWaiting(t) // it was handed over, and does not count
		f.replicas[1].Resume(t)
		h = waiter.granted(t)
		f.wantOwner(t, state(t, l).Owner)
		redistest.EventuallyTrue(t, soon, "the hand-over is observed", func() bool { return j.count(by(redislock.HandedOver)) == 1 })
		release(t, h)
	})
}

func TestWithoutEnoughReplicasTheLockIsGivenBack(t *testing.T) {
	t.Parallel()
	eachFamily(t, 2, func(t *testing.T, f *family) {
		opts := both(3 * time.Second)
		opts.ReplicaTimeout /= 4
		// Without renewal the script has nothing to write: a WAIT after it alone
		// would prove nothing.
		for _, opts.NoRenew = range []bool{false, true} {
			l := newLock(t, f.client, f.name, opts)
			wantFree(t, l)
			f.replicas[0].Pause(t)
			_, err := l.TryAcquire(soonCtx(t))
			wantErr(t, "TryAcquire without a replica", err, redislock.ErrUnavailable)
			_, err = l.Acquire(soonCtx(t))
			wantErr(t, "Acquire without a replica", err, redislock.ErrUnavailable)
			h := take(t, newLock(t, f.client, f.name, unhurried))
			waiter := begin(t, l)
			awaitLine(t, f.client, f.name, 1)
			release(t, h)
			wantErr(t, "Acquire of a lock that was handed over without a replica", waiter.ended(t), redislock.ErrUnavailable)
			redistest.Eventually(t, soon, func() error {
				h, err := newLock(t, f.client, f.name, &redislock.Options{TTL: time.Minute, Replicas: 1}).TryAcquire(soonCtx(t))
				if err == nil {
					err = h.Release(soonCtx(t))
				}
				return err
			})
			f.replicas[0].Resume(t)
			f.awaitStep(t)
		}
		wantNoKeys(t, f.client, f.name)
	})
}

func TestARenewalThatReplicasDoNotHaveDoesNotMoveTheDeadline(t *testing.T) {
	t.Parallel()
	eachFamily(t, 1, func(t *testing.T, f *family) {
		h := take(t, newLock(t, f.client, f.name, &redislock.Options{TTL: 2 * time.Second, Replicas: 1}))
		first := h.Deadline()
		redistest.EventuallyTrue(t, soon, "a renewal moves the deadline", func() bool { return h.Deadline().After(first) })
		f.replicas[0].Pause(t)
		// A renewal may have been acknowledged just before, and not be read yet.
		f.w.Watch(redistest.Is("wait")).Await(t)
		last := h.Deadline()
		wantLost(t, h)
		if now := time.Now(); h.Deadline().After(last) || now.Before(last) {
			t.Errorf("the lease should end at its deadline %v, which is %v; it is %v", last, h.Deadline(), now)
		}
		f.replicas[0].Resume(t)
		wantNoKeys(t, f.client, f.name)
	})
}

func TestTheReplicaThatTakesOverKnowsTheHolder(t *testing.T) {
	t.Parallel()
	eachFamily(t, 1, func(t *testing.T, f *family) {
		h := take(t, newLock(t, f.client, f.name, &redislock.Options{TTL: time.Minute, Replicas: 1}))
		f.primary.Kill(t)
		heir := f.replicas[0].Client(t)
		if err := heir.Do(soonCtx(t), "REPLICAOF", "NO", "ONE").Err(); err != nil {
			t.Fatal(err)
		}
		l := newLock(t, heir, f.name, nil)
		wantTaken(t, l)
		if s := state(t, l); s.Token != h.Token() {
			t.Errorf("the holder should have token %d, State says %+v", h.Token(), s)
		}
	})
}

// What is passed on inside a process is known to the replicas.
func TestReplicasAreNotAskedWhenALockIsPassedOn(t *testing.T) {
	t.Parallel()
	eachFamily(t, 2, func(t *testing.T, f *family) {
		other := take(t, newLock(t, f.primary.Client(t), f.name, unhurried))
		var j journal
		opts := both(time.Minute)
		opts.Observe = j.note
		l := newLock(t, f.client, f.name, opts)
		load(t, f.client) // or WAIT goes with the first try of the script as well
		const n = 20
		tokens := queue(t, l, n)
		j.awaitKind(t, redislock.Waiting, n)
		awaitLine(t, f.client, f.name, 1)
		f.w.ResetCounts()
		release(t, other)
		tokens()
		passed := j.count(by(redislock.PassedOn))
		if asked := f.w.Counts()["WAIT"]; passed == 0 || asked != n-passed {
			t.Errorf("of %d turns %d were passed on; for each of the others replicas should be asked, they were %d times", n, passed, asked)
		}
	})
}

func TestACancelledWaitForReplicasReturnsAtOnceAndGivesBack(t *testing.T) {
	eachFamily(t, 1, func(t *testing.T, f *family) {
		f.replicas[0].Pause(t)
		l := newLock(t, f.client, f.name, &redislock.Options{TTL: time.Minute, Replicas: 1, ReplicaTimeout: 30 * time.Second})
		asked := f.w.Watch(redistest.Is("wait"))
		a := begin(t, l)
		asked.Await(t)
		start := time.Now()
		a.cancel()
		err := a.ended(t)
		if took := time.Since(start); took > time.Second/10 {
			t.Errorf("a cancelled Acquire should return at once, it took %v", took)
		}
		wantErr(t, "a cancelled Acquire", err, context.Canceled)
		wantNoKeys(t, f.client, f.name)
		f.replicas[0].Resume(t)
	})
}

// miniredis has no replicas.
func TestAServerWithoutReplicasHasNone(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		_, err := newLock(t, client, "x", &redislock.Options{Replicas: 1}).TryAcquire(soonCtx(t))
		wantErr(t, "TryAcquire without replicas", err, redislock.ErrUnavailable)
		if !strings.Contains(err.Error(), "0 replicas") || !strings.Contains(err.Error(), "1 are needed") {
			t.Errorf("the error should say how many there are, got %q", err)
		}
		wantNoKeys(t, client, "x")
	})
}

func TestWhatReplicasAreRefused(t *testing.T) {
	c := redis.NewClient(&redis.Options{})
	defer c.Close()
	for _, o := range []redislock.Options{
		{Replicas: -1}, {Replicas: 1, ReplicaTimeout: -1}, {Replicas: 1, ReplicaTimeout: redislock.DefaultTTL},
	} {
		if _, err := redislock.New(c, "x", &o); err == nil {
			t.Errorf("%d replicas within %v should be refused", o.Replicas, o.ReplicaTimeout)
		}
	}
}

// A reply that is lost while replicas are waited for is asked for again.
func TestALostReplyOfReplicasChangesNothing(t *testing.T) {
	eachFamily(t, 1, func(t *testing.T, f *family) {
		l := newLock(t, f.client, f.name, &redislock.Options{TTL: time.Minute, Replicas: 1})
		load(t, f.client)
		for _, handed := range []bool{false, true} {
			var h *redislock.Lease
			if handed {
				h = take(t, newLock(t, f.primary.Client(t), f.name, unhurried))
			}
			lost := f.w.DropReply(redistest.Is("wait"))
			waiter := begin(t, l)
			if handed {
				awaitLine(t, f.client, f.name, 1)
				release(t, h)
			}
			lost.Await(t)
			release(t, waiter.granted(t))
		}
	})
}
