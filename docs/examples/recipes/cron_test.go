package recipes_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multihost/multihost/docs/examples/recipes"
)

func TestACronJobRunsOnceWhateverTheClocksSay(t *testing.T) {
	inFakeTime(t, func(t *testing.T, m machines) {
		var runs atomic.Int32
		minute := func() {
			var all sync.WaitGroup
			for _, late := range []time.Duration{0, time.Millisecond, 3 * time.Second, 25 * time.Second} {
				all.Go(func() {
					time.Sleep(late)
					err := recipes.RunOnce(t.Context(), m.client(), "minutely", time.Minute, func(context.Context) error {
						runs.Add(1)
						time.Sleep(2 * time.Second)
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
		for want := range int32(3) {
			minute() // 25 s, or 27
			if got := runs.Load(); got != want+1 {
				t.Errorf("%d runs in %d minutes", got, want+1)
			}
			time.Sleep(33 * time.Second)
		}
	})
}

func TestTheErrorOfACronJobIsReported(t *testing.T) {
	inFakeTime(t, func(t *testing.T, m machines) {
		broken := errors.New("disk full")
		err := recipes.RunOnce(t.Context(), m.client(), "minutely", time.Minute, func(context.Context) error {
			return broken
		})
		if !errors.Is(err, broken) {
			t.Error(err)
		}
	})
}
