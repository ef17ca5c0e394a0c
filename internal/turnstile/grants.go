package turnstile

import "iter"

// grants are some of a process's, by ticket. For a lock that is one, seldom two: a map
// would take some 250 bytes for it.
type grants struct {
	one  *grant
	more map[string]*grant
}

func (s *grants) get(ticket string) *grant {
	if s.one != nil && s.one.ticket == ticket {
		return s.one
	}
	return s.more[ticket]
}

// has says whether this very grant is among them.
func (s *grants) has(g *grant) bool { return s.get(g.ticket) == g }

func (s *grants) add(g *grant) {
	switch {
	case s.one == nil:
		s.one = g
	case s.more == nil:
		s.more = map[string]*grant{g.ticket: g}
	default:
		s.more[g.ticket] = g
	}
}

func (s *grants) remove(g *grant) {
	if s.one == g {
		s.one = nil
	} else {
		delete(s.more, g.ticket)
	}
}

func (s *grants) len() int {
	n := len(s.more)
	if s.one != nil {
		n++
	}
	return n
}

func (s *grants) all() iter.Seq[*grant] {
	return func(yield func(*grant) bool) {
		if s.one != nil && !yield(s.one) {
			return
		}
		for _, g := range s.more {
			if !yield(g) {
				return
			}
		}
	}
}
