package redisqueue

import (
	"context"
	"strconv"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
)

// retaking is for how long a taking is repeated: Redis knows for five minutes what
// it took.
const retaking = 4 * time.Minute

// taking is a command that takes items for good, sent until its outcome is known.
// Redis keeps what the latest taking of a slot took, so that a repeat gets the
// same. Each has a slot of its own while it is under way. Its methods are called
// one at a time.
type taking struct {
	s      *station
	set    *settings
	most   int
	popped bool // an item came by BLPOP just before

	slot   int
	number uint64
	tries  int
	maybe  bool // an attempt was sent and not answered
	until  time.Time
}

func (s *station) taking(set *settings, most int, popped bool) *taking {
	s.use() // until it is over
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &taking{s: s, set: set, most: most, popped: popped, slot: s.slots, until: after(retaking)}
	if last := len(s.idle) - 1; last >= 0 {
		x.slot, s.idle = s.idle[last], s.idle[:last]
	} else {
		s.slots++
	}
	x.number = s.hub.Serial() // with mu: those of a slot grow
	return x
}

// command is the next attempt.
func (x *taking) command(call hub.Call) *command {
	x.tries++
	flag := func(b bool) string {
		if b {
			return "1"
		}
		return "0"
	}
	return &command{
		script: takeScript, set: x.set, call: call,
		own:  x.s.object.Part(x.s.hub.Process() + "-" + strconv.Itoa(x.slot) + ":taken"),
		args: []any{x.most, flag(x.popped), x.number, flag(x.maybe)},
	}
}

// patiently is how it is sent when that must not use the program's own connections;
// once it may have taken something, until that is here.
func (x *taking) patiently() hub.Call {
	return hub.Call{Private: true, AfterClose: x.maybe, Patience: patience}
}

// over takes in the outcome of an attempt, and says whether it was the last one.
func (x *taking) over(r hub.Reply) bool {
	x.maybe = x.maybe || r.Ambiguous
	if r.Err != nil && x.maybe && !hub.Permanent(r.Err) && clock.Until(x.until) > 0 {
		return false
	}
	x.s.mu.Lock()
	x.s.idle = append(x.s.idle, x.slot)
	x.s.mu.Unlock()
	x.s.unuse()
	return true
}

// spoils are what a taking took.
type spoils struct {
	haul
	err error
}

// try sends it. done hears the outcome, or after so many attempts that there is
// none yet: then it goes on, and what it took goes back.
func (x *taking) try(call hub.Call, done func(spoils)) {
	x.s.send(x.command(call), func(a answer, r hub.Reply) {
		var got spoils
		if got.err = r.Err; got.err == nil {
			got.haul, got.err = a.haul()
		}
		over := x.over(r)
		if !over && x.tries == attempts {
			got.err = hub.Join(hub.ErrUnknownOutcome, got.err)
		}
		if over || x.tries == attempts {
			done(got)
			done = x.refund
		}
		if !over {
			time.AfterFunc(backoff(x.tries), func() { x.try(x.patiently(), done) })
		}
	})
}

// refund puts back what nobody waits for any more.
func (x *taking) refund(got spoils) {
	if len(got.items) > 0 {
		x.s.back(x.set, "", got.items, func() {})
	}
}

// tryGet takes what is there.
func (s *station) tryGet(ctx context.Context, set *settings, want int) ([]envelope, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	x := s.taking(set, want, false)
	h, err := await(ctx, func(done func(spoils)) { x.try(hub.Call{}, done) }, x.refund)
	switch {
	case err != nil:
		return nil, hub.Join(hub.ErrUnknownOutcome, err)
	case h.err != nil:
		return nil, h.err
	case h.shutdown:
		return nil, ErrShutdown
	}
	s.sweep(set, h.dead)
	if len(h.items) == 0 {
		return nil, ErrEmpty
	}
	s.observe(set, Got, len(h.items), 0)
	return h.items, nil
}
