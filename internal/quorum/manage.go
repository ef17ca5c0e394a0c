package quorum

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/turnstile"
)

// The pause between two looks at a holder whose turn was broken: it grows.
const leastPause, mostPause = 10 * time.Millisecond, time.Second

// poll asks all members, until heard says that it is enough, and demands that a
// majority has answered.
func (q *Quorum) poll(ctx context.Context, script *hub.Script, args []any, heard func(any) (enough bool, err error)) error {
	answered, refused := 0, 0
	var why, permanent error
	err := q.ask(ctx, func(*member) *hub.Call {
		return &hub.Call{Script: script, Args: args, Attempts: 2, Patience: reach}
	}, func(r reply) bool {
		err, enough := r.Err, false
		if err == nil {
			enough, err = heard(r.Value)
		}
		switch {
		case err == nil:
			answered++
		case hub.Permanent(err):
			refused++
			permanent = err
		default:
			why = err
		}
		return enough && answered >= q.need
	})
	switch {
	case err != nil && answered+refused == 0:
		return hub.Join(hub.ErrUnavailable, err)
	case err != nil:
		return err
	case answered >= q.need:
		return nil
	case refused > len(q.members)-q.need:
		return permanent
	}
	return q.unavailable(answered, cmp.Or(why, permanent))
}

// State describes the lock: the owner is whoever has a majority.
func (q *Quorum) State(ctx context.Context) (turnstile.State, error) {
	if err := ctx.Err(); err != nil {
		return turnstile.State{}, err
	}
	owners := map[string][]turnstile.State{}
	err := q.poll(ctx, stateScript, nil, func(v any) (bool, error) {
		s, err := decodeState(v)
		if err != nil {
			return false, err
		}
		owners[s.Owner] = append(owners[s.Owner], s)
		free := len(owners[""])
		return len(owners[s.Owner]) >= q.need || free > len(q.members)-q.need, nil
	})
	if err != nil {
		return turnstile.State{}, err
	}
	for owner, all := range owners {
		if owner == "" || len(all) < q.need {
			continue
		}
		// The lease lasts as long as on a majority of the members.
		slices.SortFunc(all, func(x, y turnstile.State) int { return cmp.Compare(uint64(y.TTL), uint64(x.TTL)) }) // -1: the longest
		s := all[q.need-1]
		for _, x := range all {
			s.Token = max(s.Token, x.Token)
		}
		return s, nil
	}
	return turnstile.State{}, nil
}

// Delete removes what a free lock keeps.
func (q *Quorum) Delete(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	held := 0
	err := q.poll(ctx, deleteScript, nil, func(v any) (bool, error) {
		n, ok := v.(int64)
		if !ok {
			return false, errReply
		}
		if n == 0 {
			held++
		}
		return false, nil
	})
	if err == nil && held > len(q.members)-q.need {
		return fmt.Errorf("%w: only a free one can be deleted; release it, or break it first", turnstile.ErrNotAcquired)
	}
	return err
}

// Break ends the turn with this token, 0 for whoever holds the lock, and waits until it is
// over: until no majority can have the key any more.
func (q *Quorum) Break(ctx context.Context, token uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for ticket, pause := "", leastPause; ; pause = min(2*pause, mostPause) {
		over, foreign := 0, 0
		tickets := map[string]int{}
		var lefts []time.Duration
		err := q.poll(ctx, breakScript, []any{strconv.FormatUint(token, 10), ticket}, func(v any) (bool, error) {
			b, err := decodeBreak(v)
			switch {
			case err != nil:
				return false, err
			case b.over:
				over++
			case b.foreign:
				foreign++
			default:
				tickets[b.ticket]++
				lefts = append(lefts, b.left)
				if tickets[b.ticket] >= q.need {
					ticket = b.ticket // whoever holds now, not whoever comes next
				}
			}
			return over > len(q.members)-q.need || tickets[b.ticket] >= q.need, nil
		})
		switch {
		case err != nil:
			return err
		case foreign >= q.need:
			return turnstile.ErrForeign
		case over > len(q.members)-q.need, len(lefts) == 0:
			return nil
		}
		timer := time.NewTimer(min(slices.Min(lefts)+time.Millisecond, pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
