package scenario

import (
	"context"
	"time"

	"github.com/multihost/multihost/redislock"
)

// Print is three processes that share a terminal. Each prints a line, works for
// a while and prints another. Left alone their lines mix; under one Lock each
// has the terminal to itself until it is done; and a lock around the whole body
// has the effect of starting each process only when the one before has ended.
type Print struct {
	Lock    bool `xor:"order" help:"Put one lock around each worker's body."`
	Join    bool `xor:"order" help:"Start each worker only when the one before has ended."`
	Workers int  `default:"3" help:"Number of workers."`
}

var (
	printRunning = phrase{key: "running", en: "%d : %s is running", zh: "%d : %s is running", named: true}
	printDone    = phrase{key: "done", en: "%d : %s is done", zh: "%d : %s is done", named: true}
)

// Validate is called when the command line has been read.
func (p *Print) Validate() error { return inRange("--workers", p.Workers, 1, atMost) }

// Cast implements Scenario.
func (p *Print) Cast() Cast {
	return Cast{
		Source: "internal/scenario/print.go",
		Roles:  []Role{{Name: "worker", Count: p.Workers, InTurn: p.Join}},
		Locks:  []string{"terminal"},
		Events: []string{"start"},
		Keys:   []string{"start"},
	}
}

// Work implements Scenario.
func (p *Print) Work(ctx context.Context, w *Worker) error {
	if p.Join {
		return p.task(ctx, w)
	}
	if err := w.Together(ctx, "start", p.Workers); err != nil {
		return err
	}
	if !p.Lock {
		return p.task(ctx, w)
	}
	terminal, err := redislock.New(w.Client, "terminal", &redislock.Options{Namespace: w.Namespace})
	if err != nil {
		return err
	}
	return holding(ctx, terminal.Do, func(ctx context.Context, _ *redislock.Lease) error {
		return p.task(ctx, w)
	})
}

func (p *Print) task(ctx context.Context, w *Worker) error {
	w.Say(ctx, printRunning, w.Index, w.Who)
	least := time.Duration(0)
	if !p.Lock && !p.Join {
		// Half the time at least, so that the others have begun by then: the
		// lines mix every time, not only mostly.
		least = time.Second / 2
	}
	if err := w.Pause(ctx, least, time.Second); err != nil {
		return err
	}
	w.Say(ctx, printDone, w.Index, w.Who)
	return nil
}

// Judge implements Scenario.
func (p *Print) Judge(journal []Fact) Verdict {
	switch {
	case p.Lock:
		return judgeUnmixed(journal, p.Workers, false)
	case p.Join:
		return judgeUnmixed(journal, p.Workers, true)
	}
	return judgeMixed(journal, p.Workers)
}
