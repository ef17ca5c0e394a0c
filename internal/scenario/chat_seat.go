package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multihost/multihost/redislock"
)

// The room of servers that people start: they come and go, and nobody counts them.

// RoomSeats is how many servers that people start find a seat in a room.
const RoomSeats = 10

// A Seat is the place of a server in a room where servers come and go. Each seat is
// a lock: a server that dies loses its lease, and from then on nobody puts anything
// into its queue.
type Seat struct {
	Number int
	Lease  *redislock.Lease
	locks  []*redislock.Lock
	queues room
}

// EnterRoom takes the first free seat in the room of a run. It also takes those
// behind for a moment, to delete what the servers left that died there.
func EnterRoom(ctx context.Context, set Setting) (*Seat, error) {
	queues, err := newRoom(set, RoomSeats)
	if err != nil {
		return nil, err
	}
	s := &Seat{queues: queues}
	for n := range RoomSeats {
		lock, err := redislock.New(set.Client, fmt.Sprint("seat ", n), &redislock.Options{Namespace: set.Namespace, TTL: 3 * time.Second})
		if err != nil {
			return nil, err
		}
		s.locks = append(s.locks, lock)
	}
	for n, lock := range s.locks {
		lease, err := lock.TryAcquire(ctx)
		if errors.Is(err, redislock.ErrNotAcquired) {
			continue
		}
		if err == nil {
			err = queues[n].Delete(ctx)
		}
		if err == nil && s.Lease == nil {
			s.Number, s.Lease = n, lease
			continue
		}
		if lease != nil {
			err = errors.Join(err, overdue(lease.Release(ctx)))
		}
		if err != nil {
			return nil, errors.Join(err, s.Leave(ctx))
		}
	}
	if s.Lease == nil {
		return nil, fmt.Errorf("all %d seats of the room %q are taken", RoomSeats, set.Namespace)
	}
	return s, nil
}

// Tell tells every server that has a seat, this one too.
func (s *Seat) Tell(ctx context.Context, worker int, text string) error {
	for n, lock := range s.locks {
		seat, err := lock.State(ctx)
		if err == nil && seat.Held {
			err = s.queues[n].Put(ctx, RoomMessage{s.Number, worker, text})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Print prints what is said in the room until ctx ends.
func (s *Seat) Print(ctx context.Context, printed func(RoomMessage)) error {
	return s.queues.print(ctx, s.Number, printed)
}

// Leave gives the seat back and deletes what it had in Redis, also after the end of
// ctx. What is put by somebody who saw it taken just before, the next one deletes.
func (s *Seat) Leave(ctx context.Context) error {
	if s.Lease == nil || s.Lease.Err() != nil {
		return nil // the queue may be that of the next one already
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := errors.Join(s.queues[s.Number].Delete(ctx), overdue(s.Lease.Release(ctx)))
	for _, lock := range s.locks {
		_ = lock.Delete(ctx) // not those that are taken
	}
	return err
}
