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
	//go:embed lua/line.lua
	lineLua string

	//go:embed lua/shared.lua
	sharedLua string
	//go:embed lua/quick_join.lua
	quickJoinLua string
	//go:embed lua/quick_release.lua
	quickReleaseLua string
	//go:embed lua/quick_renew.lua
	quickRenewLua string
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

	//go:embed lua/sem_shared.lua
	semSharedLua string
	//go:embed lua/quick_sem_join.lua
	quickSemJoinLua string
	//go:embed lua/quick_sem_release.lua
	quickSemReleaseLua string
	//go:embed lua/quick_sem_renew.lua
	quickSemRenewLua string
	//go:embed lua/sem_join.lua
	semJoinLua string
	//go:embed lua/sem_check.lua
	semCheckLua string
	//go:embed lua/sem_release.lua
	semReleaseLua string
	//go:embed lua/sem_renew.lua
	semRenewLua string
	//go:embed lua/sem_break.lua
	semBreakLua string
	//go:embed lua/sem_state.lua
	semStateLua string
	//go:embed lua/sem_delete.lua
	semDeleteLua string
	//go:embed lua/sem_open.lua
	semOpenLua string
	//go:embed lua/sem_resize.lua
	semResizeLua string
)

// kind is what a line leads to: the lock or the permits of a semaphore. Their
// scripts answer alike.
type kind struct {
	joinScript, checkScript, releaseScript, renewScript *hub.Script
	breakScript, stateScript, deleteScript              *hub.Script
	openScript, resizeScript                            *hub.Script // of a semaphore

	parts []string // keys beside the main one
}

var kinds = map[string]*kind{
	keyspace.Lock: {
		joinScript:    hub.NewScript(quickJoinLua + lineLua + sharedLua + joinLua),
		checkScript:   hub.NewScript(lineLua + sharedLua + checkLua),
		releaseScript: hub.NewScript(quickReleaseLua + lineLua + sharedLua + releaseLua),
		renewScript:   hub.NewScript(quickRenewLua + lineLua + sharedLua + renewLua),
		breakScript:   hub.NewScript(lineLua + sharedLua + breakLua),
		stateScript:   hub.NewScript(lineLua + sharedLua + stateLua),
		deleteScript:  hub.NewScript(lineLua + sharedLua + deleteLua),
		parts:         []string{":fence", ":line", ":places", ":ended"},
	},
	keyspace.Semaphore: {
		joinScript:    hub.NewScript(quickSemJoinLua + lineLua + semSharedLua + semJoinLua),
		checkScript:   hub.NewScript(lineLua + semSharedLua + semCheckLua),
		releaseScript: hub.NewScript(quickSemReleaseLua + lineLua + semSharedLua + semReleaseLua),
		renewScript:   hub.NewScript(quickSemRenewLua + lineLua + semSharedLua + semRenewLua),
		breakScript:   hub.NewScript(lineLua + semSharedLua + semBreakLua),
		stateScript:   hub.NewScript(lineLua + semSharedLua + semStateLua),
		deleteScript:  hub.NewScript(lineLua + semSharedLua + semDeleteLua),
		openScript:    hub.NewScript(lineLua + semSharedLua + semOpenLua),
		resizeScript:  hub.NewScript(lineLua + semSharedLua + semResizeLua),
		parts:         []string{":holders", ":line", ":places", ":ended", ":limit", ":changes"},
	},
}

// keysOf are the KEYS of every script.
func (k *kind) keysOf(main string) []string {
	all := make([]string, 1, 1+len(k.parts))
	all[0] = main
	for _, part := range k.parts {
		all = append(all, main+part)
	}
	return all
}

// status is how a ticket stands.
type status int

const (
	granted status = iota
	waiting
	ended
	unknown
	mismatched // of a semaphore: another limit is declared
)

// standing is the decoded answer about one ticket.
type standing struct {
	status      status
	first, last uint64        // granted: the reserved tokens, or turns of a permit
	ttl         time.Duration // granted: left of the lease; waiting: until the next one ends, -1 never, -2 free
	subscribed  bool          // waiting: the server sees the caller's channel
	handed      bool          // granted: by another's command, before the one that is answered
	crowd       bool          // waiting: another process stands in line too
	foreign     bool          // waiting: the owner is not one of ours

	declared, present uint64 // mismatched: the limits in Redis
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
		if len(a) != 4 && (len(a) != 5 || a[4] != "1") {
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
		return standing{status: granted, first: first, last: last, ttl: millis(ttl), handed: len(a) == 5}, nil
	case "waiting":
		if len(a) != 5 {
			return standing{}, errReply
		}
		ttl, ok1 := a[1].(int64)
		sub, ok2 := a[2].(int64)
		foreign, ok3 := a[3].(int64)
		crowd, ok4 := a[4].(int64)
		if !ok1 || !ok2 || !ok3 || !ok4 || ttl < -2 {
			return standing{}, errReply
		}
		s := standing{status: waiting, ttl: time.Duration(ttl), subscribed: sub == 1, foreign: foreign == 1, crowd: crowd == 1}
		if ttl >= 0 {
			s.ttl = millis(ttl)
		}
		return s, nil
	case "ended":
		return standing{status: ended}, nil
	case "unknown":
		return standing{status: unknown}, nil
	case "mismatch":
		return decodeMismatch(a)
	}
	return standing{}, errReply
}

// maxMillis is a century: a foreign key may have any TTL, and a time.Duration,
// added to now, holds no more than three.
const maxMillis = int64(100 * 365 * 24 * time.Hour / time.Millisecond)

func millis(n int64) time.Duration {
	return time.Duration(max(-maxMillis, min(n, maxMillis))) * time.Millisecond
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
	crowd   bool // ok: another process stands in line
	revoked bool
	token   uint64 // revoked: of the turn to end, 0 any
}

func decodeRenew(v any) (renewal, error) {
	a, ok := v.([]any)
	if !ok || len(a) == 0 {
		return renewal{}, errReply
	}
	switch n, _ := a[0].(int64); {
	case n == 1 && len(a) == 2:
		crowd, ok := a[1].(int64)
		if !ok {
			return renewal{}, errReply
		}
		return renewal{ok: true, crowd: crowd == 1}, nil
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

// inboxOf is the process's inbox, and how the scripts want it named.
func inboxOf(h *hub.Hub, o keyspace.Object) (name, arg string) {
	name = o.Inbox(h.Process(), h.DB(), h.Sharded())
	if h.Sharded() {
		return name, "s:" + name
	}
	return name, "p:" + name
}
