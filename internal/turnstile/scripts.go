package turnstile

import (
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/keyspace"
)

var (
	//go:embed lua/shared.lua
	sharedLua string
	//go:embed lua/join.lua
	joinLua string
	//go:embed lua/check.lua
	checkLua string
	//go:embed lua/release.lua
	releaseLua string
	//go:embed lua/renew.lua
	renewLua string
	//go:embed lua/break.lua
	breakLua string
	//go:embed lua/state.lua
	stateLua string
	//go:embed lua/delete.lua
	deleteLua string

	joinScript    = hub.NewScript(sharedLua + joinLua)
	checkScript   = hub.NewScript(sharedLua + checkLua)
	releaseScript = hub.NewScript(sharedLua + releaseLua)
	renewScript   = hub.NewScript(sharedLua + renewLua)
	breakScript   = hub.NewScript(sharedLua + breakLua)
	stateScript   = hub.NewScript(sharedLua + stateLua)
	deleteScript  = hub.NewScript(sharedLua + deleteLua)
)

// keys are the KEYS of every script.
func keys(main string) []string {
	return []string{main, main + ":holder", main + ":line", main + ":places", main + ":ended", main + ":fence"}
}

// status is how a ticket stands.
type status int

const (
	granted status = iota
	waiting
	ended
	unknown
)

// standing is the decoded answer about one ticket.
type standing struct {
	status      status
	first, last uint64        // granted: the reserved tokens
	ttl         time.Duration // granted: left of the lease; waiting: of the owner's, -1 without end, -2 free
	subscribed  bool          // waiting: the server sees the caller's channel
	foreign     bool          // waiting: the owner is not one of ours
}

var errReply = fmt.Errorf("%w: the script's answer is not understood", hub.ErrMismatch)

// decodeStanding reads the answer of join and check, and the tail of release's.
func decodeStanding(v any) (standing, error) {
	a, ok := v.([]any)
	if !ok || len(a) == 0 {
		return standing{}, errReply
	}
	switch a[0] {
	case "granted":
		if len(a) != 4 {
			return standing{}, errReply
		}
		if ttl, ok := a[3].(int64); ok && ttl < 0 || a[1] == nil {
			// It ended while the script ran, which takes a server whose clock does
			// not stand still meanwhile.
			return standing{status: unknown}, nil
		}
		first, ok1 := token(a[1])
		last, ok2 := token(a[2])
		ttl, ok3 := a[3].(int64)
		if !ok1 || !ok2 || !ok3 || first == 0 || last < first || ttl < 0 {
			return standing{}, errReply
		}
		return standing{status: granted, first: first, last: last, ttl: millis(ttl)}, nil
	case "waiting":
		if len(a) != 4 {
			return standing{}, errReply
		}
		ttl, ok1 := a[1].(int64)
		sub, ok2 := a[2].(int64)
		foreign, ok3 := a[3].(int64)
		if !ok1 || !ok2 || !ok3 || ttl < -2 {
			return standing{}, errReply
		}
		s := standing{status: waiting, ttl: time.Duration(ttl), subscribed: sub == 1, foreign: foreign == 1}
		if ttl >= 0 {
			s.ttl = millis(ttl)
		}
		return s, nil
	case "ended":
		return standing{status: ended}, nil
	case "unknown":
		return standing{status: unknown}, nil
	}
	return standing{}, errReply
}

// maxMillis is a century: a foreign key may have any TTL, and a time.Duration,
// added to now, holds no more than three.
const maxMillis = int64(100 * 365 * 24 * time.Hour / time.Millisecond)

func millis(n int64) time.Duration {
	return time.Duration(min(n, maxMillis)) * time.Millisecond
}

func token(v any) (uint64, bool) {
	s, ok := v.(string)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// ms is a duration for Redis, rounded up.
func ms(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// decodeRelease reads release's answer; s is nil if no other ticket was asked for.
func decodeRelease(v any) (mine bool, s *standing, err error) {
	a, ok := v.([]any)
	if !ok || len(a) == 0 {
		return false, nil, errReply
	}
	n, ok := a[0].(int64)
	if !ok {
		return false, nil, errReply
	}
	if len(a) > 1 {
		st, err := decodeStanding(a[1:])
		if err != nil {
			return false, nil, err
		}
		s = &st
	}
	return n == 1, s, nil
}

// renewal is the decoded answer of renew.
type renewal struct {
	ok      bool
	revoked bool
	token   uint64 // revoked: of the turn to end, 0 any
}

func decodeRenew(v any) (renewal, error) {
	a, ok := v.([]any)
	if !ok || len(a) == 0 {
		return renewal{}, errReply
	}
	switch n, _ := a[0].(int64); {
	case n == 1:
		return renewal{ok: true}, nil
	case n == -1 && len(a) == 2:
		t, ok := token(a[1])
		if !ok {
			return renewal{}, errReply
		}
		return renewal{revoked: true, token: t}, nil
	case a[0] == int64(0):
		return renewal{}, nil
	}
	return renewal{}, errReply
}

// State is a snapshot of a lock in Redis.
type State struct {
	Owner    string // "" when free
	Foreign  bool
	Token    uint64
	TTL      time.Duration // -1: without end
	Metadata string
	Waiters  int
}

func decodeState(v any) (State, error) {
	a, ok := v.([]any)
	if !ok || len(a) != 6 {
		return State{}, errReply
	}
	owner, ok1 := a[0].(string)
	ours, ok2 := a[1].(int64)
	ttl, ok4 := a[3].(int64)
	meta, _ := a[4].(string)
	waiters, ok6 := a[5].(int64)
	if !ok1 || !ok2 || !ok4 || !ok6 || waiters < 0 {
		return State{}, errReply
	}
	s := State{Owner: owner, Metadata: meta, Waiters: int(waiters)}
	s.Token, _ = token(a[2]) // absent while a released lock rests
	s.Foreign = owner != "" && ours == 0
	switch {
	case owner == "":
	case ttl < 0:
		s.TTL = -1
	default:
		s.TTL = millis(ttl)
	}
	return s, nil
}

// inboxOf is the process's inbox, and how the scripts want it named.
func inboxOf(h *hub.Hub, o keyspace.Object) (name, arg string) {
	name = o.Inbox(h.Process(), h.DB(), h.Sharded())
	if h.Sharded() {
		return name, "s:" + name
	}
	return name, "p:" + name
}
