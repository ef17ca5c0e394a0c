package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/multihost/multihost/redislock"
)

// Tickets is five buyers and three tickets. Each buyer reads how many are left,
// takes a moment, and writes one less. Without a lock all of them read 3, and
// more tickets are sold than there are. Under one Lock each reads what the one
// before has written; and because a lock that works by leases can be lost by a
// process that sleeps too long, each write carries the lock's fencing token, and
// the record refuses one that is older than its own.
type Tickets struct {
	NoLock  bool   `xor:"lock" help:"Leave the lock out: more tickets are sold than there are."`
	Queue   bool   `xor:"lock,record" help:"Pass the tickets through a queue: no record, and no lock."`
	File    string `type:"path" xor:"record" placeholder:"PATH" help:"Keep the record in this file, not in Redis; it is created if absent, with a lock file PATH.lock beside it."`
	Buyers  int    `default:"5" help:"Number of buyers."`
	Tickets int    `default:"3" help:"Number of tickets in a new record."`
}

var (
	ticketsLeft   = phrase{key: "left", colour: yellow, en: "%d tickets left", zh: "剩余票数 %d"}
	ticketBought  = phrase{key: "bought", colour: green, en: "bought a ticket", zh: "购票成功"}
	ticketMissed  = phrase{key: "missed", colour: red, en: "no ticket for me", zh: "购票失败"}
	ticketsOpened = "opened"  // with the count found before anyone bought
	ticketWritten = "written" // with the fencing token of the write
	ticketsClosed = "closed"  // with the count found when all have ended
)

// Validate is called when the command line has been read.
func (t *Tickets) Validate() error {
	if info, err := os.Stat(t.File); err == nil && info.IsDir() {
		return fmt.Errorf("--file: %s is a directory: allowed is a file, or a name for a new one", t.File)
	}
	return errors.Join(inRange("--buyers", t.Buyers, 1, atMost), inRange("--tickets", t.Tickets, 0, 1000))
}

// Cast implements Scenario.
func (t *Tickets) Cast() Cast {
	cast := Cast{
		Source: "internal/scenario/tickets.go",
		Roles:  []Role{{Name: "buyer", Count: t.Buyers}},
		Locks:  []string{"tickets"},
		Events: []string{"start"},
		Keys:   []string{"start", "tickets"},
	}
	if t.Queue {
		cast.Source = "internal/scenario/tickets_queue.go"
		cast.Locks, cast.Queues = nil, []string{"tickets"}
	}
	return cast
}

func (t *Tickets) record(w *Worker) ticketRecord {
	if t.File != "" {
		return fileRecord{t.File}
	}
	return redisRecord{w.Client, w.Key("tickets")}
}

// Work implements Scenario.
func (t *Tickets) Work(ctx context.Context, w *Worker) error {
	if t.Queue {
		return t.take(ctx, w)
	}
	record := t.record(w)
	before, err := record.Open(ctx, t.Tickets)
	if err != nil {
		return err
	}
	w.Note(ctx, ticketsOpened, before.Count)
	if err := w.Together(ctx, "start", t.Buyers); err != nil {
		return err
	}
	now, err := record.Read(ctx)
	if err != nil {
		return err
	}
	w.Say(ctx, ticketsLeft, now.Count)
	if t.NoLock {
		return t.buy(ctx, w, record, 0)
	}
	lock, err := redislock.New(w.Client, "tickets", &redislock.Options{Namespace: w.Namespace})
	if err != nil {
		return err
	}
	return holding(ctx, lock.Do, func(ctx context.Context, lease *redislock.Lease) error {
		return t.buy(ctx, w, record, lease.Token())
	})
}

// buy is the race: between its read and its write others may buy, unless a lock
// keeps them out. Without one there is no token, and the record keeps what it has.
func (t *Tickets) buy(ctx context.Context, w *Worker, record ticketRecord, token uint64) error {
	now, err := t.look(ctx, record, token)
	if err != nil {
		return err
	}
	if err := w.Pause(ctx, 0, time.Second); err != nil {
		return err
	}
	if now.Count > 0 {
		now.Count--
		if err := record.Write(ctx, now); err != nil {
			return err
		}
		w.Note(ctx, ticketWritten, token)
		w.Say(ctx, ticketBought)
	} else {
		w.Say(ctx, ticketMissed)
	}
	return w.Pause(ctx, 0, time.Second)
}

func (t *Tickets) look(ctx context.Context, record ticketRecord, token uint64) (stock, error) {
	if token == 0 {
		return record.Read(ctx)
	}
	return record.Claim(ctx, token)
}

// Audit implements Auditor.
func (t *Tickets) Audit(ctx context.Context, w *Worker) error {
	if t.Queue {
		return t.close(ctx, w)
	}
	after, err := t.record(w).Read(ctx)
	if err != nil {
		return err
	}
	w.Note(ctx, ticketsClosed, after.Count)
	return nil
}

// Judge implements Scenario.
func (t *Tickets) Judge(journal []Fact) Verdict {
	switch {
	case t.NoLock:
		return judgeOversold(journal, t.Buyers)
	case t.Queue:
		return judgeTaken(journal, t.Buyers)
	}
	return judgeSold(journal, t.Buyers)
}
