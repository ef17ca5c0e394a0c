package redisqueue_test

import (
	"testing"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// What the replica has is there, and waits go on at the new primary. What it has not
// heard of is lost: this is not prevented, and docs/guarantees.md says so.
func TestAFailOverLosesTheItemsThatTheReplicaHasNotHeardOfAndNoOthers(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		p := s.StartPair(t)
		name := redistest.Name(t)
		q := newQueue[int](t, p.Client(t), name, nil)
		put(t, q, 1, 2)
		held := receive(t, q)
		p.Synced(t)
		p.Promote(t)
		put(t, q, 3)
		p.FailOver(t)
		wantHeld(t, held)
		ack(t, held)
		wantGot(t, q, 2)
		wantEmpty(t, q)

		waits := begin(t, q.Get)
		waits.wantWaiting(t, "Get of an empty queue")
		put(t, newQueue[int](t, p.Replica.Client(t), name, nil), 4)
		if got := waits.returns(t, "Get"); got != 4 {
			t.Errorf("Get should return what was put at the new primary, got %d", got)
		}
		remove(t, q)
	})
}

// Waits that began at the old primary go on at the new one.
func TestWaitsGoOnAfterAFailOver(t *testing.T) {
	t.Parallel()
	for what, failOver := range map[string]func(*redistest.Pair, testing.TB){
		"killed": (*redistest.Pair).FailOver, "demoted": (*redistest.Pair).Demote,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, s *redistest.Server) {
				p := s.StartPair(t)
				name := redistest.Name(t)
				var heard journal
				opts := &redisqueue.Options{Observe: heard.note}
				gets := begin(t, newQueue[int](t, p.Client(t), name, opts).Get)
				receives := beginReceive(t, newQueue[int](t, p.Client(t), name+"r", opts))
				heard.awaitKind(t, redisqueue.Waiting, 2)
				p.Synced(t)
				p.Promote(t)
				failOver(p, t)
				put(t, newQueue[int](t, p.Replica.Client(t), name, nil), 1)
				put(t, newQueue[int](t, p.Replica.Client(t), name+"r", nil), 2)
				if got := gets.returns(t, "Get"); got != 1 {
					t.Errorf("Get should return what was put at the new primary, got %d", got)
				}
				if d := receives.returns(t, "Receive"); d.Value() != 2 {
					t.Errorf("Receive should return what was put at the new primary, got %d", d.Value())
				} else {
					ack(t, d)
				}
			})
		})
	}
}
