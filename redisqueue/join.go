package redisqueue

import (
	"cmp"
	"context"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
)

// after is the moment so long from now.
func after(d time.Duration) time.Time { return clock.Now().Add(d) }

// backoff is the pause after so many failures: 10 ms, doubling to half a second.
func backoff(failures int) time.Duration {
	return min(10*time.Millisecond<<min(failures-1, 6), 500*time.Millisecond)
}

// joiner is one call of Join.
type joiner struct {
	set  *settings
	wake chan struct{} // of one
}

func (j *joiner) signal() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// join waits until nothing is unfinished, or was for a moment since it began.
func (s *station) join(ctx context.Context, set *settings) error {
	began, finished, err := s.zeros(ctx, set)
	if err != nil || finished {
		return err
	}
	j := &joiner{set: set, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	s.joiners[j] = struct{}{}
	s.mu.Unlock()
	s.all.Hold()
	j.signal() // it may have been told before
	s.observe(set, Waiting, 0, 0)
	defer func() {
		s.all.Drop()
		s.mu.Lock()
		delete(s.joiners, j)
		s.mu.Unlock()
	}()
	timer := time.NewTimer(fallback)
	defer timer.Stop()
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			if failures > 0 || !s.all.Alive() {
				return hub.Join(hub.ErrUnavailable, ctx.Err())
			}
			return ctx.Err()
		case <-j.wake:
		case <-timer.C:
			if failures == 0 {
				s.observe(set, Fallback, 0, 0)
			}
		}
		now, finished, err := s.zeros(ctx, set)
		switch {
		case err == nil && (finished || now != began):
			return nil
		case ctx.Err() != nil: // the answer may have come all the same
			return cmp.Or(err, ctx.Err())
		case err != nil && hub.Permanent(err):
			return err
		case err != nil:
			failures++
			timer.Reset(backoff(failures))
			continue
		}
		failures = 0
		timer.Reset(fallback)
	}
}

func (s *station) zeros(ctx context.Context, set *settings) (string, bool, error) {
	a, _, err := s.do(ctx, &command{script: joinScript, set: set, call: hub.Call{Private: true, Attempts: attempts}})
	if err != nil {
		return "", false, err
	}
	return a.zeros()
}
