package redisqueue_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// A player is one goroutine of a random mix, whose deeds are recorded.
type player struct {
	t       *testing.T
	id      int
	queue   *redisqueue.Queue[queueItem]
	history *redistest.QueueHistory
	rough   bool // calls may find Redis unavailable
	last    int  // the number of its latest item
}

// brief is a ctx that may end in the middle of a call.
func (p *player) brief() (context.Context, context.CancelFunc) {
	d := 100 * time.Millisecond
	if rand.N(3) == 0 {
		d = rand.N(6 * time.Millisecond)
	}
	return context.WithTimeout(context.Background(), d)
}

func (p *player) play(moves int) {
	for range moves {
		switch n := rand.N(100); {
		case n < 25:
			p.put(1)
		case n < 40:
			p.tryPut()
		case n < 50:
			p.put(2)
		case n < 75:
			p.get(1)
		case n < 85:
			p.get(2)
		default:
			p.tryGet()
		}
	}
}

// put puts so many items with PutMany.
func (p *player) put(n int) {
	ctx, cancel := p.brief()
	defer cancel()
	var items []queueItem
	var calls []redistest.QueuePutting
	for range n {
		p.last++
		item := queueItem{Producer: p.id, Number: p.last}
		items = append(items, item)
		calls = append(calls, p.history.Put(p.id, item))
	}
	done, err := p.queue.PutMany(ctx, items)
	for i, c := range calls {
		switch {
		case i < done:
			c.Done()
		default:
			p.notPut(c, err)
		}
	}
}

func (p *player) tryPut() {
	p.last++
	item := queueItem{Producer: p.id, Number: p.last}
	c := p.history.Put(p.id, item)
	err := p.queue.TryPut(soonCtx(p.t), item)
	switch {
	case err == nil:
		c.Done()
	case errors.Is(err, redisqueue.ErrFull):
		c.Full()
	default:
		p.notPut(c, err)
	}
}

func (p *player) notPut(c redistest.QueuePutting, err error) {
	switch {
	case errors.Is(err, redisqueue.ErrUnknownOutcome):
		c.Unknown()
	case errors.Is(err, redisqueue.ErrShutdown):
		c.Ended()
	case errors.Is(err, context.DeadlineExceeded), p.rough && errors.Is(err, redisqueue.ErrUnavailable):
		c.GaveUp()
	default:
		p.t.Errorf("Put should succeed or end by its ctx, got %v", err)
	}
}

// get takes up to so many items with GetMany.
func (p *player) get(most int) {
	ctx, cancel := p.brief()
	defer cancel()
	var calls []redistest.QueueTaking
	for range most {
		calls = append(calls, p.history.Get(p.id))
	}
	items, err := p.queue.GetMany(ctx, most)
	for i, c := range calls {
		switch {
		case i < len(items):
			c.Got(items[i])
		case err == nil:
			c.Nothing()
		case errors.Is(err, context.DeadlineExceeded):
			c.GaveUp()
		case errors.Is(err, redisqueue.ErrShutdown):
			c.Ended()
		case p.rough && errors.Is(err, redisqueue.ErrUnavailable):
			c.Unknown() // an item may be lost with the connection
		default:
			p.t.Errorf("Get should succeed or end by its ctx, got %v", err)
		}
	}
}

// tryGet tells whether it got an item.
func (p *player) tryGet() bool {
	c := p.history.Get(p.id)
	switch item, err := p.queue.TryGet(soonCtx(p.t)); {
	case err == nil:
		c.Got(item)
		return true
	case errors.Is(err, redisqueue.ErrEmpty):
		c.Empty()
	case errors.Is(err, redisqueue.ErrShutdown):
		c.Ended()
	case p.rough && errors.Is(err, redisqueue.ErrUnknownOutcome):
		c.Unknown()
	default:
		p.t.Errorf("TryGet should succeed or say ErrEmpty, got %v", err)
	}
	return false
}

// mix lets the goroutines of several processes, a client each, play with the
// same queue, and judges what they saw. Now and then things settle, which makes
// the judge's search short. In the end the queue is shut down and drained.
func mix(t *testing.T, s *redistest.Server, name string, clients []redis.UniversalClient, rough bool, maxSize, goroutines int, during func(h *redistest.QueueHistory, play func())) {
	t.Helper()
	history := redistest.QueueHistory{MaxSize: maxSize}
	opts := bounded(maxSize)
	var players []*player
	for i, client := range clients {
		q := newQueue[queueItem](t, client, name, opts)
		for j := range goroutines {
			players = append(players, &player{t: t, id: i*goroutines + j, queue: q, history: &history, rough: rough})
		}
	}
	calm := &player{t: t, id: len(players), queue: newQueue[queueItem](t, clients[0], name, opts), history: &history}
	rounds, plays := 2, 5
	if rough { // many outcomes are not known: the search takes longer
		rounds, plays = 3, 3
	}
	for range rounds {
		during(&history, func() {
			var group sync.WaitGroup
			for _, p := range players {
				group.Go(func() { p.play(plays) })
			}
			group.Wait()
		})
		redistest.NoLeaks(t, s, name, "")
		history.Settled()
		for calm.tryGet() {
		}
		history.Emptied()
	}
	// Now nothing excuses anything.
	for range 2 {
		calm.tryPut()
	}
	down := history.Shutdown(calm.id)
	shutdown(t, calm.queue)
	down.Done()
	calm.tryPut()
	for {
		c := history.Get(calm.id)
		item, err := calm.queue.TryGet(soonCtx(t))
		if errors.Is(err, redisqueue.ErrShutdown) {
			c.Ended()
			break
		}
		if err != nil {
			t.Fatalf("TryGet should succeed until the queue is drained, got %v", err)
		}
		c.Got(item)
	}
	remove(t, calm.queue)
	history.Drained()
	history.Judge(t)
}

func TestAQueueIsAQueue(t *testing.T) {
	t.Parallel()
	for what, maxSize := range map[string]int{"without a bound": 0, "with room for 2": 2} {
		t.Run(what, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, s *redistest.Server) {
				name := redistest.Name(t)
				clients := []redis.UniversalClient{s.Client(t), s.Client(t)}
				mix(t, s, name, clients, false, maxSize, 2, func(_ *redistest.QueueHistory, play func()) { play() })
				noLeaks(t, s, name)
			})
		})
	}
}

// The same while connections break and messages get lost.
func TestAQueueIsAQueueOverABadNetwork(t *testing.T) {
	t.Parallel()
	for what, maxSize := range map[string]int{"without a bound": 0, "with room for 2": 2} {
		t.Run(what, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, s *redistest.Server) {
				name := redistest.Name(t)
				good, bad := redistest.NewWire(t), redistest.NewWire(t)
				clients := []redis.UniversalClient{s.Client(t, good.Through), s.Client(t, bad.Through)}
				mix(t, s, name, clients, true, maxSize, 2, func(h *redistest.QueueHistory, play func()) {
					// A connection that breaks may have an item on it that nobody knows to
					// have missed.
					end := badNetwork(t, s, bad, name, func() { h.Get(99).Unknown() })
					play()
					end()
				})
				noLeaks(t, s, name)
			})
		})
	}
}

// badNetwork breaks things until end is called, and calls before before it
// breaks a connection.
func badNetwork(t *testing.T, s *redistest.Server, bad *redistest.Wire, name string, before func()) (end func()) {
	direct := s.Client(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := rand.N(6); ; i++ {
			pause(rand.N(40*time.Millisecond), stop)
			select {
			case <-stop:
				return
			default:
			}
			switch i % 6 {
			case 0:
				bad.CutPubSub()
			case 1:
				before()
				bad.DropReply(redistest.Has(name))
			case 2:
				bad.DropMessages("")
			case 3:
				bad.KeepMessages()
			case 4:
				before()
				bad.DropCommand(redistest.Has(name))
			case 5:
				_ = direct.ScriptFlush(context.Background()).Err()
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
		bad.KeepMessages()
	}
}
