package redislock_test

import (
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redislock"
)

func TestAFailOverChangesNothingForALockThatTheReplicaHas(t *testing.T) {
	t.Parallel()
	for what, failOver := range map[string]func(*redistest.Pair, testing.TB){
		"killed": (*redistest.Pair).FailOver, "demoted": (*redistest.Pair).Demote,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, s *redistest.Server) {
				p := s.StartPair(t)
				name := redistest.Name(t)
				client := p.Client(t)
				h := take(t, newLock(t, client, name, &redislock.Options{TTL: 2 * short}))
				token := h.Token()
				waiter := begin(t, newLock(t, p.Client(t), name, unhurried))
				awaitLine(t, client, name, 1)
				p.Synced(t)
				p.Promote(t)
				failOver(p, t)
				first := h.Deadline()
				redistest.EventuallyTrue(t, soon, "the lease is renewed by the new primary", func() bool {
					wantHeld(t, h)
					return h.Deadline().After(first)
				})
				awaitLine(t, p.Replica.Client(t), name, 1)
				waiter.wantWaiting(t)
				release(t, h)
				next := waiter.granted(t)
				wantNext(t, next, token)
				release(t, next)
				wantNoKeys(t, p.Replica.Client(t), name)
			})
		})
	}
}

// This is not prevented, and docs/guarantees.md says so: the replica has not
// heard of the lock when it becomes the primary. The token tells who was first.
func TestAFailOverThatForgetsTheLockMakesTwoHoldersUntilTheNextRenewal(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		p := s.StartPair(t)
		name := redistest.Name(t)
		p.Promote(t)
		start := time.Now()
		h := take(t, newLock(t, p.Client(t), name, &redislock.Options{TTL: short}))
		token := h.Token()
		next := take(t, newLock(t, p.Replica.Client(t), name, unhurried))
		wantHeld(t, h) // both
		wantNext(t, next, token)
		p.FailOver(t)
		wantLost(t, h)
		if after := time.Since(start); after > short*9/10 {
			t.Errorf("the first holder should hear it at the next renewal, after %v, it did after %v", short/3, after)
		}
		wantErr(t, "its Release", h.Release(soonCtx(t)), redislock.ErrLost)
		wantHeld(t, next)
		wantTaken(t, newLock(t, p.Replica.Client(t), name, nil))
		release(t, next)
	})
}

// Who waited at the old primary gets in line at the new one.
func TestAWaitThatTheReplicaHasNotHeardOfGoesOn(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		p := s.StartPair(t)
		name := redistest.Name(t)
		client := p.Client(t)
		h := take(t, newLock(t, client, name, unhurried))
		p.Synced(t)
		p.Promote(t)
		waiter := begin(t, newLock(t, p.Client(t), name, unhurried))
		awaitLine(t, client, name, 1)
		p.FailOver(t)
		awaitLine(t, p.Replica.Client(t), name, 1)
		waiter.wantWaiting(t)
		release(t, h)
		release(t, waiter.granted(t))
		wantNoKeys(t, client, name)
	})
}
