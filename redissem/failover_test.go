package redissem_test

import (
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redissem"
)

// Holders keep their permits over a restart with the data, and waits go on: also
// from a snapshot, which lacks the latest renewals.
func TestHoldersAndWaitsSurviveARestartWithTheData(t *testing.T) {
	t.Parallel()
	for what, args := range map[string]func(testing.TB) []string{
		"append-only file": redistest.Persist,
		"snapshot":         func(t testing.TB) []string { return []string{"--dir", t.TempDir()} },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, s *redistest.Server) {
				own := s.StartOwn(t, args(t)...)
				name := redistest.Name(t)
				client := own.Client(t)
				opts := &redissem.Options{TTL: 2 * short}
				held := []*redissem.Permit{take(t, newSem(t, client, name, 2, opts)), take(t, newSem(t, own.Client(t), name, 2, opts))}
				waiter := begin(t, newSem(t, own.Client(t), name, 2, unhurried))
				awaitLine(t, client, name, 1)
				if what == "snapshot" {
					if err := client.Save(soonCtx(t)).Err(); err != nil {
						t.Fatal(err)
					}
				}
				own.Restart(t)
				for _, h := range held {
					first := h.Deadline()
					redistest.EventuallyTrue(t, soon, "the permit is renewed", func() bool {
						wantHeld(t, h)
						return h.Deadline().After(first)
					})
				}
				awaitLine(t, client, name, 1)
				waiter.wantWaiting(t)
				wantTaken(t, newSem(t, client, name, 2, nil))
				release(t, held[0])
				next := waiter.granted(t)
				wantTaken(t, newSem(t, client, name, 2, nil))
				release(t, next)
				release(t, held[1])
				wantFree(t, newSem(t, client, name, 2, nil), 2)
			})
		})
	}
}

func TestAFailOverChangesNothingForPermitsThatTheReplicaHas(t *testing.T) {
	t.Parallel()
	for what, failOver := range map[string]func(*redistest.Pair, testing.TB){
		"killed": (*redistest.Pair).FailOver, "demoted": (*redistest.Pair).Demote,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, s *redistest.Server) {
				p := s.StartPair(t)
				name := redistest.Name(t)
				h := take(t, newSem(t, p.Client(t), name, 1, &redissem.Options{TTL: 2 * short}))
				waiter := begin(t, newSem(t, p.Client(t), name, 1, unhurried))
				awaitLine(t, p.Own.Client(t), name, 1)
				p.Synced(t)
				p.Promote(t)
				failOver(p, t)
				first := h.Deadline()
				redistest.EventuallyTrue(t, soon, "the permit is renewed by the new primary", func() bool {
					wantHeld(t, h)
					return h.Deadline().After(first)
				})
				client := p.Replica.Client(t)
				awaitLine(t, client, name, 1)
				waiter.wantWaiting(t)
				release(t, h)
				release(t, waiter.granted(t))
				wantFree(t, newSem(t, client, name, 1, nil), 1)
			})
		})
	}
}

// This is not prevented, and docs/guarantees.md says so: the replica has not
// heard of the permit when it becomes the primary.
func TestAFailOverThatForgetsAPermitMakesOneHolderTooManyUntilTheNextRenewal(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		p := s.StartPair(t)
		name := redistest.Name(t)
		p.Promote(t)
		start := time.Now()
		h := take(t, newSem(t, p.Client(t), name, 1, &redissem.Options{TTL: short}))
		next := take(t, newSem(t, p.Replica.Client(t), name, 1, unhurried))
		wantHeld(t, h) // both
		p.FailOver(t)
		wantLost(t, h)
		if after := time.Since(start); after > short*9/10 {
			t.Errorf("the first holder should hear it at the next renewal, after %v, it did after %v", short/3, after)
		}
		wantErr(t, "its Release", h.Release(soonCtx(t)), redissem.ErrLost)
		wantHeld(t, next)
		wantTaken(t, newSem(t, p.Replica.Client(t), name, 1, nil))
		release(t, next)
	})
}
