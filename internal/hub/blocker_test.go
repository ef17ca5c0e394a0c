package hub

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

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

// A user of Redis may have no right to CLIENT UNBLOCK: the process hears it once, not
// with each connection.
func TestWhereUnblockIsForbiddenSlicesAreShort(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		s.SkipOn(t, !s.Clients || s.Cluster, "no CLIENT UNBLOCK, or users of three nodes")
		name := redistest.Name(t)
		direct := s.Client(t)
		t.Cleanup(func() { direct.Do(soonCtx(t), "ACL", "DELUSER", name) })
		if err := direct.Do(soonCtx(t), "ACL", "SETUSER", name, "on", "nopass", "~*", "&*", "+@all", "-client|unblock").Err(); err != nil {
			t.Fatal(err)
		}
		h := hubOf(t, s.Client(t, func(o *redis.UniversalOptions) { o.Username, o.Password = name, "any" }))
		first := h.Blocker(name)
		defer first.Close()
		if slice := dial(t, first); slice != Slice {
			t.Errorf("nobody has been refused yet, so a command should block for %v, not %v", Slice, slice)
		}
		over := pop(t, first, shortSlice)
		first.Unblock()
		await(t, over, "the end of BLPOP, by itself")
		second := h.Blocker(name)
		defer second.Close()
		redistest.EventuallyTrue(t, soon, "a command that cannot be ended blocks for a short time only", func() bool {
			return dial(t, first) == shortSlice && dial(t, second) == shortSlice
		})
	})
}
