package redisqueue

import (
	"time"

	"github.com/multihost/multihost/internal/hub"
)

// withdraw takes an order back as far as possible: its end, so that the rest is
// the first so many. While a part is on its way its answer is waited for, and
// then all that is parked is taken back in one command.
func (s *station) withdraw(o *order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.open == 0 || o.gone {
		return
	}
	o.gone = true
	s.sender.abort(o, nil)
	s.sender.takeBack(o)
}

// takeBack takes back what is parked of an order that has been given up, unless
// another part of it is on its way. Called with mu.
func (x *sender) takeBack(o *order) {
	var items []*item
	for _, it := range o.items {
		switch it.place {
		case sent:
			return
		case parked:
			items = append(items, it)
		}
	}
	if len(items) > 0 {
		x.ask(items, true, x.s.forSure())
	}
}

// ask asks what became of parked items of one order, or of several that only wait.
// Called with mu.
func (x *sender) ask(items []*item, back bool, call hub.Call) {
	args := []any{"0"}
	if back {
		args[0] = "1"
	}
	for _, it := range items {
		args = append(args, it.id)
	}
	x.s.send(&command{script: parkedScript, set: items[0].order.set, args: args, call: call},
		func(a answer, r hub.Reply) {
			letters, err := "", r.Err
			if err == nil {
				letters, err = a.letters("parked")
			}
			x.s.mu.Lock()
			defer x.s.mu.Unlock()
			for i, it := range items {
				if it.place != parked {
					continue // told meanwhile
				}
				switch {
				case err != nil && (back || hub.Permanent(err)):
					x.settle(it, unknown, hub.Join(hub.ErrUnknownOutcome, err))
				case err != nil || i >= len(letters) || letters[i] == 'p':
				case letters[i] == 'a':
					x.settle(it, taken, nil)
				case letters[i] == 's' && !it.order.gone:
					x.settle(it, refused, ErrShutdown)
				default: // taken back
					x.settle(it, refused, nil)
				}
			}
		})
}

// admitted hears that items are in the queue.
func (s *station) admitted(ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		it := s.sender.parked[id]
		switch {
		case it == nil:
		case it.place == parked:
			s.sender.settle(it, taken, nil)
		default:
			it.early = true // the answer to its put is still on its way
		}
	}
}

// askParked asks what became of all parked items.
func (s *station) askParked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &s.sender
	if x.waiting == 0 {
		return
	}
	bySet := map[*settings][]*item{}
	for _, it := range x.parked {
		if it.place == parked {
			bySet[it.order.set] = append(bySet[it.order.set], it)
		}
	}
	for _, items := range bySet {
		x.ask(items, false, hub.Call{Private: true, Patience: patience})
	}
	x.timer.Reset(parkedCheck)
}

// listen hears of admissions while something is parked. Called with mu.
func (x *sender) listen() {
	switch {
	case x.waiting > 0 && !x.listens:
		x.listens = true
		x.s.all.Hold()
		if x.s.own.Hold() {
			// It stands, but was it there before the item was parked?
			go x.s.askParked()
		} // else it tells when it stands
		if x.timer == nil {
			x.timer = time.AfterFunc(parkedCheck, x.check)
		} else {
			x.timer.Reset(parkedCheck)
		}
	case x.waiting == 0 && x.listens:
		x.listens = false
		x.timer.Stop()
		x.s.all.Drop()
		x.s.own.Drop()
	}
}

func (x *sender) check() {
	x.s.mu.Lock()
	for _, it := range x.parked {
		if it.place == parked {
			x.s.observe(it.order.set, Fallback, 0, 0)
			break
		}
	}
	x.s.mu.Unlock()
	x.s.askParked()
}
