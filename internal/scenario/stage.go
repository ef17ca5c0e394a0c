package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
)

// ErrInterrupted is the end of a run that a signal asked for.
var ErrInterrupted = errors.New("interrupted")

// ExitInterrupted is the exit code of a process that a signal ended on request.
// Ctrl-C goes to every process of the terminal at once, so a parent may well see
// its workers end before it hears of the signal itself.
const ExitInterrupted = 130

// A Stage runs scenarios with each worker a process of its own.
type Stage struct {
	Setting
	Program string   // the program to start
	Args    []string // what makes it the scenario: demo tickets --no-lock
	Env     []string // added to the environment of the workers
	Out     io.Writer
}

// Run runs a scenario from beginning to end: it starts the workers, passes their
// lines on, waits for them, judges what they did and deletes what they left. If
// a worker fails, or ctx ends, the others are ended first; no process outlives
// Run. The error says why there is no verdict.
func (st *Stage) Run(ctx context.Context, s Scenario) (v Verdict, err error) {
	defer func() {
		// Also after Ctrl-C, therefore without its ctx; a dead server is not waited for.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if cleanErr := Clean(clean, s, st.Setting); cleanErr != nil && err == nil {
			err = cleanErr
		}
	}()
	if err := st.play(ctx, s.Cast()); err != nil {
		return Verdict{}, err
	}
	return Audit(ctx, s, st.Setting)
}

// play starts everyone and returns when all have ended.
func (st *Stage) play(signalled context.Context, cast Cast) error {
	ctx, cancel := context.WithTimeoutCause(signalled, st.limit(cast), fmt.Errorf("the workers had not ended after %v", st.limit(cast)))
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	lines, mouth, err := os.Pipe()
	if err != nil {
		return err
	}
	var passing sync.WaitGroup
	passing.Go(func() {
		if _, err := io.Copy(st.Out, lines); err != nil {
			fail(err)
			_, _ = io.Copy(io.Discard, lines) // so that no worker hangs on a full pipe
		}
	})
	var crew sync.WaitGroup
	if err := st.start(ctx, cast, mouth, &crew, fail); err != nil {
		fail(err)
	}
	crew.Wait()
	err = mouth.Close() // the last writer: the lines end
	passing.Wait()
	if err := errors.Join(err, lines.Close()); err != nil {
		fail(err)
	}
	cause := context.Cause(ctx)
	if signalled.Err() != nil && errors.Is(cause, context.Cause(signalled)) {
		return ErrInterrupted
	}
	return cause
}

// start starts the cast in order, each worker when its time has come.
func (st *Stage) start(ctx context.Context, cast Cast, mouth *os.File, crew *sync.WaitGroup, fail context.CancelCauseFunc) error {
	for _, role := range cast.Roles {
		gaps := st.random(role.Name, -1)
		for i := range role.Count {
			if role.Gap != nil && i > 0 {
				if err := sleep(ctx, st.scale(role.Gap(gaps))); err != nil {
					return err
				}
			}
			p, err := st.spawn(ctx, role.Name, i, mouth)
			if err != nil {
				return fmt.Errorf("start of %s %d: %w", role.Name, i, err)
			}
			crew.Go(func() {
				if err := p.wait(); err != nil {
					fail(err)
				}
			})
			if role.InTurn {
				crew.Wait()
			}
		}
	}
	return nil
}

func (st *Stage) spawn(ctx context.Context, role string, index int, mouth *os.File) (*process, error) {
	colour := "never"
	if st.Colour {
		colour = "always"
	}
	args := append(append([]string(nil), st.Args...),
		"--role="+role,
		"--index="+strconv.Itoa(index),
		"--run="+st.Namespace,
		"--seed="+strconv.FormatUint(st.Seed, 10),
		"--speed="+strconv.FormatFloat(st.Speed, 'g', -1, 64),
		"--lang="+string(st.Lang),
		"--color="+colour,
		"--until-eof",
	)
	return startProcess(ctx, fmt.Sprint(role, " ", index), st.Program, args, st.Env, mouth)
}

// Audit looks at what the workers left and judges the run.
func Audit(ctx context.Context, s Scenario, set Setting) (Verdict, error) {
	if a, ok := s.(Auditor); ok {
		ctx, fail := context.WithCancelCause(ctx)
		defer fail(nil)
		w, err := newWorker(ctx, set, Post{Role: "verdict"}, io.Discard, fail)
		if err == nil {
			err = a.Audit(ctx, w)
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		if err != nil {
			return Verdict{}, err
		}
	}
	facts, err := set.journal().read(ctx)
	if err != nil {
		return Verdict{}, err
	}
	return s.Judge(facts), nil
}
