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
		ttl, ok := a[2].(int64)
		if !ok {
			return sight{}, errReply
		}
		if ttl >= 0 {
			s.ttl = time.Duration(min(ttl, int64(maxTTL/time.Millisecond))) * time.Millisecond
		}
	}
	return s, nil
}

// decodeMessage reads what change publishes.
func decodeMessage(payload string) (sight, bool) {
	f := strings.Split(payload, " ")
	if len(f) != 3 {
		return sight{}, false
	}
	n, ok1 := decimal(f[1])
	c, ok2 := decimal(f[2])
	return sight{number: number(n), changes: c, ttl: -1}, ok1 && ok2
}

func decimal(v any) (uint64, bool) {
	s, ok := v.(string)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}
