package turnstile

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/keyspace"
)

// kindOf is what the line of the object with this main key leads to, nil if
// there is none.
func kindOf(key string) *kind { return kinds[keyspace.Kind(key)] }

// Policy is what becomes of a semaphore that is opened with another limit than
// the one in Redis.
type Policy string

// The policies.
const (
	Refuse  Policy = "refuse"
	Adopt   Policy = "adopt"
	Replace Policy = "replace"
)

// Limit is how many permits a semaphore was opened with. It is compared with
// the one in Redis at the first use; after that the one in Redis counts. A nil
// Limit is the lock's: there is nothing to compare.
type Limit struct {
	n          int
	onMismatch Policy
	compared   atomic.Bool
}

// NewLimit returns a limit that was not compared yet.
func NewLimit(n int, onMismatch Policy) *Limit { return &Limit{n: n, onMismatch: onMismatch} }

// agreed says that the limit was compared.
func (m *Limit) agreed() bool { return m == nil || m.compared.Load() }

func (m *Limit) agree() {
	if m != nil && !m.compared.Load() {
		m.compared.Store(true)
	}
}

// policy is what the scripts are to do with another limit.
func (m *Limit) policy() string {
	if m.agreed() {
		return string(Adopt)
	}
	return string(m.onMismatch)
}

// mismatch is the error of a semaphore that was opened with another limit.
func (m *Limit) mismatch(s standing) error {
	moved := ""
	if s.present != s.declared {
		moved = fmt.Sprintf(" (resized to %d)", s.present)
	}
	return fmt.Errorf("%w: the limit is %d here and %d in redis%s; open it with that, or say what to do with OnMismatch",
		hub.ErrMismatch, m.n, s.declared, moved)
}

func decodeMismatch(a []any) (standing, error) {
	if len(a) != 3 {
		return standing{}, errReply
	}
	declared, ok1 := token(a[1])
	present, ok2 := token(a[2])
	if !ok1 || !ok2 {
		return standing{}, errReply
	}
	return standing{status: mismatched, declared: declared, present: present}, nil
}

// compares says whether the process's join compares the limit: the join that a
// new wait would send, or the one that is on its way. Otherwise the process
// stands in line already, with another limit. Called with mu.
func (l *Line) compares(m *Limit) bool {
	if p := l.place; p != nil {
		return p.opener == m && !p.standing
	}
	return l.waiters.Len() == 0
}

// compare compares the limit without standing in line.
func (l *Line) compare(ctx context.Context, m *Limit) error {
	r, err := l.hub.Do(ctx, &hub.Call{
		Script: l.openScript, Keys: l.keys, Boxed: l.boxed, Attempts: joinAttempts,
		Args: []any{l.hub.NewID(), m.n, m.policy()},
	})
	if err != nil {
		return err
	}
	return m.accept(r.Value, "open")
}

// Resize moves the present limit.
func (l *Line) Resize(ctx context.Context, m *Limit, n int) error {
	r, err := l.hub.Do(ctx, &hub.Call{
		Script: l.resizeScript, Keys: l.keys, Boxed: l.boxed, Attempts: joinAttempts,
		Args: []any{l.hub.NewID(), m.n, m.policy(), n},
	})
	if err != nil {
		if r.Ambiguous {
			err = hub.Join(hub.ErrUnknownOutcome, err)
		}
		return err
	}
	return m.accept(r.Value, "done")
}

// accept reads an answer that is the given word, or a mismatch.
func (m *Limit) accept(v any, word string) error {
	a, ok := v.([]any)
	if !ok || len(a) == 0 {
		return errReply
	}
	switch a[0] {
	case word:
		m.agree()
		return nil
	case "mismatch":
		s, err := decodeMismatch(a)
		if err != nil {
			return err
		}
		return m.mismatch(s)
	}
	return errReply
}

// turnID names a turn of a permit.
func turnID(ticket string, turn uint64) string { return ticket + "." + number(turn) }

func parseTurn(id string) (ticket string, turn uint64, err error) {
	ticket, number, _ := strings.Cut(id, ".")
	turn, err = strconv.ParseUint(number, 10, 32)
	if err != nil || ticket == "" {
		return "", 0, fmt.Errorf("%q is not the id of a permit; State lists the ids", id)
	}
	return ticket, turn, nil
}

// PermitState is a snapshot of a permit in Redis.
type PermitState struct {
	ID       string
	Resting  bool
	TTL      time.Duration
	Metadata string
}

// SemaphoreState is a snapshot of a semaphore in Redis.
type SemaphoreState struct {
	Known             bool // there is a limit
	Declared, Present int
	Held, Waiters     int
	Permits           []PermitState
}

// StatePermits bounds how many permits a snapshot lists.
const StatePermits = 1000

// Permits describes the semaphore.
func (l *Line) Permits(ctx context.Context) (SemaphoreState, error) {
	r, err := l.hub.Do(ctx, &hub.Call{
		Script: l.stateScript, Keys: l.keys, Boxed: l.boxed, Attempts: joinAttempts, Args: []any{StatePermits},
	})
	if err != nil {
		return SemaphoreState{}, err
	}
	return decodePermits(r.Value)
}

func decodePermits(v any) (SemaphoreState, error) {
	a, ok := v.([]any)
	if !ok || len(a) < 4 || len(a)%4 != 0 {
		return SemaphoreState{}, errReply
	}
	held, ok1 := a[2].(int64)
	waiters, ok2 := a[3].(int64)
	if !ok1 || !ok2 || held < 0 || waiters < 0 {
		return SemaphoreState{}, errReply
	}
	s := SemaphoreState{Held: int(held), Waiters: int(waiters)}
	if a[0] != "" {
		declared, ok1 := token(a[0])
		present, ok2 := token(a[1])
		if !ok1 || !ok2 {
			return SemaphoreState{}, errReply
		}
		s.Known, s.Declared, s.Present = true, int(declared), int(present)
	}
	for a = a[4:]; len(a) > 0; a = a[4:] {
		ticket, ok1 := a[0].(string)
		turn, ok2 := token(a[1])
		left, ok3 := a[2].(int64)
		meta, ok4 := a[3].(string)
		if !ok1 || !ok2 || !ok3 || !ok4 || left < 0 {
			return SemaphoreState{}, errReply
		}
		s.Permits = append(s.Permits, PermitState{
			ID: turnID(ticket, turn), Resting: turn == 0, TTL: millis(left), Metadata: meta,
		})
	}
	return s, nil
}
