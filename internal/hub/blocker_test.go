package hub

import (
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
)

// pop blocks for so long on a list that stays empty. The channel is closed when it has
// returned.
func pop(t *testing.T, b *Blocker, wait time.Duration) <-chan struct{} {
	t.Helper()
	over, begun := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		wanted := func() bool { close(begun); return true }
		r := b.Do(wait, wanted, &Call{Keys: []string{b.key}, Args: []any{"BLPOP", b.key, wait.Seconds()}})
		if r.Err != nil || r.Value != nil {
			t.Errorf("BLPOP of an empty list should return nothing, got %+v", r)
		}
	}()
	await(t, begun, "the begin of BLPOP")
	return over
}

func dial(t *testing.T, b *Blocker) (slice time.Duration) {
	t.Helper()
	slice, err := b.Dial()
	if err != nil {
		t.Fatalf("Dial should succeed, got %v", err)
	}
	return slice
}

func TestUnblockEndsACommandThatBlocks(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.SkipOn(t, !s.Clients, "no CLIENT UNBLOCK")
		b := hubOf(t, s.Client(t)).Blocker(redistest.Name(t))
		defer b.Close()
		if slice := dial(t, b); slice != Slice {
			t.Errorf("a command that can be ended should block for %v, not %v", Slice, slice)
		}
		over := pop(t, b, time.Hour)
		b.Unblock()
		await(t, over, "the end of BLPOP")
	})
}
