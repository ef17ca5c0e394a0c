package quorum

import (
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/turnstile"
)

var (
	//go:embed lua/shared.lua
	sharedLua string
	//go:embed lua/take.lua
	takeLua string
	//go:embed lua/keep.lua
	keepLua string
	//go:embed lua/release.lua
	releaseLua string
	//go:embed lua/break.lua
	breakLua string
	//go:embed lua/state.lua
	stateLua string
	//go:embed lua/delete.lua
	deleteLua string

	takeScript    = hub.NewScript(sharedLua + takeLua)
	keepScript    = hub.NewScript(sharedLua + keepLua)
	releaseScript = hub.NewScript(sharedLua + releaseLua)
	breakScript   = hub.NewScript(sharedLua + breakLua)
	stateScript   = hub.NewScript(sharedLua + stateLua)
	deleteScript  = hub.NewScript(sharedLua + deleteLua)
)

// parts are the keys beside the main one.
var parts = []string{"holder", "ended", "fence"}

var errReply = fmt.Errorf("%w: the script's answer is not understood", hub.ErrMismatch)

// taking is the decoded answer of take.
type taking struct {
	taken   bool
	counter uint64        // taken: the member's fencing counter
	clock   uint64        // taken: its time, in µs
	owner   string        // not taken; "" if the ticket was given back
	left    time.Duration // not taken: of the owner's lease; -1 without end
	foreign bool          // not taken: the owner is not one of ours
}

func decodeTake(v any) (taking, error) {
	a, _ := v.([]any)
	switch {
	case len(a) == 3 && a[0] == int64(1):
		counter, ok1 := number(a[1])
		clock, ok2 := number(a[2])
		if ok1 && ok2 {
			return taking{taken: true, counter: counter, clock: clock}, nil
		}
	case len(a) == 4 && a[0] == int64(0):
		owner, ok1 := a[1].(string)
		left, ok2 := a[2].(int64)
		ours, ok3 := a[3].(int64)
		if ok1 && ok2 && ok3 {
			return taking{owner: owner, left: millis(left), foreign: ours == 0}, nil
		}
	case len(a) == 1 && a[0] == int64(-1):
		return taking{}, nil
	}
	return taking{}, errReply
}

// keeping is how a member answers keep.
type keeping int

const (
	gone     keeping = iota // not the owner
	broken                  // the operator wants it to end
	kept                    // extended, and the token is accepted
	surpass                 // extended, and a token as great was seen
	mistaken                // the answer makes no sense
)

// decodeKeep reads keep's answer; seen is the counter to surpass.
func decodeKeep(v any) (k keeping, seen uint64) {
	a, _ := v.([]any)
	if len(a) == 0 {
		return mistaken, 0
	}
	switch a[0] {
	case int64(0):
		return gone, 0
	case int64(-1):
		return broken, 0
	case int64(1):
		return kept, 0
	case int64(2):
		if len(a) == 2 {
			if n, ok := number(a[1]); ok {
				return surpass, n
			}
		}
	}
	return mistaken, 0
}

// breaking is the decoded answer of break.
type breaking struct {
	over, foreign bool
	left          time.Duration
	ticket        string
}

func decodeBreak(v any) (breaking, error) {
	a, _ := v.([]any)
	switch {
	case len(a) == 1 && a[0] == "over":
		return breaking{over: true}, nil
	case len(a) == 1 && a[0] == "foreign":
		return breaking{foreign: true}, nil
	case len(a) == 3 && a[0] == "revoked":
		left, ok1 := a[1].(int64)
		ticket, ok2 := a[2].(string)
		if ok1 && ok2 {
			return breaking{left: millis(max(left, 0)), ticket: ticket}, nil
		}
	}
	return breaking{}, errReply
}

// decodeState reads how one member stands.
func decodeState(v any) (turnstile.State, error) {
	a, _ := v.([]any)
	if len(a) != 5 {
		return turnstile.State{}, errReply
	}
	owner, ok1 := a[0].(string)
	ours, ok2 := a[1].(int64)
	left, ok3 := a[3].(int64)
	meta, _ := a[4].(string)
	if !ok1 || !ok2 || !ok3 {
		return turnstile.State{}, errReply
	}
	s := turnstile.State{Owner: owner, Foreign: owner != "" && ours == 0, Metadata: meta}
	s.Token, _ = number(a[2]) // absent while it is being acquired, or rests
	if owner != "" {
		s.TTL = millis(left)
	}
	return s, nil
}

// millis reads a remaining time; -1 is one without end.
func millis(n int64) time.Duration {
	// A century: a foreign key may have any TTL, and a time.Duration holds no
	// more than three.
	const most = int64(100 * 365 * 24 * time.Hour / time.Millisecond)
	if n < 0 {
		return -1
	}
	return time.Duration(min(n, most)) * time.Millisecond
}

// ms is a duration for Redis, rounded up.
func ms(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// number reads a token or a time: what a double holds, in which Lua compares.
func number(v any) (uint64, bool) {
	s, ok := v.(string)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && n < 1<<53
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
