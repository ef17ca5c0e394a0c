package turnstile

import (
	"context"
	"fmt"
	"time"

	"github.com/multihost/multihost/internal/hub"
)

// State describes the lock.
func (l *Line) State(ctx context.Context) (State, error) {
	r, err := l.hub.Do(ctx, &hub.Call{Script: l.stateScript, Keys: l.keys, Boxed: l.boxed, Attempts: joinAttempts})
	if err != nil {
		return State{}, err
	}
	return decodeState(r.Value)
}

// Delete removes what a free lock keeps in Redis.
func (l *Line) Delete(ctx context.Context) error {
	r, err := l.hub.Do(ctx, &hub.Call{Script: l.deleteScript, Keys: l.keys, Boxed: l.boxed, Attempts: joinAttempts})
	if err != nil {
		return err
	}
	if n, ok := r.Value.(int64); !ok {
		return errReply
	} else if n == 0 {
		return fmt.Errorf("%w: only a free one can be deleted; release it, or break it first", ErrNotAcquired)
	}
	return nil
}

// breakCheck is the longest pause between two looks at a holder that was
// revoked.
const breakCheck = 5 * time.Second

// Break revokes the turn with this token, 0 for whoever holds the lock, and
// waits until it is over.
func (l *Line) Break(ctx context.Context, token uint64) error {
	return l.revokeTurn(ctx, token, func(token uint64) []any { return []any{number(token), l.channel} })
}

// BreakPermit revokes the turn of a permit with this id, and waits until it is over.
func (l *Line) BreakPermit(ctx context.Context, id string) error {
	ticket, turn, err := parseTurn(id)
	if err != nil {
		return err
	}
	return l.revokeTurn(ctx, turn, func(uint64) []any { return []any{ticket, number(turn), l.channel} })
}

func (l *Line) revokeTurn(ctx context.Context, token uint64, args func(uint64) []any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// Listen first: what is told before that is told to nobody.
	l.inbox.hold(l)
	defer l.inbox.drop(l)
	for {
		l.mu.Lock()
		if l.over == nil {
			l.over = make(chan struct{})
		}
		over := l.over
		l.mu.Unlock()
		r, err := l.hub.Do(ctx, &hub.Call{
			Script: l.breakScript, Keys: l.keys, Boxed: l.boxed, Attempts: joinAttempts,
			Args: args(token),
		})
		if err != nil {
			return err
		}
		done, left, turn, err := decodeBreak(r.Value)
		if done || err != nil {
			return err
		}
		if token == 0 {
			token = turn // whoever holds now, not whoever comes next
		}
		timer := time.NewTimer(min(left+time.Millisecond, breakCheck))
		select {
		case <-over:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// ErrForeign is Break's answer where another program took the key by itself.
var ErrForeign = fmt.Errorf("%w: the holder is not one of multihost's and hears no revocation; end it where it runs, or delete the key", hub.ErrMismatch)

// decodeBreak reads the answer of break.
func decodeBreak(v any) (over bool, left time.Duration, turn uint64, err error) {
	a, ok := v.([]any)
	if !ok || len(a) == 0 {
		return false, 0, 0, errReply
	}
	switch a[0] {
	case "over":
		return true, 0, 0, nil
	case "foreign":
		return false, 0, 0, ErrForeign
	case "revoked":
		if len(a) != 3 {
			break
		}
		n, ok1 := a[1].(int64)
		turn, ok2 := token(a[2])
		if ok1 && ok2 {
			return false, millis(max(n, 0)), turn, nil
		}
	}
	return false, 0, 0, errReply
}

// breakNotice wakes whoever waits for a break, to look again.
func (l *Line) breakNotice() {
	if l.over != nil {
		close(l.over)
		l.over = nil
	}
}

func (l *Line) breakOver() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.breakNotice()
}
