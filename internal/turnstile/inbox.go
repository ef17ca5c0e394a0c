package turnstile

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/multihost/multihost/internal/clock"
	"github.com/multihost/multihost/internal/hub"
)

// inbox is the channel on which the process hears what is meant for it alone:
//
//	grant <ticket> <first token> <last token> <ms> <lock>   the lock, or a permit, is yours
//	look <ticket> <ms> <lock>                               check after so long, if not before
//	wanted <ticket> <lock>                                  another process stands in line too, or the limit was lowered
//	revoke <ticket> <lock>                                  renew now, and hear why
//	over <lock>                                             a break has ended
type inbox struct {
	hub   *hub.Hub
	name  string
	topic *hub.Topic

	mu        sync.Mutex
	confirmed time.Time     // when the present subscription was confirmed
	redialled time.Time     // when the server last seemed not to see it
	lines     map[*Line]int // those that hold it
}

func newInbox(h *hub.Hub, name string) *inbox {
	b := &inbox{hub: h, name: name, lines: map[*Line]int{}}
	b.topic = h.Topic(name, b.message, b.ready)
	return b
}

// hold listens on behalf of the line, and reports whether that stands already;
// if not, the line's place is checked as soon as it does.
func (b *inbox) hold(l *Line) bool {
	b.mu.Lock()
	b.lines[l]++
	b.mu.Unlock()
	return b.topic.Hold()
}

func (b *inbox) drop(l *Line) {
	b.mu.Lock()
	if b.lines[l]--; b.lines[l] == 0 {
		delete(b.lines, l)
	}
	b.mu.Unlock()
	b.topic.Drop()
}

// unheard takes note that a command sent at this time was answered "nobody
// listens to your channel". A subscription confirmed before that hangs on a
// server that is no longer the one in charge: dial again. If it was confirmed
// since, unheard reports so: what was told in between was lost, ask again.
func (b *inbox) unheard(sent time.Time) (since bool) {
	b.mu.Lock()
	now := clock.Now()
	deaf := !b.confirmed.IsZero() && b.confirmed.Before(sent) && now.Sub(b.redialled) > time.Second
	if deaf {
		b.redialled = now
	}
	since = !b.confirmed.Before(sent)
	b.mu.Unlock()
	if deaf {
		b.topic.Deaf()
	}
	return since
}

// ready hears that the subscription stands: messages before this were lost.
func (b *inbox) ready(again bool) {
	b.mu.Lock()
	b.confirmed = clock.Now()
	lines := make([]*Line, 0, len(b.lines))
	for l := range b.lines {
		lines = append(lines, l)
	}
	b.mu.Unlock()
	for _, l := range lines {
		l.listening(again)
	}
}

// message takes a message apart. What makes no sense is dropped: the channel
// is open to every program, and a lost message only costs time.
func (b *inbox) message(payload string, after time.Time) {
	verb, rest, _ := strings.Cut(payload, " ")
	switch verb {
	case "grant":
		f := strings.SplitN(rest, " ", 5)
		if len(f) != 5 {
			return
		}
		first, ok1 := token(f[1])
		last, ok2 := token(f[2])
		n, err := strconv.ParseInt(f[3], 10, 64)
		if !ok1 || !ok2 || err != nil || first == 0 || last < first || n < 0 {
			return
		}
		s := standing{status: granted, first: first, last: last, ttl: millis(n)}
		b.grant(f[0], f[4], s, after)
	case "look":
		f := strings.SplitN(rest, " ", 3)
		if len(f) != 3 {
			return
		}
		n, err := strconv.ParseInt(f[1], 10, 64)
		if l, ok := hub.Find[*Line](b.hub, f[2]); ok && err == nil && n >= 0 {
			l.lookIn(f[0], millis(n))
		}
	case "wanted":
		if ticket, key, ok := strings.Cut(rest, " "); ok {
			if l, ok := hub.Find[*Line](b.hub, key); ok {
				l.wanted(ticket)
			}
		}
	case "revoke":
		if ticket, key, ok := strings.Cut(rest, " "); ok {
			if l, ok := hub.Find[*Line](b.hub, key); ok {
				l.revoke(ticket)
			}
		}
	case "over":
		if l, ok := hub.Find[*Line](b.hub, rest); ok {
			l.breakOver()
		}
	}
}

// grant hands a grant to the line whose place it is for. A grant for a ticket
// that does not wait, or no longer, is given back.
func (b *inbox) grant(ticket, key string, s standing, after time.Time) {
	if !strings.HasPrefix(ticket, b.hub.Process()+"-") {
		return // not from one of our scripts
	}
	if l, ok := hub.Find[*Line](b.hub, key); ok && l.grantCame(ticket, s, after) {
		return
	}
	k := kindOf(key)
	if k == nil {
		return
	}
	b.hub.Go(&hub.Call{
		Script: k.releaseScript, Keys: k.keysOf(key), Private: true, AfterClose: true,
		Attempts: manyAttempts, Until: clock.Now().Add(leastCleanup),
		Args: []any{ticket, "", 0, "0", "", ""}, // if a join may come late, its withdrawal has told
		Done: func(hub.Reply) {},
	})
}

// grantCame reports whether the ticket is one of the line's.
func (l *Line) grantCame(ticket string, s standing, after time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grants.get(ticket) != nil || l.leaving.get(ticket) != nil {
		return true // known from an answer already
	}
	p := l.place
	if p == nil || p.ticket != ticket {
		return false
	}
	l.failures = 0
	l.offered(p, s, after)
	return true
}

// wanted hears that another process has come to stand in line behind the place.
func (l *Line) wanted(ticket string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.place; p != nil && p.ticket == ticket {
		p.wanted = true
		l.crowd(true)
	}
}

// lookIn has the place checked after d, if it would not be before.
func (l *Line) lookIn(ticket string, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.place
	if p == nil || p.ticket != ticket {
		return
	}
	if p.calling {
		p.again = true // its answer may be older
	} else if clock.Until(p.due) > d {
		l.checkIn(p, d+time.Millisecond)
	}
}

// listening hears that the inbox is open (again).
func (l *Line) listening(again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.breakNotice()
	p := l.place
	if p == nil || !p.standing {
		return
	}
	if w := l.first(); w != nil && again {
		l.observe(w.terms, Observation{Kind: Reconnected})
	}
	l.check(p)
}
