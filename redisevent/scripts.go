package redisevent

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/multihost/multihost/internal/hub"
)

var (
	//go:embed lua/shared.lua
	sharedLua string
	//go:embed lua/change.lua
	changeLua string
	//go:embed lua/look.lua
	lookLua string
	//go:embed lua/delete.lua
	deleteLua string

	changeScript = hub.NewScript(sharedLua + changeLua)
	lookScript   = hub.NewScript(sharedLua + lookLua)
	deleteScript = hub.NewScript(sharedLua + deleteLua)
)

var errReply = fmt.Errorf("%w: the script's answer is not understood", hub.ErrMismatch)

// number is the event's number: it grows with every change, and is odd while
// the event is set.
type number uint64

func (n number) set() bool { return n%2 == 1 }

// sight is what was seen of the event.
type sight struct {
	number  number
	changes uint64
	ttl     time.Duration // of the key; negative: no end
	now     number        // of a look: the server's time; later changes get greater numbers
}

func (s sight) state() State { return State{Set: s.number.set(), Changes: s.changes} }

// decodeSight reads the answer of change and look.
func decodeSight(v any) (sight, error) {
	a, ok := v.([]any)
	if !ok || len(a) < 2 {
		return sight{}, errReply
	}
	n, ok1 := decimal(a[0])
	c, ok2 := decimal(a[1])
	if !ok1 || !ok2 {
		return sight{}, errReply
	}
	s := sight{number: number(n), changes: c, ttl: -1}
	if len(a) > 2 {
		ttl, ok1 := a[2].(int64)
		now, ok2 := uint64(0), false
		if len(a) == 4 {
			now, ok2 = decimal(a[3])
		}
		if !ok1 || !ok2 {
			return sight{}, errReply
		}
		s.now = number(now)
		if ttl >= 0 {
			s.ttl = millis(ttl)
		}
	}
	return s, nil
}

// decodeMessage reads what change publishes.
func decodeMessage(payload string) (sight, bool) {
	f := strings.Split(payload, " ")
	if len(f) != 4 {
		return sight{}, false
	}
	n, ok1 := decimal(f[1])
	c, ok2 := decimal(f[2])
	ttl, err := strconv.ParseInt(f[3], 10, 64)
	if !ok1 || !ok2 || err != nil || ttl < 0 {
		return sight{}, false
	}
	s := sight{number: number(n), changes: c, ttl: -1}
	if ttl > 0 {
		s.ttl = millis(ttl)
	}
	return s, true
}

func millis(n int64) time.Duration {
	return time.Duration(min(n, int64(maxTTL/time.Millisecond))) * time.Millisecond
}

func decimal(v any) (uint64, bool) {
	s, ok := v.(string)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}
