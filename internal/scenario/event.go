package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multihost/multihost/redisevent"
)

// Event is four small examples of what an event does. Where the original would
// wait for ever, a ctx with a deadline ends the wait, and that is said.
type Event struct{}

var (
	eventSays    = phrase{key: "says", en: "example %d: %s", zh: "例 %d: %s"}
	eventBlocked = phrase{key: "blocked", colour: yellow, en: "example %d: blocked", zh: "例 %d: 阻塞"}
	eventPassed  = phrase{key: "passed", en: "example %d: passed", zh: "例 %d: 通过"}
)

var eventExamples = [][]string{
	{"is_set"},
	{"is_set", "wait"},
	{"is_set", "set", "is_set"},
	{"is_set", "set", "is_set", "clear", "is_set", "wait"},
}

// Cast implements Scenario.
func (e *Event) Cast() Cast {
	cast := Cast{
		Source: "internal/scenario/event.go",
		Roles:  []Role{{Name: "worker", Count: 1}},
	}
	for i := range eventExamples {
		cast.Events = append(cast.Events, eventName(i))
	}
	return cast
}

func eventName(i int) string { return fmt.Sprint("example ", i+1) }

// Work implements Scenario.
func (e *Event) Work(ctx context.Context, w *Worker) error {
	for i, steps := range eventExamples {
		event, err := redisevent.New(w.Client, eventName(i), &redisevent.Options{Namespace: w.Namespace, TTL: lapse})
		if err != nil {
			return err
		}
		for _, step := range steps {
			if err := e.step(ctx, w, event, i+1, step); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *Event) step(ctx context.Context, w *Worker, event *redisevent.Event, example int, step string) error {
	switch step {
	case "set":
		return event.Set(ctx)
	case "clear":
		return event.Clear(ctx)
	case "is_set":
		set, err := event.IsSet(ctx)
		if err != nil {
			return err
		}
		w.Say(ctx, eventSays, example, map[bool]string{false: "False", true: "True"}[set])
		return nil
	}
	enough, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	for {
		patience, cancel := w.Within(ctx, 2*time.Second)
		err := event.Wait(patience)
		cancel()
		switch {
		case err == nil:
			w.Say(ctx, eventPassed, example)
			return nil
		case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, redisevent.ErrUnavailable):
			w.Say(ctx, eventBlocked, example)
			return nil
		case enough.Err() != nil || !errors.Is(err, context.DeadlineExceeded):
			return err
		}
		// Redis was silent, which says nothing of the event.
	}
}

// Judge implements Scenario.
func (e *Event) Judge(journal []Fact) Verdict { return judgeEvent(journal) }
