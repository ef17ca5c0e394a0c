package main

import (
	"bufio"
	"context"
	"encoding/gob"
	"fmt"
	"os"
	"sync"
	"time"
)

// workerCommand takes turns with some goroutines, for a while after a line came
// on standard input.
type workerCommand struct {
	Contestant string        `required:""`
	Addr       string        `required:""`
	Name       string        `required:"" help:"What is taken."`
	Own        bool          `help:"Each goroutine takes one of its own."`
	Fill       bool          `help:"Make the name ready."`
	Goroutines int           `required:""`
	For        time.Duration `required:""`
	Process    int           `help:"Which of the processes this is."`
}

// tally is what a worker reports.
type tally struct {
	Turns   []int           // of each goroutine
	Waits   []time.Duration // of each turn
	Longest time.Duration   // those that were still going on at the end included
	CPU     time.Duration   // of the process
	Errors  int
	Err     string // the last one
}

func (c *workerCommand) Run() error {
	who := find(c.Contestant)
	ctx := context.Background()
	lock, err := who.open(c.Addr, c.Goroutines)
	if err != nil {
		return err
	}
	takes := make([]take, c.Goroutines)
	for i := range takes {
		name := c.Name
		if c.Own {
			name = fmt.Sprintf("%s-%d-%d", c.Name, c.Process, i)
		}
		if who.fill != nil && (c.Own || c.Fill && i == 0) {
			if err := who.fill(ctx, c.Addr, name); err != nil {
				return err
			}
		}
		takes[i] = lock(name)
	}
	if err := warm(ctx, who, c, lock); err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	return gob.NewEncoder(os.Stdout).Encode(run(ctx, takes, c.For))
}

// warm connects and loads scripts, with one turn of something else.
func warm(ctx context.Context, who *contestant, c *workerCommand, lock func(string) take) error {
	name := fmt.Sprintf("%s-warm-%d", c.Name, c.Process)
	if who.fill != nil {
		if err := who.fill(ctx, c.Addr, name); err != nil {
			return err
		}
	}
	// What is not waited for without a deadline, as bsm/redislock sees it.
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	give, err := lock(name)(ctx)
	if err != nil {
		return err
	}
	return give()
}

// seat is where one goroutine notes its turns.
type seat struct {
	mu    sync.Mutex
	since time.Time // when the present wait began, zero during a turn
	waits []time.Duration
	fails int
	err   error // the last one
}

// run takes turns until the time is up. Who still waits then is not waited for:
// a BLPOP cannot be cancelled.
func run(ctx context.Context, takes []take, d time.Duration) *tally {
	used := cpu()
	end := time.Now().Add(d)
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	seats := make([]seat, len(takes))
	for i := range takes {
		go seats[i].sit(ctx, takes[i], end)
	}
	time.Sleep(time.Until(end))
	t := &tally{Turns: make([]int, len(takes)), CPU: cpu() - used}
	for i := range seats {
		s := &seats[i]
		s.mu.Lock()
		t.Turns[i] = len(s.waits)
		t.Waits = append(t.Waits, s.waits...)
		for _, w := range s.waits {
			t.Longest = max(t.Longest, w)
		}
		if !s.since.IsZero() {
			t.Longest = max(t.Longest, end.Sub(s.since))
		}
		if t.Errors += s.fails; s.err != nil {
			t.Err = s.err.Error()
		}
		s.mu.Unlock()
	}
	return t
}

func (s *seat) sit(ctx context.Context, take take, end time.Time) {
	for began := time.Now(); began.Before(end); began = time.Now() {
		s.mu.Lock()
		s.since = began
		s.mu.Unlock()
		give, err := take(ctx)
		took := time.Now()
		if err == nil && took.Before(end) {
			s.mu.Lock()
			s.since = time.Time{}
			s.waits = append(s.waits, took.Sub(began))
			s.mu.Unlock()
		}
		if err == nil {
			err = give()
		}
		if err != nil && ctx.Err() == nil {
			s.mu.Lock()
			s.fails++
			s.err = err
			s.mu.Unlock()
		}
	}
}
