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

func TestEachChangeOfTheConfigurationIsLoaded(t *testing.T) {
	inFakeTime(t, func(t *testing.T, m machines) {
		ctx, cancel := context.WithCancel(t.Context())
		stored, change := atomic.Int32{}, m.client()
		set := func(v int32) {
			stored.Store(v)
			if err := recipes.Changed(t.Context(), change, "configuration"); err != nil {
				t.Error(err)
			}
		}
		var mu sync.Mutex
		loaded := map[string][]int32{}
		ended := make(chan error)
		for _, machine := range []string{"a", "b"} {
			go func() {
				ended <- recipes.Reload(ctx, m.client(), "configuration", func(context.Context) error {
					v := stored.Load()
					if v == 2 {
						return errors.New("no such file")
					}
					mu.Lock()
					loaded[machine] = append(loaded[machine], v)
					mu.Unlock()
					if v == 3 && machine == "a" {
						set(4) // while it loads
					}
					return nil
				})
			}()
			synctest.Wait()
		}
		for v := range int32(3) {
			time.Sleep(time.Minute)
			set(v + 1)
		}
		time.Sleep(time.Minute)
		cancel()
		for range 2 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		if want := []int32{0, 1, 3, 4}; !slices.Equal(loaded["a"], want) || loaded["b"][len(loaded["b"])-1] != 4 {
			t.Errorf("loaded %v", loaded)
		}
	})
}
