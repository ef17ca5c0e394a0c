package recipes_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/multihost/multihost/docs/examples/recipes"
)

func TestNoMoreCallsASecondThanAllowed(t *testing.T) {
	inFakeTime(t, func(t *testing.T, m machines) {
		const allowed, callers, calls = 5, 12, 5
		var mu sync.Mutex
		var begun []time.Time
		var all sync.WaitGroup
		for i := range callers {
			client := m.client()
			all.Go(func() {
				limit, err := recipes.NewLimit(client, "geocoder", allowed)
				if err != nil {
					t.Error(err)
					return
				}
				for range calls {
					err := limit.Call(t.Context(), func(context.Context) error {
						mu.Lock()
						begun = append(begun, time.Now())
						mu.Unlock()
						time.Sleep(time.Duration(i) * 10 * time.Millisecond)
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		slices.SortFunc(begun, time.Time.Compare)
		for i := allowed; i < len(begun); i++ {
			if d := begun[i].Sub(begun[i-allowed]); d < time.Second {
				t.Errorf("%d calls within %v", allowed+1, d)
			}
		}
		if len(begun) != callers*calls {
			t.Fatalf("%d calls", len(begun))
		}
		// And not many fewer either.
		if took, least := begun[len(begun)-1].Sub(begun[0]), callers*calls/allowed-1; took > time.Duration(least+2)*time.Second {
			t.Errorf("%d calls took %v, which is possible in %d s", len(begun), took, least)
		}
	})
}
