package hub

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/redistest"
)

// laned makes calls one after another until there is a lane.
func laned(t *testing.T, b bubble) *link {
	t.Helper()
	l := b.hub.link(nil)
	redistest.EventuallyTrue(t, soon, "a lane is open", func() bool {
		send(t, b.hub, &Call{Args: []any{"ECHO", "alone"}}) // or just behind another, which does not count
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.lane != nil
	})
	synctest.Wait() // until nothing is under way
	return l
}

func TestCallsThatComeAloneOftenGetALane(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		laned(t, b)
		var seen hook
		b.client.AddHook(&seen)
		dialled := b.wire.Dialled()
		for range 5 {
			r, err := b.hub.Do(t.Context(), &Call{Args: []any{"ECHO", "x"}, Keys: []string{"any"}})
			if err != nil || r.Value != "x" || r.Attempts != 1 {
				t.Errorf("a call over the lane should be answered, got %+v, %v", r, err)
			}
		}
		for range 5 { // pipelines take it too
			send(t, b.hub, &Call{Args: []any{"ECHO", "x"}, Private: true})
		}
		if names := seen.names(); names != nil {
			t.Errorf("the user's client should not be used any more, its hooks saw %v", names)
		}
		if n := b.wire.Dialled(); n != dialled {
			t.Errorf("one private connection should do, %d were dialled in addition", n-dialled)
		}
	})
}

// A call over the lane runs on its caller's goroutine. The caller returns all the
// same when ctx ends, and the call's outcome is heard of.
func TestWhoeverWaitsOverTheLaneCanGiveUp(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		for what, limit := range map[string]func(ctx context.Context) (context.Context, context.CancelFunc, time.Duration){
			"the end of ctx": func(ctx context.Context) (context.Context, context.CancelFunc, time.Duration) {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				return ctx, cancel, time.Hour
			},
			"the end of the wait": func(ctx context.Context) (context.Context, context.CancelFunc, time.Duration) {
				return ctx, func() {}, time.Second
			},
		} {
			laned(t, b)
			silent := b.wire.HoldReply(redistest.Has("silent"))
			ctx, cancel, wait := limit(t.Context())
			outcome := make(chan Reply, 1)
			start := clock.Now()
			b.hub.Run(ctx, &Call{
				Args: []any{"ECHO", "silent"}, Keys: []string{"any"}, Patience: time.Minute,
				Done: func(r Reply) { outcome <- r },
			}, wait)
			if d := clock.Since(start); d < time.Second || d > time.Second+5*time.Millisecond {
				t.Errorf("%s, after a second, should end the wait, it took %v", what, d)
			}
			r := await(t, outcome, "the outcome")
			if !r.Ambiguous || !errors.Is(r.Err, ErrUnavailable) {
				t.Errorf("after %s nobody knows whether the call was carried out, got %+v", what, r)
			}
			wantNoCtx(t, r.Err)
			cancel()
			silent.Release()
			send(t, b.hub, &Call{Args: []any{"ECHO", "x"}}) // on another connection
		}
	})
}

func TestALaneThatBreaksIsReplaced(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		for range 3 {
			laned(t, b)
			b.wire.CutAll()
			r, err := b.hub.Do(t.Context(), &Call{Args: []any{"ECHO", "x"}, Keys: []string{"any"}, Attempts: 3})
			if err != nil || r.Value != "x" {
				t.Errorf("the call should be sent again, got %+v, %v", r, err)
			}
		}
	})
}

// Calls that come while one is under way on the lane wait for it, and go together.
func TestCallsBehindTheLaneGoTogether(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		laned(t, b)
		held := b.wire.HoldReply(redistest.Has("first"))
		first := make(chan error, 1)
		go func() {
			_, err := b.hub.Do(t.Context(), &Call{Args: []any{"ECHO", "first"}, Keys: []string{"any"}})
			first <- err
		}()
		held.Await(t)
		var outcomes []<-chan Reply
		for range 10 {
			outcomes = append(outcomes, begin(b.hub, &Call{Args: []any{"ECHO", "x"}}))
		}
		held.Release()
		if err := await(t, first, "the first outcome"); err != nil {
			t.Error(err)
		}
		for _, o := range outcomes {
			if r := await(t, o, "the outcome"); r.Err != nil || r.Value != "x" {
				t.Errorf("each should be answered, got %+v", r)
			}
		}
	})
}

// A ctx that ends when its call is answered must not cut the lane, which is somebody
// else's by then.
func TestTheLateEndOfACtxCutsNobodyElsesCall(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		laned(t, b)
		for range 20 {
			ctx, cancel := context.WithCancel(t.Context())
			b.hub.Run(ctx, &Call{Args: []any{"ECHO", "x"}, Keys: []string{"any"}, Done: func(r Reply) {
				if r.Err != nil {
					t.Errorf("the call should be answered, got %v", r.Err)
				}
				cancel()
			}}, time.Second)
			synctest.Wait()
			r, err := b.hub.Do(t.Context(), &Call{Args: []any{"ECHO", "next"}, Keys: []string{"any"}})
			if err != nil || r.Attempts != 1 {
				t.Fatalf("nobody has ended this call and the server is well, got %+v, %v", r, err)
			}
		}
	})
}

// A lane that is being opened on a server that is silent ends with the hub.
func TestAnOpeningLaneEndsWithTheHub(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		w := redistest.NewWire(t)
		h := Use(redistest.BubbleClient(t, b.m, w.ThroughBubble), nil)
		held := w.HoldReply(redistest.Is("ping"))
		for range 2 * often {
			send(t, h, &Call{Args: []any{"ECHO", "alone"}})
			synctest.Wait()
		}
		held.Await(t)
		if n := w.Conns(); n < 2 {
			t.Errorf("a lane should be opening beside the user's connection, there are %d", n)
		}
		h.Done()
		time.Sleep(2 * Linger)
		synctest.Wait()
		if n := w.Conns(); n != 1 {
			t.Errorf("after the hub's end only the user's connection should be left, there are %d", n)
		}
		held.Release()
	})
}
