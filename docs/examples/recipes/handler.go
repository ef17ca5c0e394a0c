package recipes

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/redislock"
)

// The handler answers within five seconds: two to get the lock, two to work, and
// one in which Release gives up by itself.
const (
	waitAtMost = 2 * time.Second
	workAtMost = 2 * time.Second
)

// Buy serves requests for an item, one at a time for each item, on however many
// servers.
func Buy(client redis.UniversalClient, buy func(ctx context.Context, item string, token uint64) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		item := r.PathValue("item")
		lock, err := redislock.New(client, "buy:"+item, nil) // no I/O: one for each request is fine
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest) // a bad name
			return
		}
		waitCtx, cancel := context.WithTimeout(r.Context(), waitAtMost)
		defer cancel()
		lease, err := lock.Acquire(waitCtx)
		if err != nil { // somebody else's turn lasts, Redis is away, or the client has left
			w.Header().Set("Retry-After", "1")
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		workCtx, cancel := context.WithTimeout(r.Context(), workAtMost)
		defer cancel()
		workCtx, stop := lease.Context(workCtx) // ends also when the lease is lost
		defer stop()
		err = buy(workCtx, item, lease.Token())
		switch released := lease.Release(r.Context()); {
		case errors.Is(released, redislock.ErrLost), errors.Is(err, context.DeadlineExceeded):
			http.Error(w, "not done in time", http.StatusServiceUnavailable)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
}
