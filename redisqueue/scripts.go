package redisqueue

import (
	_ "embed"
	"fmt"
	"time"

	"github.com/multihost/multihost/internal/hub"
	"github.com/multihost/multihost/internal/keyspace"
)

var (
	//go:embed lua/shared.lua
	sharedLua string
	//go:embed lua/put.lua
	putLua string
	//go:embed lua/parked.lua
	parkedLua string
	//go:embed lua/take.lua
	takeLua string
	//go:embed lua/claim.lua
	claimLua string
	//go:embed lua/register.lua
	registerLua string
	//go:embed lua/wake.lua
	wakeLua string
	//go:embed lua/beat.lua
	beatLua string
	//go:embed lua/ack.lua
	ackLua string
	//go:embed lua/nack.lua
	nackLua string
	//go:embed lua/back.lua
	backLua string
	//go:embed lua/bury.lua
	buryLua string
	//go:embed lua/sweep.lua
	sweepLua string
	//go:embed lua/leave.lua
	leaveLua string
	//go:embed lua/join.lua
	joinLua string
	//go:embed lua/shutdown.lua
	shutdownLua string
	//go:embed lua/delete.lua
	deleteLua string
	//go:embed lua/state.lua
	stateLua string

	putScript      = hub.NewScript(sharedLua + putLua)
	parkedScript   = hub.NewScript(sharedLua + parkedLua)
	takeScript     = hub.NewScript(sharedLua + takeLua)
	claimScript    = hub.NewScript(sharedLua + claimLua)
	registerScript = hub.NewScript(registerLua)
	wakeScript     = hub.NewScript(wakeLua)
	beatScript     = hub.NewScript(sharedLua + beatLua)
	ackScript      = hub.NewScript(sharedLua + ackLua)
	nackScript     = hub.NewScript(sharedLua + nackLua)
	backScript     = hub.NewScript(sharedLua + backLua)
	buryScript     = hub.NewScript(sharedLua + buryLua)
	sweepScript    = hub.NewScript(sharedLua + sweepLua)
	leaveScript    = hub.NewScript(sharedLua + leaveLua)
	joinScript     = hub.NewScript(sharedLua + joinLua)
	shutdownScript = hub.NewScript(sharedLua + shutdownLua)
	deleteScript   = hub.NewScript(sharedLua + deleteLua)
	stateScript    = hub.NewScript(sharedLua + stateLua)
)

// The keys of a queue, as shared.lua numbers them from 0.
const (
	waitingKey   = 0
	aboutKey     = 5
	consumersKey = 6
	goneKey      = 8
)

func keysOf(o keyspace.Object) []string {
	return []string{
		o.Key(), o.Part("parked"), o.Part("room"), o.Part("delayed"), o.Part("dead"), o.Part("about"),
		o.Part("consumers"), o.Part("metadata"), o.Part("gone"), o.Part("refused"), o.Part("ids"), o.Part("asked"),
	}
}

var errReply = fmt.Errorf("%w: the script's answer is not understood", hub.ErrMismatch)

// answer is the decoded answer of a script, but for its first word.
type answer struct {
	word string
	rest []any
}

func decodeAnswer(v any) (answer, error) {
	a, ok := v.([]any)
	if !ok || len(a) == 0 {
		return answer{}, errReply
	}
	word, ok := a[0].(string)
	if !ok {
		return answer{}, errReply
	}
	return answer{word, a[1:]}, nil
}

// mismatch is the error for an answer "mismatch".
func (a answer) mismatch(set *settings) error {
	if len(a.rest) != 2 {
		return errReply
	}
	return fmt.Errorf("%w: MaxSize is %v and Codec %q there, %d and %q here; see Options.OnMismatch",
		hub.ErrMismatch, a.rest[0], a.rest[1], set.maxSize, set.codec)
}

// letters reads the answer of put and parked.
func (a answer) letters(word string) (string, error) {
	if a.word != word || len(a.rest) != 1 {
		return "", errReply
	}
	s, ok := a.rest[0].(string)
	if !ok {
		return "", errReply
	}
	return s, nil
}

// outlook is what the next look depends on.
type outlook struct {
	due  time.Duration // until a delayed item is due; negative: none
	ends time.Duration // until another consumer's claims end; negative: none
	dead []string      // consumers to sweep
}

func (a answer) outlook(at int) (o outlook, err error) {
	if len(a.rest) < at+3 {
		return o, errReply
	}
	due, ok1 := a.rest[at].(int64)
	ends, ok2 := a.rest[at+1].(int64)
	dead, ok3 := a.rest[at+2].([]any)
	if !ok1 || !ok2 || !ok3 {
		return o, errReply
	}
	o.due, o.ends = millis(due), millis(ends)
	if o.dead, err = texts(dead); err != nil {
		return outlook{}, err
	}
	return o, nil
}

// haul is the decoded answer of take and claim.
type haul struct {
	outlook
	items    []envelope
	shutdown bool
	from     *session // whose claims the items are
}

func (a answer) haul() (h haul, err error) {
	if a.word == "shutdown" && len(a.rest) == 0 {
		return haul{outlook: outlook{due: -1, ends: -1}, shutdown: true}, nil
	}
	if a.word != "items" || len(a.rest) != 4 {
		return h, errReply
	}
	if h.outlook, err = a.outlook(0); err != nil {
		return h, err
	}
	items, ok := a.rest[3].([]any)
	if !ok {
		return haul{}, errReply
	}
	for _, v := range items {
		s, ok := v.(string)
		if !ok {
			return haul{}, errReply
		}
		h.items = append(h.items, envelope(s))
	}
	return h, nil
}

// beat is the decoded answer of beat.
type beat struct {
	outlook
	alive  bool
	claims int
}

func (a answer) beat() (b beat, err error) {
	if a.word == "gone" && len(a.rest) == 0 {
		return beat{}, nil
	}
	if a.word != "alive" || len(a.rest) != 4 {
		return b, errReply
	}
	n, ok := a.rest[0].(int64)
	if !ok || n < 0 {
		return b, errReply
	}
	o, err := a.outlook(1)
	if err != nil {
		return b, err
	}
	return beat{o, true, int(n)}, nil
}

// count reads the answer of ack, nack and the like.
func (a answer) count() (int, error) {
	if a.word != "done" || len(a.rest) != 1 {
		return 0, errReply
	}
	n, ok := a.rest[0].(int64)
	if !ok || n < 0 {
		return 0, errReply
	}
	return int(n), nil
}

// zeros reads the answer of join.
func (a answer) zeros() (zeros string, finished bool, err error) {
	if a.word != "zeros" || len(a.rest) != 2 {
		return "", false, errReply
	}
	zeros, ok1 := a.rest[0].(string)
	n, ok2 := a.rest[1].(int64)
	if !ok1 || !ok2 {
		return "", false, errReply
	}
	return zeros, n == 1, nil
}

func texts(list []any) ([]string, error) {
	var all []string
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, errReply
		}
		all = append(all, s)
	}
	return all, nil
}

func millis(n int64) time.Duration {
	const most = int64(maxTTL / time.Millisecond)
	return time.Duration(max(-most, min(n, most))) * time.Millisecond
}

// ms is a duration for Redis, rounded up.
func ms(d time.Duration) int64 {
	n := int64(d / time.Millisecond)
	if d%time.Millisecond > 0 {
		n++
	}
	return n
}
