package recipes_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/docs/examples/recipes"
	"github.com/multihost/multihost/redislock"
)

// buy sends one request for an apple, and returns the answer's status and how
// long it took.
func buy(ctx context.Context, client redis.UniversalClient, buy func(ctx context.Context, item string, token uint64) error) (int, time.Duration) {
	mux := http.NewServeMux()
	mux.Handle("POST /buy/{item}", recipes.Buy(client, buy))
	answer := httptest.NewRecorder()
	start := time.Now()
	mux.ServeHTTP(answer, httptest.NewRequestWithContext(ctx, "POST", "/buy/apple", nil))
	return answer.Code, time.Since(start)
}

func TestAHandlerAnswersInTimeWhateverHappens(t *testing.T) {
	done := func(_ context.Context, item string, token uint64) error {
		if item != "apple" || token == 0 {
			return errors.New("wrong item, or no token")
		}
		return nil
	}
	slow := func(ctx context.Context, _ string, _ uint64) error {
		<-ctx.Done()
		return ctx.Err()
	}
	silent := func(context.Context, string, string) (net.Conn, error) {
		ours, _ := net.Pipe() // nobody reads the other end
		return ours, nil
	}
	for name, c := range map[string]struct {
		held bool // by somebody else
		dial func(context.Context, string, string) (net.Conn, error)
		buy  func(ctx context.Context, item string, token uint64) error
		want int
	}{
		"the lock is free":     {buy: done, want: http.StatusOK},
		"the lock stays taken": {buy: done, held: true, want: http.StatusServiceUnavailable},
		"Redis is silent":      {buy: done, dial: silent, want: http.StatusServiceUnavailable},
		"the work takes long":  {buy: slow, want: http.StatusServiceUnavailable},
		"the work fails": {
			buy:  func(context.Context, string, uint64) error { return errors.New("sold out") },
			want: http.StatusInternalServerError,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inFakeTime(t, func(t *testing.T, m machines) {
				if c.held {
					other, _ := redislock.New(m.client(), "buy:apple", nil)
					lease, err := other.Acquire(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					defer lease.Release(t.Context())
				}
				client := m.client()
				if c.dial != nil {
					client = m.clientBy(c.dial)
				}
				code, took := buy(t.Context(), client, c.buy)
				if code != c.want || took > 5*time.Second {
					t.Errorf("status %d after %v, want %d", code, took, c.want)
				}
			})
		})
	}
}

func TestAHandlerWhoseLockIsLostSaysSo(t *testing.T) {
	inFakeTime(t, func(t *testing.T, m machines) {
		code, _ := buy(t.Context(), m.client(), func(ctx context.Context, _ string, _ uint64) error {
			m.server.Del("mh1:lock:{buy:apple}")
			<-ctx.Done()
			return nil // as if it had gone well
		})
		if code != http.StatusServiceUnavailable {
			t.Errorf("status %d", code)
		}
	})
}

func TestAHandlerWhoseClientLeavesLeavesNothing(t *testing.T) {
	inFakeTime(t, func(t *testing.T, m machines) {
		ctx, cancel := context.WithCancel(t.Context())
		other, _ := redislock.New(m.client(), "buy:apple", nil)
		lease, err := other.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, cancel)
		_, took := buy(ctx, m.client(), func(context.Context, string, uint64) error {
			t.Error("bought")
			return nil
		})
		if took != time.Second {
			t.Errorf("returned after %v", took)
		}
		time.Sleep(time.Second)
		if state, err := other.State(t.Context()); err != nil || state.Waiters != 0 {
			t.Errorf("%+v, %v", state, err)
		}
		_ = lease.Release(t.Context())
	})
}
