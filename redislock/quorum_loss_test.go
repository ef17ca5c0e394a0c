package redislock_test

import (
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

// A lease of which a majority cannot be reached ends at its deadline, and nobody else has the
// lock before.
func TestTheHolderOfAQuorumIsToldBeforeAnotherHasTheLock(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	opts := &redislock.Options{TTL: 1500 * time.Millisecond}
	h := take(t, m.lock(m.through, opts))
	waiter := begin(t, m.lock(m.direct(), opts))
	for _, w := range m.wires[:2] {
		w.Partition()
	}
	next := waiter.granted(t)
	select {
	case <-h.Done():
	default:
		t.Error("Done should be closed before another has the lock")
	}
	wantLost(t, h)
	wantErr(t, "Release of a lost lease", h.Release(soonCtx(t)), redislock.ErrLost)
	wantHeld(t, next)
}

func TestAQuorumThatHasLostItsKeysSaysErrLostAndNeverTakesThemAgain(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	clients := m.direct()
	h := take(t, m.lock(m.through, &redislock.Options{TTL: 3 * time.Second}))
	var renewed *redistest.Fault
	lose := func(i int) {
		t.Helper()
		redistest.EventuallyTrue(t, soon, "the key is there to be deleted", func() bool { // of all but the majority
			return clients[i].Del(soonCtx(t), key(m.name, "")).Val() == 1
		})
		renewed = m.wires[i].Watch(quorumScript(t, "keep"))
		renewed.Await(t)
		renewed.AwaitReply(t)
		if n := clients[i].Exists(soonCtx(t), key(m.name, "")).Val(); n != 0 {
			t.Error("a renewal should not make the key again")
		}
	}
	lose(0)
	wantHeld(t, h)
	lose(1)
	wantLost(t, h)
	wantErr(t, "Release of a lost lease", h.Release(soonCtx(t)), redislock.ErrLost)
	m.wantNothing()
}

func TestReleaseOfALostQuorumSaysErrLostEvenBeforeTheRenewal(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	h := take(t, m.lock(m.through, unhurried))
	for _, c := range m.direct()[:2] {
		c.Set(soonCtx(t), key(m.name, ""), "somebody", 0)
	}
	wantErr(t, "Release of a lease whose keys another has", h.Release(soonCtx(t)), redislock.ErrLost)
	for _, c := range m.direct()[:2] {
		if v := c.Get(soonCtx(t), key(m.name, "")).Val(); v != "somebody" {
			t.Errorf("a key of somebody else should not be touched, it is %q", v)
		}
	}
}

func TestReleaseOfASilentQuorumSaysThatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	h := take(t, m.lock(m.through, unhurried))
	for _, w := range m.wires[:2] {
		w.Partition()
	}
	start := time.Now()
	wantErr(t, "Release towards a silent majority", h.Release(soonCtx(t)), redislock.ErrUnknownOutcome)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("Release should give up after a second, it took %v", took)
	}
	for _, w := range m.wires[:2] {
		w.Heal()
	}
	m.wantNothing()
}

func TestBreakOfAQuorum(t *testing.T) {
	t.Parallel()
	m := startMasters(t, 3)
	m.servers[2].Pause(t)
	ours, theirs := m.lock(m.through, &redislock.Options{TTL: 2 * time.Second}), m.lock(m.direct(), nil)
	h := take(t, ours)
	if err := theirs.Break(soonCtx(t), h.Token()-1); err != nil {
		t.Fatalf("Break of a turn that is over should return nil, got %v", err)
	}
	wantHeld(t, h)
	wantErr(t, "Delete of a held lock", theirs.Delete(soonCtx(t)), redislock.ErrNotAcquired)
	for _, token := range []uint64{h.Token(), 0} {
		if err := theirs.Break(soonCtx(t), token); err != nil {
			t.Fatalf("Break should return nil, got %v", err)
		}
		wantLost(t, h)
		h = take(t, ours)
	}
	release(t, h)
	if err := theirs.Break(soonCtx(t), 0); err != nil {
		t.Fatalf("Break of a free lock should return nil, got %v", err)
	}
	if err := theirs.Delete(soonCtx(t)); err != nil {
		t.Fatalf("Delete of a free lock should return nil, got %v", err)
	}
	wantFree(t, ours)
}
