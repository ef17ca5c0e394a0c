package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multihost/multihost/redisqueue"
)

// The moral of the tickets: pass messages, and share no data. Each ticket is an
// item of a queue; who gets one has bought it, and there is nothing to lock.

var ticketTaken = "taken" // a ticket, with its number

func (t *Tickets) queue(w *Worker) (*redisqueue.Queue[int], error) {
	return redisqueue.New[int](w.Client, "tickets", &redisqueue.Options{
		Namespace: w.Namespace,
		ID:        func(ticket any) string { return fmt.Sprint("ticket ", ticket) },
	})
}

// take is a buyer's part. Each buyer puts the tickets on sale, like everybody opens
// the record otherwise; they have IDs, so each is put once.
func (t *Tickets) take(ctx context.Context, w *Worker) error {
	queue, err := t.queue(w)
	if err != nil {
		return err
	}
	var tickets []int
	for n := range t.Tickets {
		tickets = append(tickets, n)
	}
	if _, err := queue.PutMany(ctx, tickets); err != nil {
		return err
	}
	w.Note(ctx, ticketsOpened, t.Tickets)
	if err := w.Together(ctx, "start", t.Buyers); err != nil {
		return err
	}
	left, err := queue.Len(ctx)
	if err != nil {
		return err
	}
	w.Say(ctx, ticketsLeft, left)
	if err := w.Pause(ctx, 0, time.Second); err != nil {
		return err
	}
	ticket, err := queue.TryGet(ctx)
	switch {
	case err == nil:
		w.Note(ctx, ticketTaken, ticket)
		w.Say(ctx, ticketBought)
	case errors.Is(err, redisqueue.ErrEmpty):
		w.Say(ctx, ticketMissed)
	default:
		return err
	}
	return w.Pause(ctx, 0, time.Second)
}

// close notes how many tickets nobody has bought.
func (t *Tickets) close(ctx context.Context, w *Worker) error {
	queue, err := t.queue(w)
	if err != nil {
		return err
	}
	left, err := queue.Len(ctx)
	if err != nil {
		return err
	}
	w.Note(ctx, ticketsClosed, left)
	return nil
}
