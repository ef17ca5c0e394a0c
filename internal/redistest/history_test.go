package redistest

import (
	"math/rand/v2"
	"sync"
	"testing"
)

// TestRealHistoriesAreJudgedQuickly runs a mutex and a flag of this process
// from 16 goroutines, so that calls overlap as they will in use.
func TestRealHistoriesAreJudgedQuickly(t *testing.T) {
	const clients, rounds = 16, 100
	t.Run("mutex", func(t *testing.T) {
		var h MutexHistory
		var mu sync.Mutex
		var tokens uint64
		var all sync.WaitGroup
		for client := range clients {
			all.Go(func() {
				for range rounds {
					taking := h.Acquire(client)
					mu.Lock()
					tokens++
					token := tokens
					taking.Granted(token)
					hold := h.Hold(client, token)
					h.Use(client, token, func() bool { return true })
					giving := h.Release(client, token)
					mu.Unlock()
					if rand.IntN(10) == 0 {
						giving.Unknown()
					} else {
						giving.Released()
					}
					hold.Kept()
				}
			})
		}
		all.Wait()
		h.Judge(t)
	})
	t.Run("event", func(t *testing.T) {
		var h EventHistory
		var mu sync.Mutex
		released := make(chan struct{}) // closed by a set, replaced by a clear
		set := false
		var all, waiters sync.WaitGroup
		for client := range clients {
			waiters.Go(func() {
				for range rounds / 10 {
					call := h.Wait(clients + client)
					mu.Lock()
					wait := released
					mu.Unlock()
					<-wait
					call.Returned()
				}
			})
			all.Go(func() {
				for range rounds {
					switch rand.IntN(3) {
					case 0:
						call := h.Set(client)
						mu.Lock()
						if !set {
							set = true
							close(released)
						}
						mu.Unlock()
						call.Returned()
					case 1:
						call := h.Clear(client)
						mu.Lock()
						if set {
							set, released = false, make(chan struct{})
						}
						mu.Unlock()
						call.Returned()
					case 2:
						_, _ = h.IsSet(client, func() (bool, error) {
							mu.Lock()
							defer mu.Unlock()
							return set, nil
						})
					}
				}
			})
		}
		all.Wait()
		mu.Lock()
		if !set {
			call := h.Set(0)
			set = true
			close(released)
			call.Returned()
		}
		mu.Unlock()
		waiters.Wait()
		h.Judge(t)
	})
}
