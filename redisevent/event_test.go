package redisevent_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisevent"
)

func TestEachChangeCountsOnceAndWhatIsSoAlreadyIsNone(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		e := newEvent(t, s.Client(t), name, nil)
		other := newEvent(t, s.Client(t), name, nil)
		wantState(t, e, redisevent.State{})
		var steps []string
		for i, step := range []struct {
			op   string
			want redisevent.State
		}{
			{"Clear", redisevent.State{}},
			{"Set", redisevent.State{Set: true, Changes: 1}},
			{"Set", redisevent.State{Set: true, Changes: 1}},
			{"Clear", redisevent.State{Changes: 2}},
			{"Clear", redisevent.State{Changes: 2}},
			{"Pulse", redisevent.State{Changes: 3}},
			{"Pulse", redisevent.State{Changes: 4}},
			{"Set", redisevent.State{Set: true, Changes: 5}},
			{"Pulse", redisevent.State{Changes: 6}},
			{"Delete", redisevent.State{}},
			{"Delete", redisevent.State{}},
			{"Pulse", redisevent.State{Changes: 1}},
			{"Set", redisevent.State{Set: true, Changes: 2}},
		} {
			change(t, []*redisevent.Event{e, other}[i%2], step.op)
			steps = append(steps, step.op)
			for _, handle := range []*redisevent.Event{e, other} {
				if got, err := handle.State(soonCtx(t)); got != step.want || err != nil {
					t.Fatalf("after %v State should be %+v, got %+v, %v", steps, step.want, got, err)
				}
			}
		}
	})
}

func TestDeleteLeavesNothing(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		e := newEvent(t, s.Client(t), name, nil)
		change(t, e, "Set", "Clear", "Pulse", "Set", "Delete")
		redistest.NoLeaks(t, s, name)
	})
}

func TestWaitOnASetEventReturnsAtOnceAndSubscribesToNothing(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		wire := redistest.NewWire(t)
		client := s.Client(t, wire.Through)
		name := redistest.Name(t)
		change(t, newEvent(t, s.Client(t), name, nil), "Set")
		e := newEvent(t, client, name, nil)
		for range 50 {
			if err := e.Wait(soonCtx(t)); err != nil {
				t.Fatalf("Wait on a set event should return nil, got %v", err)
			}
		}
		counts := wire.Counts()
		if n := counts["SUBSCRIBE"] + counts["SSUBSCRIBE"]; n != 0 {
			t.Errorf("Wait on a set event should subscribe to nothing, it did %d times", n)
		}
		// A cluster client has connections of its own, to learn of the nodes.
		if n := wire.Conns(); n > 2 && !s.Cluster {
			t.Errorf("Wait on a set event should make do with the client's connection and the one for calls that come often, there are %d", n)
		}
	})
}

func TestManyWaitsAtOnceOnASetEventAllReturn(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client := s.Client(t)
		e := newEvent(t, client, redistest.Name(t), nil)
		change(t, e, "Set")
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() {
				if err := e.Wait(soonCtx(t)); err != nil {
					t.Errorf("Wait on a set event should return nil, got %v", err)
				}
			})
		}
		all.Wait()
	})
}

// threading.Event's rule: who waits when the event is set is released, however
// short it is set.
func TestEveryoneWhoWaitsInEveryProcessIsReleased(t *testing.T) {
	t.Parallel()
	const processes, each = 4, 25
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		common := redistest.Name(t)
		for how, ops := range releases {
			t.Run(how, func(t *testing.T) {
				name := common + how
				wire := redistest.NewWire(t)
				var waiters []*waiter
				var clients []redis.UniversalClient
				for range processes {
					client := s.Client(t, wire.Through)
					clients = append(clients, client)
					for range each {
						waiters = append(waiters, begin(t, client, name))
					}
				}
				subscribed(t, clients[0], name, processes)
				if n := wire.PubSubConns(); n != processes {
					t.Errorf("%d processes should have a subscription each, there are %d", processes, n)
				}
				for _, w := range waiters {
					w.stillWaits(t, "nobody has set the event")
				}
				e := newEvent(t, s.Client(t), name, nil)
				change(t, e, ops...)
				for _, w := range waiters {
					w.released(t)
				}
				wantState(t, e, redisevent.State{Set: how == "Set", Changes: uint64(len(ops))})
				change(t, e, "Delete")
			})
		}
		redistest.NoLeaks(t, s, common)
	})
}

func TestTheProcessThatReleasesIsReleasedToo(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client, name := s.Client(t), redistest.Name(t)
		for how, ops := range releases {
			w := begin(t, client, name)
			change(t, newEvent(t, client, name, nil), ops...)
			w.released(t)
			if how == "Set" {
				change(t, newEvent(t, client, name, nil), "Clear")
			}
		}
	})
}

func TestAWaitThatBeginsAfterClearWaitsForTheNextSet(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client, setter := s.Client(t), newEvent(t, s.Client(t), name, nil)
		first := begin(t, client, name)
		for range 20 {
			// The message of the Set may be on its way still.
			change(t, setter, "Set", "Clear")
			next := begin(t, client, name)
			first.released(t)
			next.stillWaits(t, "the event was cleared before")
			first = next
		}
		wantErr(t, "a cancelled Wait", first.ended(t), context.Canceled)
	})
}

func TestACancelledWaitSaysSoAndNothingElse(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client, name := s.Client(t), redistest.Name(t)
		err := begin(t, client, name).ended(t)
		wantErr(t, "a cancelled Wait", err, context.Canceled)
		wantNot(t, "a cancelled Wait while Redis answers", err, redisevent.ErrUnavailable, redisevent.ErrUnknownOutcome)
		want := fmt.Sprintf("redisevent: wait for %q: context canceled", name)
		if err.Error() != want {
			t.Errorf("the error should read %s, got %s", want, err)
		}

		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		err = newEvent(t, client, name, nil).Wait(ctx)
		wantErr(t, "a Wait whose deadline has passed", err, context.DeadlineExceeded)
		redistest.NoLeaks(t, s, name)
	})
}

func TestACallWithAnEndedCtxSendsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		e := newEvent(t, b.client, b.name, nil)
		change(t, e, "Pulse")
		b.wire.ResetCounts()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, op := range allMethods {
			err := call(e, ctx, op)
			wantErr(t, op+" with an ended ctx", err, context.Canceled)
			wantNot(t, op+" with an ended ctx", err, redisevent.ErrUnknownOutcome, redisevent.ErrUnavailable)
		}
		time.Sleep(time.Second)
		if n := b.wire.Total(); n != 0 {
			t.Errorf("a call with an ended ctx should send nothing, sent was %v", b.wire.Counts())
		}
	})
}

func TestACancelledWaitLeavesTheOthersWaiting(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client, name := s.Client(t), redistest.Name(t)
		a, b := begin(t, client, name), begin(t, client, name)
		subscribed(t, client, name, 1)
		wantErr(t, "a cancelled Wait", a.ended(t), context.Canceled)
		b.stillWaits(t, "another one was cancelled")
		change(t, newEvent(t, s.Client(t), name, nil), "Pulse")
		b.released(t)
	})
}

func TestObserveHearsWhatHappensInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		var mu sync.Mutex
		var heard []redisevent.Observation
		opts := redisevent.Options{Observe: func(o redisevent.Observation) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, o)
		}}
		w := begin(t, b.client, b.name, opts)
		time.Sleep(time.Second)
		b.wire.CutPubSub()
		time.Sleep(fallback + time.Second)
		change(t, newEvent(t, b.direct, b.name, nil), "Set")
		w.released(t)
		time.Sleep(time.Second)

		mu.Lock()
		defer mu.Unlock()
		var kinds []redisevent.Kind
		for _, o := range heard {
			kinds = append(kinds, o.Kind)
			if o.Name != b.name {
				t.Errorf("an observation should name the event %q, got %+v", b.name, o)
			}
		}
		want := []redisevent.Kind{redisevent.Waiting, redisevent.Reconnected, redisevent.Fallback, redisevent.Woken}
		if !slices.Equal(kinds, want) {
			t.Fatalf("Observe should hear %v, heard %+v", want, heard)
		}
		if d := heard[3].Duration; d != fallback+2*time.Second {
			t.Errorf("Woken should come after %v of waiting, it says %v", fallback+2*time.Second, d)
		}
	})
}

func TestOneEventIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		e := newEvent(t, s.Client(t), redistest.Name(t), nil)
		var all sync.WaitGroup
		for _, op := range allMethods {
			for range 4 {
				all.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
					defer cancel()
					for ctx.Err() == nil {
						err := call(e, ctx, op)
						if err != nil && !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("%s should succeed until its ctx ends, got %v", op, err)
						}
					}
				})
			}
		}
		all.Wait()
	})
}
