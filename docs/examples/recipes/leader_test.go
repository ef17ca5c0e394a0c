package recipes_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multihost/multihost/docs/examples/recipes"
)

func TestOneOfManyLeadsAndTheNextTakesOverAtOnce(t *testing.T) {
	inFakeTime(t, func(t *testing.T, m machines) {
		var leading atomic.Int32
		began := make(chan int)
		stops := make([]context.CancelFunc, 3)
		var all sync.WaitGroup
		for i := range stops {
			ctx, cancel := context.WithCancel(t.Context())
			stops[i] = cancel
			all.Go(func() {
				err := recipes.Lead(ctx, m.client(), "scheduler", func(ctx context.Context, token uint64) error {
					if leading.Add(1) != 1 || token == 0 {
						t.Errorf("two lead at a time, or the token is %d", token)
					}
					began <- i
					<-ctx.Done()
					leading.Add(-1)
					return ctx.Err()
				})
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		for range stops {
			leader := <-began
			time.Sleep(time.Minute)
			start := time.Now()
			stops[leader]()
			synctest.Wait()
			if d := time.Since(start); d > 0 {
				t.Errorf("the next leads after %v", d)
			}
		}
		all.Wait()
	})
}

func TestACutOffLeaderStopsBeforeAnotherBegins(t *testing.T) {
	inFakeTime(t, func(t *testing.T, m machines) {
		client, cut := m.clientToCut()
		events := make(chan string, 10)
		leadAs := func(name string) func(context.Context, uint64) error {
			return func(ctx context.Context, _ uint64) error {
				events <- name + " leads"
				<-ctx.Done()
				events <- name + " stops"
				return ctx.Err()
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { _ = recipes.Lead(ctx, client, "scheduler", leadAs("first")) })
		first := <-events
		all.Go(func() { _ = recipes.Lead(ctx, m.client(), "scheduler", leadAs("second")) })
		time.Sleep(time.Minute)
		cut()
		start := time.Now()
		got := []string{first, <-events, <-events}
		if want := []string{"first leads", "first stops", "second leads"}; !slices.Equal(got, want) {
			t.Errorf("%v", got)
		}
		if took := time.Since(start); took > 5*time.Second+10*time.Millisecond {
			t.Errorf("the second leads after %v", took)
		}
		cancel()
		all.Wait()
	})
}

func TestALeaderThatLostTheLockStandsByAgain(t *testing.T) {
	inFakeTime(t, func(t *testing.T, m machines) {
		turns := 0
		err := recipes.Lead(t.Context(), m.client(), "scheduler", func(ctx context.Context, _ uint64) error {
			if turns++; turns == 2 {
				return nil
			}
			m.server.Del("mh1:lock:{scheduler}")
			<-ctx.Done()
			return ctx.Err()
		})
		if err != nil || turns != 2 {
			t.Errorf("%d turns, %v", turns, err)
		}
	})
}

func TestALeaderWaitsForRedis(t *testing.T) {
	inFakeTime(t, func(t *testing.T, m machines) {
		m.server.SetError("LOADING Redis is loading the dataset in memory")
		time.AfterFunc(time.Minute, func() { m.server.SetError("") })
		start := time.Now()
		err := recipes.Lead(t.Context(), m.client(), "scheduler", func(context.Context, uint64) error { return nil })
		if took := time.Since(start); err != nil || took < time.Minute || took > 70*time.Second {
			t.Errorf("leads after %v, %v", took, err)
		}
	})
}
