package redisevent_test

import (
	"context"
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisevent"
)

// A view is a Watch on a goroutine of its own.
type view struct {
	cancel context.CancelFunc
	seen   chan redisevent.State // unbuffered: the loop's body blocks until it is read
	over   chan struct{}         // closed when the loop has ended
	err    error
}

// watch begins to watch. The test's end cancels it.
func watch(t testing.TB, e *redisevent.Event) *view {
	ctx, cancel := context.WithCancel(context.Background())
	v := &view{cancel: cancel, seen: make(chan redisevent.State), over: make(chan struct{})}
	go func() {
		defer close(v.over)
		for s, err := range e.Watch(ctx) {
			if err != nil {
				v.err = err
				continue // there should be no more
			}
			select {
			case v.seen <- s:
			case <-ctx.Done():
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-v.over
	})
	return v
}

// sees says what should be yielded next, soon.
func (v *view) sees(t testing.TB, want redisevent.State) {
	t.Helper()
	if got := await(t, v.seen, "the next state of Watch"); got != want {
		t.Fatalf("Watch should yield %+v, got %+v", want, got)
	}
}

// seesNothing says that nothing more should be yielded. For bubbles, where
// everything has happened that can.
func (v *view) seesNothing(t testing.TB, why string) {
	t.Helper()
	select {
	case s := <-v.seen:
		t.Fatalf("%s, so Watch should yield nothing, got %+v", why, s)
	case <-v.over:
		t.Fatalf("%s, so Watch should go on, it ended with %v", why, v.err)
	default:
	}
}

func (v *view) ended(t testing.TB) error {
	t.Helper()
	v.cancel()
	await(t, v.over, "the end of a cancelled Watch")
	return v.err
}

func TestWatchYieldsThePresentStateAndThenEachChange(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		e := newEvent(t, s.Client(t), name, nil)
		change(t, e, "Set")
		v, own := watch(t, newEvent(t, s.Client(t), name, nil)), watch(t, e)
		v.sees(t, redisevent.State{Set: true, Changes: 1})
		own.sees(t, redisevent.State{Set: true, Changes: 1})
		for _, step := range []struct {
			op   string
			want redisevent.State
		}{
			{"Clear", redisevent.State{Changes: 2}},
			{"Pulse", redisevent.State{Changes: 3}},
			{"Set", redisevent.State{Set: true, Changes: 4}},
			{"Pulse", redisevent.State{Changes: 5}},
		} {
			change(t, e, step.op)
			v.sees(t, step.want)
			own.sees(t, step.want)
		}
		err := v.ended(t)
		wantErr(t, "a cancelled Watch", err, context.Canceled)
		wantNot(t, "a cancelled Watch while Redis answers", err, redisevent.ErrUnavailable)
		own.ended(t)
		change(t, e, "Delete")
		redistest.NoLeaks(t, s, name)
	})
}

func TestASlowWatchSeesTheLatestAndAJump(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		e := newEvent(t, b.direct, b.name, nil)
		v := watch(t, newEvent(t, b.client, b.name, nil))
		v.sees(t, redisevent.State{})
		time.Sleep(time.Second)
		change(t, e, "Set") // is on offer from now on
		time.Sleep(time.Second)
		change(t, e, "Clear", "Set", "Pulse", "Pulse", "Set")
		time.Sleep(time.Second)
		v.sees(t, redisevent.State{Set: true, Changes: 1})
		v.sees(t, redisevent.State{Set: true, Changes: 6})
		time.Sleep(5 * time.Minute)
		v.seesNothing(t, "there was no other change")
	})
}

func TestLeavingAWatchLeaksNothing(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client, name := s.Client(t), redistest.Name(t)
		e := newEvent(t, client, name, nil)
		for range 10 {
			for _, err := range e.Watch(context.Background()) {
				if err != nil {
					t.Fatalf("Watch should yield a state, got %v", err)
				}
				break
			}
			func() {
				defer func() { _ = recover() }()
				for range e.Watch(context.Background()) {
					panic("left in a hurry")
				}
			}()
		}
		redistest.NoLeaks(t, s, name)
	})
}

func TestOneWatchCanBeRangedOverTwice(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		e := newEvent(t, s.Client(t), redistest.Name(t), nil)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		seq := e.Watch(ctx)
		for i := range 2 {
			for got, err := range seq {
				if want := (redisevent.State{Changes: uint64(i)}); got != want || err != nil {
					t.Errorf("Watch should begin with the present state %+v, got %+v, %v", want, got, err)
				}
				break
			}
			change(t, e, "Pulse")
		}
		cancel()
		n := 0
		for _, err := range seq {
			n++
			wantErr(t, "a Watch with an ended ctx", err, context.Canceled)
		}
		if n != 1 {
			t.Errorf("a Watch with an ended ctx should yield once, its error; it did so %d times", n)
		}
	})
}

func TestWatchSeesTheEndOfATTL(t *testing.T) {
	const ttl = 2 * time.Second
	for when, before := range map[string]bool{"set before": true, "set while watched": false} {
		t.Run(when, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b bubble) {
				setter := newEvent(t, b.direct, b.name, &redisevent.Options{TTL: ttl})
				if before {
					change(t, setter, "Set")
				}
				v := watch(t, newEvent(t, b.client, b.name, nil))
				if !before {
					v.sees(t, redisevent.State{})
					time.Sleep(time.Second)
					change(t, setter, "Set")
				}
				v.sees(t, redisevent.State{Set: true, Changes: 1})
				start := time.Now()
				v.sees(t, redisevent.State{})
				if d := time.Since(start); d > ttl+100*time.Millisecond {
					t.Errorf("Watch should see the end of a TTL of %v when it comes, it took %v", ttl, d)
				}
				time.Sleep(5 * time.Minute)
				v.seesNothing(t, "there was no other change")
			})
		})
	}
}

func TestWatchSeesARefreshedTTLLastLonger(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		setter := newEvent(t, b.direct, b.name, &redisevent.Options{TTL: 2 * time.Second})
		change(t, setter, "Set")
		v := watch(t, newEvent(t, b.client, b.name, nil))
		v.sees(t, redisevent.State{Set: true, Changes: 1})
		for range 10 {
			time.Sleep(time.Second)
			change(t, setter, "Set")
		}
		v.seesNothing(t, "the event stayed set")
		v.sees(t, redisevent.State{})
	})
}

func TestWatchSeesDelete(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		e := newEvent(t, b.direct, b.name, nil)
		change(t, e, "Set")
		v := watch(t, newEvent(t, b.client, b.name, nil))
		v.sees(t, redisevent.State{Set: true, Changes: 1})
		change(t, e, "Delete")
		time.Sleep(fallback + time.Second) // it tells nobody
		v.sees(t, redisevent.State{})
		change(t, e, "Set")
		v.sees(t, redisevent.State{Set: true, Changes: 1})
	})
}

func TestWatchGoesOnAfterTheConnectionWasLost(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		wire := redistest.NewWire(t)
		name := redistest.Name(t)
		direct := s.Client(t)
		e := newEvent(t, direct, name, nil)
		v := watch(t, newEvent(t, s.Client(t, wire.Through), name, nil))
		v.sees(t, redisevent.State{})
		subscribed(t, direct, name, 1)
		wire.Down()
		change(t, e, "Set", "Clear", "Set")
		wire.Up()
		v.sees(t, redisevent.State{Set: true, Changes: 3})
		wire.CutPubSub()
		change(t, e, "Clear")
		v.sees(t, redisevent.State{Changes: 4})
		wire.CutAll()
		change(t, e, "Pulse")
		v.sees(t, redisevent.State{Changes: 5})
	})
}

func TestWatchEndsWithTheErrorOfItsFirstLookAndRidesOutLaterOnes(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		v := watch(t, newEvent(t, b.client, b.name, nil))
		v.sees(t, redisevent.State{})
		b.wire.Down()
		time.Sleep(time.Minute)
		v.seesNothing(t, "an outage is ridden out")

		late := watch(t, newEvent(t, b.client, b.name, nil))
		await(t, late.over, "the end of a Watch that begins without a server")
		wantErr(t, "a Watch that begins without a server", late.err, redisevent.ErrUnavailable)

		b.wire.Up()
		change(t, newEvent(t, b.direct, b.name, nil), "Set")
		v.sees(t, redisevent.State{Set: true, Changes: 1})
	})
}

// An answer that was on its way when a message came says less than the message.
func TestWatchNeverGoesBack(t *testing.T) {
	for _, slow := range []bool{false, true} {
		inBubble(t, func(t *testing.T, b bubble) {
			warm(t, b.direct)
			e := newEvent(t, b.direct, b.name, nil)
			change(t, e, "Pulse")
			old := b.wire.HoldReply(redistest.Nth(2, looks(b.name))) // that after the subscription
			v := watch(t, newEvent(t, b.client, b.name, nil))
			v.sees(t, redisevent.State{Changes: 1})
			old.Await(t)
			change(t, e, "Set")
			time.Sleep(10 * time.Millisecond)
			if slow {
				old.Release()
				time.Sleep(time.Second)
			}
			v.sees(t, redisevent.State{Set: true, Changes: 2})
			old.Release()
			time.Sleep(5 * time.Minute)
			v.seesNothing(t, "there was no other change")
		})
	}
}

func TestWatchEndsWithItsCtxHoweverOftenTheEventChanges(t *testing.T) {
	inBubble(t, func(t *testing.T, b bubble) {
		const enough = 20
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		e := newEvent(t, b.direct, b.name, nil)
		n := 0
		var last error
		for _, err := range newEvent(t, b.client, b.name, nil).Watch(ctx) {
			if last = err; err != nil {
				break
			}
			if n++; n == 3 {
				cancel()
			}
			if n == enough {
				break
			}
			change(t, e, "Pulse")
			time.Sleep(time.Second) // its message has come when the loop goes on
		}
		wantErr(t, "a Watch whose ctx ended", last, context.Canceled)
		if n == enough {
			t.Errorf("Watch should end when its ctx does, it yielded %d more states", n-3)
		}
	})
}

func TestWatchAndWaitOfOneProcessShareASubscription(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		wire := redistest.NewWire(t)
		name := redistest.Name(t)
		client, direct := s.Client(t, wire.Through), s.Client(t)
		var views []*view
		for range 3 {
			v := watch(t, newEvent(t, client, name, nil))
			v.sees(t, redisevent.State{})
			views = append(views, v)
			begin(t, client, name)
		}
		subscribed(t, direct, name, 1)
		if n := wire.Counts(); n["SUBSCRIBE"]+n["SSUBSCRIBE"] != 1 {
			t.Errorf("one process should subscribe once, sent was %v", n)
		}
		change(t, newEvent(t, direct, name, nil), "Pulse")
		for _, v := range views {
			v.sees(t, redisevent.State{Changes: 1})
		}
	})
}

// Values that Watch yields are those of one event's life, in order, whatever
// is lost on the way.
func TestWatchYieldsAGrowingNumberOfChanges(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		wire := redistest.NewWire(t)
		name := redistest.Name(t)
		e := newEvent(t, s.Client(t), name, nil)
		const rounds = 60
		changer := make(chan error, 1)
		go func() {
			for i := range rounds {
				for _, op := range changes { // each of them changes something
					if err := call(e, context.Background(), op); err != nil {
						changer <- err
						return
					}
				}
				if i%20 == 10 {
					wire.CutAll()
				}
			}
			changer <- nil
		}()
		last := redisevent.State{}
		for got, err := range newEvent(t, s.Client(t, wire.Through), name, nil).Watch(soonCtx(t)) {
			if err != nil {
				t.Fatalf("Watch should see the last change, the %dth, it saw %+v and ended with %v", rounds*len(changes), last, err)
			}
			if got.Changes < last.Changes || got.Changes == last.Changes && got != last {
				t.Fatalf("Watch should never go back, it yielded %+v after %+v", got, last)
			}
			if last = got; got.Changes == uint64(rounds*len(changes)) {
				break
			}
		}
		if err := await(t, changer, "the last change"); err != nil {
			t.Fatalf("changes should succeed, got %v", err)
		}
	})
}
