package lease

import (
	"errors"
	"sync"
	"time"

	"github.com/multihost/multihost/internal/clock"
)

var (
	// ErrLost says that the lease ended before it was given back: it could not
	// be renewed in time, was taken away, or outlived its MaxHold. Somebody
	// else may hold it now; stop what it protected.
	ErrLost = errors.New("the lease was lost")

	// ErrReleased says that the lease was given back already.
	ErrReleased = errors.New("the lease was released")
)

// Terms say for how long something is taken.
type Terms struct {
	TTL    time.Duration
	Margin time.Duration
	// NoRenew leaves the lease to end at its deadline. Renewals are sent all the
	// same, to hear whether it was taken away, but must not extend it.
	NoRenew bool
	// Slack is how much earlier than after a third of the lease a renewal may be sent,
	// to travel with others.
	Slack time.Duration
}

// Deadline is the end of trust in a lease granted for ttl by a command sent at
// this time. A grant shorter than TTL gets a margin in proportion.
func (t Terms) Deadline(sent time.Time, ttl time.Duration) time.Time {
	margin := t.Margin
	if ttl < t.TTL {
		margin = time.Duration(float64(margin) * float64(ttl) / float64(t.TTL))
		margin = max(margin, min(t.Margin, 5*time.Millisecond))
	}
	return sent.Add(ttl - margin)
}

// Keeper watches the trust deadline of one lease and has it renewed.
type Keeper struct {
	terms Terms
	renew func() // sends a renewal; its outcome comes by Renewed, Failed or Lose
	lost  func() // hears, once, that the deadline has passed or Lose was called

	mu       sync.Mutex
	deadline time.Time
	next     time.Time     // when the next renewal is due,
	early    time.Duration // and how much earlier it may be sent
	sending  bool
	frozen   bool // no more renewals
	ended    bool
	alarm    *clock.Alarm
}

// Keep starts a keeper, with an alarm of these. Both functions run on goroutines of
// their own.
func Keep(alarms *clock.Alarms, terms Terms, deadline time.Time, renew, lost func()) *Keeper {
	k := &Keeper{terms: terms, renew: renew, lost: lost, deadline: deadline}
	left := clock.Until(deadline)
	k.next, k.early = deadline.Add(-left*2/3), min(terms.Slack, left/3)
	k.alarm = alarms.New(k.tick)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.set()
	return k
}

// set has the alarm fire when something has to be done. Called with mu.
func (k *Keeper) set() {
	at, early := k.deadline, time.Duration(0)
	if !k.frozen && !k.sending && k.next.Before(at) {
		at, early = k.next, k.early
	}
	k.alarm.Reset(max(clock.Until(at), 0), early)
}

func (k *Keeper) tick() {
	k.mu.Lock()
	if k.ended {
		k.mu.Unlock()
		return
	}
	now := clock.Now()
	if !now.Before(k.deadline) {
		k.mu.Unlock()
		k.Lose()
		return
	}
	renew := !k.frozen && !k.sending && !now.Before(k.next.Add(-k.early))
	if renew {
		k.sending = true
	}
	k.set()
	k.mu.Unlock()
	if renew {
		k.renew()
	}
}

// Renewed moves the deadline: a command sent at this time left the lease ttl
// to live. After the deadline has passed it does not: what was lost stays lost,
// and is told at once.
func (k *Keeper) Renewed(sent time.Time, ttl time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sending = false
	if k.ended {
		return
	}
	if clock.Now().Before(k.deadline) {
		if d := k.terms.Deadline(sent, ttl); d.After(k.deadline) && !k.terms.NoRenew {
			k.deadline = d
		}
		left := min(ttl, k.terms.TTL)
		k.next, k.early = sent.Add(left/3), min(k.terms.Slack, left/3)
	}
	// The timer knows nothing of a suspension of the host in the meantime.
	k.set()
}

// Failed says that a renewal was not answered: another follows soon. Of a grant
// shorter than TTL there may be less left than a part of TTL.
func (k *Keeper) Failed() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sending = false
	if k.ended {
		return
	}
	k.next, k.early = clock.Now().Add(max(min(k.terms.TTL/20, clock.Until(k.deadline)/4), time.Millisecond)), 0
	k.set()
}

// Again has the next renewal sent at once.
func (k *Keeper) Again() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended || k.sending {
		return
	}
	k.next, k.early = clock.Now(), 0
	k.set()
}

// Lose ends the lease as lost, if it has not ended before.
func (k *Keeper) Lose() {
	if k.End() {
		k.lost()
	}
}

// Freeze stops renewing; the lease ends at its deadline. It may be called by the
// garbage collector, which is outside of every synctest bubble: so it touches
// neither the clock nor the timer, which finds out when it fires.
func (k *Keeper) Freeze() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.frozen = true
}

// End stops the keeper without a word. It reports whether it was running.
func (k *Keeper) End() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return false
	}
	k.ended = true
	k.alarm.Stop()
	return true
}

// Deadline is the end of trust as it stands now.
func (k *Keeper) Deadline() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.deadline
}

// Trusted says whether the lease still stands, by the clock.
func (k *Keeper) Trusted() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.ended && clock.Now().Before(k.deadline)
}
