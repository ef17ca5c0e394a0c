package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"time"
)

// runCommand measures.
type runCommand struct {
	Only   string        `help:"Only works of this name; * stands for anything." default:"*"`
	Rounds int           `help:"How often each contestant does each work." default:"5"`
	For    time.Duration `help:"How long a round lasts." default:"700ms"`
	Server string        `help:"The program to measure on." default:"redis-server"`
	Costs  bool          `help:"Measure what waiting and holding cost, too." default:"true" negatable:""`
}

func (c *runCommand) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	s, err := startServer(ctx, c.Server)
	if err != nil {
		return err
	}
	defer s.stop()
	for _, w := range append(locks, semaphores...) {
		if ok, err := path.Match(c.Only, w.name); err != nil {
			return err
		} else if !ok {
			continue
		}
		r, err := c.measure(ctx, s, &w)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		w.print(r)
	}
	if !c.Costs {
		return nil
	}
	return c.costs(ctx, s)
}

// measure lets the contestants take turns, so that what else the machine does
// meets them all.
func (c *runCommand) measure(ctx context.Context, s *server, w *work) (results, error) {
	r := results{}
	for round := range c.Rounds {
		for _, name := range w.contestants {
			f, err := w.round(ctx, s, find(name), fmt.Sprintf("%s %s %d", w.name, name, round), c.For)
			if errors.Is(err, io.EOF) {
				err = errors.New("a worker has ended")
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			r[name] = append(r[name], f)
		}
	}
	return r, ctx.Err()
}
