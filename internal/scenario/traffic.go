package scenario

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/multihost/multihost/redisevent"
)

// Traffic is a light and ten cars. The light is an Event, set while it is green;
// a car that finds it clear waits for it, and all that wait pass when green
// comes. The light changes every two seconds until the last car has passed.
type Traffic struct {
	Cars int `default:"10" help:"Number of cars."`
}

var (
	trafficRed    = phrase{key: "red", colour: red, en: "the light is red", zh: "红灯亮了"}
	trafficGreen  = phrase{key: "green", colour: green, en: "the light is green", zh: "绿灯亮了"}
	trafficOut    = phrase{key: "out", en: "the last car has passed: the light goes out", zh: "所有车都已通过，灯灭了"}
	trafficWaits  = phrase{key: "waits", en: "car %d waits", zh: "car%d 在等待"}
	trafficPasses = phrase{key: "passes", en: "car %d passes", zh: "car%d 通过"}

	// Beside them the journal notes which change of the event each saw: a number
	// that grows with every Set and Clear.
	trafficSwitched = "switched" // the light: set or not, change
	trafficFound    = "found"    // a car that comes: set or not, change
	trafficLeft     = "left"     // a car that has passed: change
)

// Validate is called when the command line has been read.
func (t *Traffic) Validate() error { return inRange("--cars", t.Cars, 1, atMost) }

// Cast implements Scenario.
func (t *Traffic) Cast() Cast {
	gap := func(random *rand.Rand) time.Duration { return time.Duration(random.IntN(3)) * 2 * time.Second }
	return Cast{
		Source: "internal/scenario/traffic.go",
		Roles:  []Role{{Name: "light", Count: 1}, {Name: "car", Count: t.Cars, Gap: gap}},
		Events: []string{"green", "end"},
		Keys:   []string{"passed"},
	}
}

// Work implements Scenario.
func (t *Traffic) Work(ctx context.Context, w *Worker) error {
	opts := &redisevent.Options{Namespace: w.Namespace, TTL: lapse}
	light, err := redisevent.New(w.Client, "green", opts)
	if err != nil {
		return err
	}
	end, err := redisevent.New(w.Client, "end", opts)
	if err != nil {
		return err
	}
	if w.Role() == "light" {
		return t.light(ctx, w, light, end)
	}
	return t.car(ctx, w, light, end)
}

func (t *Traffic) light(ctx context.Context, w *Worker, light, end *redisevent.Event) error {
	w.Say(ctx, trafficRed)
	for green := true; ; green = !green {
		phase, cancel := w.Within(ctx, 2*time.Second)
		err := end.Wait(phase)
		cancel()
		if err == nil {
			w.Say(ctx, trafficOut)
			return nil
		}
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if err := t.turn(ctx, w, light, green); err != nil {
			return err
		}
	}
}

// turn says green before it is green and red after it is red, so that nobody sees a
// car pass a red light.
func (t *Traffic) turn(ctx context.Context, w *Worker, light *redisevent.Event, green bool) (err error) {
	if green {
		w.Say(ctx, trafficGreen)
		err = light.Set(ctx)
	} else {
		err = light.Clear(ctx)
		w.Say(ctx, trafficRed)
	}
	if err != nil {
		return err
	}
	now, err := light.State(ctx) // nobody else turns it
	w.Note(ctx, trafficSwitched, now.Set, now.Changes)
	return err
}

func (t *Traffic) car(ctx context.Context, w *Worker, light, end *redisevent.Event) error {
	found, err := light.State(ctx)
	if err != nil {
		return err
	}
	w.Note(ctx, trafficFound, found.Set, found.Changes)
	if !found.Set {
		w.Say(ctx, trafficWaits, w.Index)
		if err := light.Wait(ctx); err != nil {
			return err
		}
	}
	w.Say(ctx, trafficPasses, w.Index)
	now, err := light.State(ctx)
	if err != nil {
		return err
	}
	w.Note(ctx, trafficLeft, now.Changes)
	last, err := w.Last(ctx, "passed", t.Cars)
	if err != nil || !last {
		return err
	}
	return end.Set(ctx)
}

// Judge implements Scenario.
func (t *Traffic) Judge(journal []Fact) Verdict { return judgeTraffic(journal, t.Cars) }
