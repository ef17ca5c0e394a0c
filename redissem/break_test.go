package redissem_test

import (
	"context"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redissem"
)

// breakable is a TTL with a third that can be waited for: a holder whose
// process listens to nothing hears of Break at its next renewal.
var breakable = &redissem.Options{TTL: short}

func TestBreakEndsTheHolderThatWasMeantAndNoOther(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		h := take(t, newSem(t, client, name, 2, breakable))
		stays := take(t, newSem(t, client, name, 2, breakable))
		waiter := begin(t, newSem(t, s.Client(t), name, 2, unhurried))
		awaitLine(t, client, name, 1)
		if err := newSem(t, s.Client(t), name, 2, nil).Break(soonCtx(t), h.ID()); err != nil {
			t.Fatalf("Break should end the holder, got %v", err)
		}
		wantErr(t, "the holder's Err, when Break has returned,", h.Err(), redissem.ErrLost)
		wantLost(t, h)
		next := waiter.granted(t)
		wantErr(t, "Release after Break", h.Release(soonCtx(t)), redissem.ErrLost)
		wantHeld(t, next) // it came after the one who was meant
		wantHeld(t, stays)
		release(t, next)
		release(t, stays)
		wantNoKeys(t, client, name)
	})
}

func TestBreakOfADeadHolderReturnsWhenItsLeaseHasEnded(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		w := redistest.NewWire(t)
		h := take(t, newSem(t, s.Client(t, w.Through), name, 1, &redissem.Options{TTL: 3 * brief}))
		w.Partition()
		sem := newSem(t, s.Client(t), name, 1, nil)
		if err := sem.Break(soonCtx(t), h.ID()); err != nil {
			t.Fatalf("Break of a dead holder should return nil, got %v", err)
		}
		wantErr(t, "the dead holder's Err, when Break has returned,", h.Err(), redissem.ErrLost)
		wantFree(t, sem, 1)
	})
}

func TestBreakOfWhatIsOverOrUnknownHarmsNobody(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		sem := newSem(t, client, name, 1, unhurried)
		before := take(t, sem)
		release(t, before)
		h := take(t, sem)
		ticket, _, _ := cut(h.ID())
		for _, id := range []string{before.ID(), "nobody-1.1", ticket + ".0", ticket + ".99999", ticket + ".4294967295", "語.1"} {
			if err := sem.Break(soonCtx(t), id); err != nil {
				t.Errorf("Break of %q should return nil, got %v", id, err)
			}
			wantHeld(t, h)
		}
		for _, id := range []string{"", ".", ticket, ticket + ".", ticket + ".x", ticket + ".-1", ".1", ticket + ".4294967296"} {
			if err := sem.Break(soonCtx(t), id); err == nil {
				t.Errorf("Break of %q should say that this is no id", id)
			}
		}
		wantTaken(t, sem)
		release(t, h)
		wantFree(t, sem, 1)
		wantNoKeys(t, client, name)
	})
}

// The process has been granted a permit once, and its turns share a ticket.
func TestBreakOfATurnThatWasPassedOnHarmsNobody(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		before := take(t, newSem(t, client, name, 1, unhurried))
		var heard journal
		sem := newSem(t, s.Client(t), name, 1, &redissem.Options{TTL: short, Observe: heard.note})
		first := begin(t, sem)
		heard.awaitKind(t, redissem.Waiting, 1)
		second := begin(t, sem)
		heard.awaitKind(t, redissem.Waiting, 2)
		awaitLine(t, client, name, 1)
		release(t, before)
		h := first.granted(t)
		id := h.ID()
		release(t, h)
		h = second.granted(t)
		if ticket, _, _ := cut(id); h.ID() != ticket+".2" {
			t.Fatalf("the second turn of the same permit should be %s.2, got %s", ticket, h.ID())
		}
		if err := newSem(t, client, name, 1, nil).Break(soonCtx(t), id); err != nil {
			t.Fatalf("Break of a turn that is over should return nil, got %v", err)
		}
		wantHeld(t, h)
		if err := newSem(t, client, name, 1, nil).Break(soonCtx(t), h.ID()); err != nil {
			t.Fatalf("Break of the present turn should return nil, got %v", err)
		}
		wantLost(t, h)
	})
}

func TestManyMayBreakTheSameHolder(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		h := take(t, newSem(t, s.Client(t), name, 1, breakable))
		over := make(chan error)
		for range 6 {
			sem := newSem(t, s.Client(t), name, 1, nil)
			go func() { over <- sem.Break(soonCtx(t), h.ID()) }()
		}
		for range 6 {
			if err := await(t, over, "the end of Break"); err != nil {
				t.Errorf("each Break of the same holder should return nil, got %v", err)
			}
		}
		wantLost(t, h)
		wantNoKeys(t, s.Client(t), name)
	})
}

func TestBreakIsHeardAtOnceByAProcessThatListens(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		theirs := redistest.BubbleClient(t, m)
		h := take(t, newSem(t, theirs, "x", 1, unhurried))
		take(t, newSem(t, client, "y", 1, unhurried))
		begin(t, newSem(t, theirs, "y", 1, unhurried))
		time.Sleep(time.Second)
		start := time.Now()
		if err := newSem(t, client, "x", 1, nil).Break(soonCtx(t), h.ID()); err != nil {
			t.Fatalf("Break should return nil, got %v", err)
		}
		if took := time.Since(start); took > 10*time.Millisecond {
			t.Errorf("a process that listens should hear of Break at once, it took %v", took)
		}
		wantLost(t, h)
	})
}

func TestBreakReturnsWhenItsCtxEndsAndTheRevocationStands(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		h := take(t, newSem(t, redistest.BubbleClient(t, m), "x", 1, nil))
		sem := newSem(t, client, "x", 1, nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		wantErr(t, "Break whose ctx ends", sem.Break(ctx, h.ID()), context.DeadlineExceeded)
		wantHeld(t, h) // nobody has told it yet
		wantTaken(t, sem)
		time.Sleep(redissem.DefaultTTL / 3)
		wantLost(t, h)
		wantFree(t, sem, 1)
	})
}
