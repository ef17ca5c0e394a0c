package scenario

import (
	"context"
	"errors"
	"time"

	"github.com/multihost/multihost/redissem"
)

// KTV is a karaoke room with four microphones and five singers. A Semaphore lets
// four of them in; the fifth enters when one of them has left.
type KTV struct {
	Singers int `default:"5" help:"Number of singers."`
	Room    int `default:"4" help:"How many may be inside at once."`
}

var (
	ktvEnters = phrase{key: "enters", en: "singer %d enters", zh: "%d 走进 ktv"}
	ktvLeaves = phrase{key: "leaves", en: "singer %d leaves", zh: "%d 走出 ktv"}
)

// Validate is called when the command line has been read.
func (k *KTV) Validate() error {
	return errors.Join(inRange("--singers", k.Singers, 1, atMost), inRange("--room", k.Room, 1, atMost))
}

// Cast implements Scenario.
func (k *KTV) Cast() Cast {
	return Cast{
		Source:     "internal/scenario/ktv.go",
		Roles:      []Role{{Name: "singer", Count: k.Singers}},
		Semaphores: []string{"room"},
		Events:     []string{"start", "full"},
		Keys:       []string{"start", "full"},
	}
}

// Work implements Scenario.
func (k *KTV) Work(ctx context.Context, w *Worker) error {
	room, err := redissem.New(w.Client, "room", k.Room, &redissem.Options{Namespace: w.Namespace})
	if err != nil {
		return err
	}
	if err := w.Together(ctx, "start", k.Singers); err != nil {
		return err
	}
	return holding(ctx, room.Do, func(ctx context.Context, _ *redissem.Permit) error {
		w.Say(ctx, ktvEnters, w.Index)
		// Nobody sings before the room is full: that it takes so many shows every time.
		if err := w.Together(ctx, "full", min(k.Room, k.Singers)); err != nil {
			return err
		}
		if err := w.Pause(ctx, time.Second, 5*time.Second); err != nil {
			return err
		}
		w.Say(ctx, ktvLeaves, w.Index) // still inside, so that nobody enters before it is said
		return nil
	})
}

// Judge implements Scenario.
func (k *KTV) Judge(journal []Fact) Verdict { return judgeKTV(journal, k.Singers, k.Room) }
