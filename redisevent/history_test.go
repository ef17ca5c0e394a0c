package redisevent_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisevent"
)

// A mix is a random run of all methods from several clients, recorded.
type mix struct {
	name    string
	clients []redis.UniversalClient // a process each
	waits   int                     // of each client's waiter
	deletes bool                    // Delete too, which is a Clear for all but State
	disturb func(n int)             // called after each change, with its number

	history redistest.EventHistory
	rnd     *rand.Rand
}

// run has one goroutine of each client wait, again and again, while one other
// of each changes and looks, until all waits are over.
func (x *mix) run(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	x.rnd = rand.New(rand.NewPCG(seed, 0))
	var draw sync.Mutex
	var changed int
	next := func() (int, int) {
		draw.Lock()
		defer draw.Unlock()
		changed++
		return x.rnd.IntN(8), changed
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var waiters, changers sync.WaitGroup
	for i, client := range x.clients {
		e := newEvent(t, client, x.name, nil)
		waiters.Go(func() { x.wait(t, 2*i, e) })
		changers.Go(func() {
			for ctx.Err() == nil {
				what, n := next()
				x.change(t, 2*i+1, e, what)
				if x.disturb != nil {
					x.disturb(n)
				}
			}
		})
	}
	waiters.Wait()
	cancel()
	changers.Wait()
	x.history.Judge(t)
}

func (x *mix) wait(t *testing.T, id int, e *redisevent.Event) {
	for range x.waits {
		c := x.history.Wait(id)
		if err := e.Wait(soonCtx(t)); err != nil {
			c.Refused()
			if !errors.Is(err, redisevent.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Wait should return while others set the event, got %v", err)
			}
			continue
		}
		c.Returned()
	}
}

func (x *mix) change(t *testing.T, id int, e *redisevent.Event, what int) {
	ctx := soonCtx(t)
	var c redistest.EventCall
	var err error
	switch {
	case what == 4 && x.deletes:
		c = x.history.Clear(id)
		err = e.Delete(ctx)
	case what < 2:
		c = x.history.Set(id)
		err = e.Set(ctx)
	case what < 5:
		c = x.history.Clear(id)
		err = e.Clear(ctx)
	case what == 5:
		c = x.history.Pulse(id)
		err = e.Pulse(ctx)
	default:
		if _, err = x.history.IsSet(id, func() (bool, error) { return e.IsSet(ctx) }); err != nil && x.disturb == nil {
			t.Errorf("IsSet should succeed, got %v", err)
		}
		return
	}
	switch {
	case err == nil:
		c.Returned()
	case x.disturb == nil:
		t.Errorf("a change should succeed, got %v", err)
		c.Unknown()
	case errors.Is(err, redisevent.ErrUnknownOutcome):
		c.Unknown()
	case errors.Is(err, redisevent.ErrUnavailable):
		c.Refused()
	default:
		t.Errorf("a change in trouble should say ErrUnavailable or ErrUnknownOutcome, got %v", err)
		c.Unknown()
	}
}

func TestARandomMixFromSeveralProcessesIsThatOfAnEvent(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		x := &mix{name: redistest.Name(t), waits: 25, deletes: true}
		for range 4 {
			x.clients = append(x.clients, s.Client(t))
		}
		x.run(t)
		redistest.NoLeaks(t, s, x.name, "}", ":count", ":asked")
		change(t, newEvent(t, x.clients[0], x.name, nil), "Delete")
		redistest.NoLeaks(t, s, x.name)
	})
}

func TestARandomMixStaysThatOfAnEventWhileMessagesAreLost(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		x := &mix{name: redistest.Name(t), waits: 10}
		wire := redistest.NewWire(t)
		wire.DropMessages("") // only a re-subscription tells
		for range 3 {
			x.clients = append(x.clients, s.Client(t, wire.Through))
		}
		x.disturb = func(n int) {
			if n%20 == 0 {
				wire.CutPubSub()
			}
		}
		x.run(t)
		change(t, newEvent(t, s.Client(t), x.name, nil), "Delete")
		redistest.NoLeaks(t, s, x.name)
	})
}

func TestARandomMixStaysThatOfAnEventWhileConnectionsAreCut(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		x := &mix{name: redistest.Name(t), waits: 10}
		wire := redistest.NewWire(t)
		for range 3 {
			x.clients = append(x.clients, s.Client(t, wire.Through))
		}
		x.disturb = func(n int) {
			if n%20 == 0 {
				wire.CutAll() // replies too
			}
		}
		x.run(t)
		change(t, newEvent(t, s.Client(t), x.name, nil), "Delete")
		redistest.NoLeaks(t, s, x.name)
	})
}
