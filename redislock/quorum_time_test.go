package redislock_test

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

func TestTheLockOfADeadHolderOfAQuorumComesWithItsTTL(t *testing.T) {
	inQuorum(t, 3, func(t *testing.T, clients func() []redis.UniversalClient, _ []*miniredis.Miniredis) {
		dead := take(t, newQuorum(t, clients(), "x", &redislock.Options{TTL: time.Hour, NoRenew: true}))
		start := time.Now()
		h := begin(t, newQuorum(t, clients(), "x", nil))
		<-h.over
		if took := time.Since(start); took < time.Hour-time.Second || took > time.Hour+time.Second {
			t.Errorf("the lock of a dead holder should come after its TTL of an hour, it took %v", took)
		}
		wantErr(t, "Err of the dead holder", dead.Err(), redislock.ErrLost)
		release(t, h.granted(t))
	})
}

// Who waits does not poll: what it sends grows with the time only as its fallback.
func TestAWaitForAQuorumDoesNotPoll(t *testing.T) {
	inQuorum(t, 3, func(t *testing.T, clients func() []redis.UniversalClient, servers []*miniredis.Miniredis) {
		h := take(t, newQuorum(t, clients(), "x", &redislock.Options{TTL: time.Hour, NoRenew: true}))
		w := redistest.NewWire(t)
		watched := clients()
		watched[0] = redistest.BubbleClient(t, servers[0], w.ThroughBubble)
		waiter := begin(t, newQuorum(t, watched, "x", nil))
		time.Sleep(time.Second)
		waiter.wantWaiting(t)
		w.ResetCounts()
		time.Sleep(10 * time.Minute)
		waiter.wantWaiting(t)
		if c := w.Counts(); c["EVALSHA"]+c["EVAL"] > 2*20 || c["EVALSHA"] < 10 {
			t.Errorf("in ten minutes it should look about every 30 s, it sent %v", c)
		}
		release(t, h)
		release(t, waiter.granted(t))
	})
}

func TestOfAProcessOneGoroutineContendsForAQuorum(t *testing.T) {
	inQuorum(t, 3, func(t *testing.T, clients func() []redis.UniversalClient, servers []*miniredis.Miniredis) {
		h := take(t, newQuorum(t, clients(), "x", unhurried))
		w := redistest.NewWire(t)
		watched := clients()
		watched[0] = redistest.BubbleClient(t, servers[0], w.ThroughBubble)
		var all []*attempt
		for range 20 {
			all = append(all, begin(t, newQuorum(t, watched, "x", unhurried)))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		if c := w.Counts(); c["EVALSHA"]+c["EVAL"] > 10 {
			t.Errorf("one should ask for all, they sent %v", c)
		}
		release(t, h)
		for _, a := range all { // in the order in which they came
			release(t, a.granted(t))
		}
	})
}

func TestMinHoldOfAQuorum(t *testing.T) {
	inQuorum(t, 3, func(t *testing.T, clients func() []redis.UniversalClient, _ []*miniredis.Miniredis) {
		start := time.Now()
		release(t, take(t, newQuorum(t, clients(), "x", &redislock.Options{MinHold: time.Minute})))
		l := newQuorum(t, clients(), "x", nil)
		wantTaken(t, l)
		a := begin(t, l)
		<-a.over
		if took := time.Since(start); took < time.Minute || took > time.Minute+time.Second {
			t.Errorf("the lock should rest for its MinHold of a minute, it took %v", took)
		}
		release(t, a.granted(t))
	})
}

func TestMaxHoldOfAQuorum(t *testing.T) {
	inQuorum(t, 3, func(t *testing.T, clients func() []redis.UniversalClient, _ []*miniredis.Miniredis) {
		l := newQuorum(t, clients(), "x", &redislock.Options{MaxHold: time.Minute})
		other := newQuorum(t, clients(), "x", nil)
		for _, release := range []bool{true, false} {
			start := time.Now()
			h := take(t, l)
			<-h.Done()
			if took := time.Since(start); took != time.Minute {
				t.Errorf("a turn should end after its MaxHold of a minute, it took %v", took)
			}
			wantErr(t, "Err after MaxHold", h.Err(), redislock.ErrLost)
			wantTaken(t, other) // what it still does has time to stop
			want := redislock.DefaultTTL
			if release {
				time.Sleep(time.Second)
				wantErr(t, "Release after MaxHold", h.Release(soonCtx(t)), redislock.ErrLost)
				want = 2 * time.Second
			}
			start = time.Now()
			next := acquire(t, other)
			if took := time.Since(start); took > want {
				t.Errorf("the lock should be free again after %v, it took %v", want, took)
			}
			if err := next.Release(soonCtx(t)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestADroppedLeaseOfAQuorumLapses(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	drop(t, m.lock(m.through, &redislock.Options{TTL: 3 * time.Second}))
	awaitCollected(t, m.lock(m.direct(), nil))
}

// A token is greater than those of turns that other majorities have seen.
func TestTokensGrowWhicheverMajorityIsThere(t *testing.T) {
	inQuorum(t, 5, func(t *testing.T, clients func() []redis.UniversalClient, servers []*miniredis.Miniredis) {
		l := newQuorum(t, clients(), "x", nil)
		last := uint64(0)
		for i := range 30 {
			down := []int{i % 5, (i*i + 2) % 5}
			for _, j := range down {
				servers[j].SetError("LOADING of a test")
			}
			h := take(t, l)
			if h.Token() <= last {
				t.Fatalf("turn %d has token %d, after %d", i, h.Token(), last)
			}
			last = h.Token()
			release(t, h)
			for _, j := range down {
				servers[j].SetError("")
			}
			time.Sleep(time.Second) // releases are sent again
		}
	})
}

// The clock of one server runs ahead, and it is not in every majority.
func TestTokensGrowWhenTheClocksOfServersDiffer(t *testing.T) {
	inQuorum(t, 3, func(t *testing.T, clients func() []redis.UniversalClient, servers []*miniredis.Miniredis) {
		l := newQuorum(t, clients(), "x", nil)
		servers[0].SetTime(time.Now().Add(time.Hour))
		last := uint64(0)
		for i := range 6 {
			servers[i%3].SetError("LOADING of a test")
			h := take(t, l)
			if h.Token() <= last {
				t.Fatalf("turn %d has token %d, after %d", i, h.Token(), last)
			}
			last = h.Token()
			release(t, h)
			servers[i%3].SetError("")
			time.Sleep(time.Second)
		}
	})
}
