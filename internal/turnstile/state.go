package turnstile

import "time"

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
