package lease

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/multihost/multihost/internal/clock"
)

// A keeping is a keeper and what happened to it, by the time since its start.
type keeping struct {
	*Keeper
	start time.Time

	note     sync.Mutex
	renewals []time.Duration
	lost     []time.Duration
	answer   func(*keeping) // to a renewal; nil: none
}

// keep starts a keeper whose lease was granted for ttl just now.
func keep(terms Terms, ttl time.Duration, answer func(*keeping)) *keeping {
	k := &keeping{start: clock.Now(), answer: answer}
	ready := make(chan struct{})
	k.Keeper = Keep(new(clock.Alarms), terms, terms.Deadline(k.start, ttl), func() {
		<-ready
		k.note.Lock()
		k.renewals = append(k.renewals, clock.Since(k.start))
		answer := k.answer
		k.note.Unlock()
		if answer != nil {
			answer(k)
		}
	}, func() {
		<-ready
		k.note.Lock()
		defer k.note.Unlock()
		k.lost = append(k.lost, clock.Since(k.start))
	})
	close(ready)
	return k
}

// renew is the answer of a server at hand.
func renew(k *keeping) { k.Renewed(clock.Now(), k.terms.TTL) }

// from says how renewals are answered from now on.
func (k *keeping) from(answer func(*keeping)) {
	k.note.Lock()
	defer k.note.Unlock()
	k.answer = answer
}

// sent says when renewals were sent.
func (k *keeping) sent() []time.Duration {
	synctest.Wait()
	k.note.Lock()
	defer k.note.Unlock()
	return slices.Clone(k.renewals)
}

func (k *keeping) want(t *testing.T, renewals, lost []time.Duration) {
	t.Helper()
	synctest.Wait()
	k.note.Lock()
	defer k.note.Unlock()
	if !slices.Equal(k.renewals, renewals) {
		t.Errorf("renewals should be sent at %v, they were at %v", renewals, k.renewals)
	}
	if !slices.Equal(k.lost, lost) {
		t.Errorf("the loss should be told at %v, it was at %v", lost, k.lost)
	}
	if trusted := k.Trusted(); trusted != (len(lost) == 0) {
		t.Errorf("Trusted should be %v, it is %v", len(lost) == 0, trusted)
	}
}

func seconds(all ...float64) []time.Duration {
	var d []time.Duration
	for _, s := range all {
		d = append(d, time.Duration(s*float64(time.Second)))
	}
	return d
}

// A TTL of 10 s with a margin of 1 s is trusted for 9 s.
var ten = Terms{TTL: 10 * time.Second, Margin: time.Second}

func TestTrustEndsAtTTLLessMarginFromTheSending(t *testing.T) {
	sent := time.Now()
	for _, c := range []struct {
		terms     Terms
		ttl, want time.Duration
	}{
		{ten, 10 * time.Second, 9 * time.Second},
		{ten, 20 * time.Second, 19 * time.Second},                    // a longer grant needs no larger margin
		{ten, 3 * time.Second, 2700 * time.Millisecond},              // a shorter one has a margin in proportion,
		{ten, 10 * time.Millisecond, 5 * time.Millisecond},           // but 5 ms at least
		{ten, 2 * time.Millisecond, -3 * time.Millisecond},           // even if nothing is left then
		{Terms{TTL: time.Second, Margin: 1}, 500 * 1e6, 500*1e6 - 1}, // or what little was asked for
	} {
		if got := c.terms.Deadline(sent, c.ttl).Sub(sent); got != c.want {
			t.Errorf("%+v granted for %v should be trusted for %v, got %v", c.terms, c.ttl, c.want, got)
		}
	}
}

func TestALeaseWithoutAnAnswerEndsAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(ten, ten.TTL, nil)
		time.Sleep(9*time.Second - 1)
		k.want(t, seconds(3), nil) // one renewal is under way, and no second one with it
		time.Sleep(time.Nanosecond)
		k.want(t, seconds(3), seconds(9))
		time.Sleep(time.Hour)
		k.want(t, seconds(3), seconds(9))
	})
}

func TestRenewalsAreSentAtAThird(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(Terms{TTL: 9 * time.Second, Margin: 3 * time.Second}, 9*time.Second, renew)
		time.Sleep(12 * time.Second)
		k.want(t, seconds(2, 5, 8, 11), nil) // a third of what is trusted, then of TTL
		if got := k.Deadline().Sub(k.start); got != 17*time.Second {
			t.Errorf("the last renewal, at 11 s, should be trusted until 17 s, got %v", got)
		}
		k.End()
	})
}

// Renewals of one process travel together: each at a third at the latest, and by its
// slack earlier along with another.
func TestRenewalsWithSlackAreSentTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		terms := Terms{TTL: 9 * time.Second, Slack: 100 * time.Millisecond}
		alarms, sent := new(clock.Alarms), make(map[time.Duration]int)
		var mu sync.Mutex
		start := clock.Now()
		var all []*Keeper
		for range 300 {
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			var k *Keeper
			k = Keep(alarms, terms, clock.Now().Add(terms.TTL), func() {
				mu.Lock()
				defer mu.Unlock()
				sent[clock.Since(start)]++
				k.Renewed(clock.Now(), terms.TTL)
			}, func() { t.Error("no lease should be lost") })
			mu.Unlock()
			all = append(all, k)
		}
		time.Sleep(30*time.Second - clock.Since(start))
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		n := 0
		for at, several := range sent {
			n += several
			if several < 10 || several > 20 {
				t.Errorf("at %v %d renewals were sent together", at, several)
			}
		}
		if n < 300*9 || n > 300*10 {
			t.Errorf("each should be renewed every 3 s, there were %d renewals in all", n)
		}
		for _, k := range all {
			k.End()
		}
	})
}

func TestTheDeadlineIsNotTakenAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alarms := new(clock.Alarms)
		terms := Terms{TTL: 9 * time.Second, Slack: 100 * time.Millisecond}
		var lost time.Duration
		start := clock.Now()
		var mu sync.Mutex
		Keep(alarms, terms, start.Add(terms.TTL), func() {}, func() { // no renewal is answered
			mu.Lock()
			defer mu.Unlock()
			lost = clock.Since(start)
		})
		alarms.AfterFunc(terms.TTL-50*time.Millisecond, func() {})
		time.Sleep(10 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if lost != terms.TTL {
			t.Errorf("the loss should be told at %v, it was at %v", terms.TTL, lost)
		}
	})
}

func TestAShortGrantIsRenewedAtAThirdOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(ten, 3*time.Second, renew)
		time.Sleep(4 * time.Second)
		k.want(t, seconds(0.9), nil)
		if got := k.Deadline().Sub(k.start); got != 9900*time.Millisecond {
			t.Errorf("the renewal at 0.9 s should make it a full one, until 9.9 s, got %v", got)
		}
		k.End()
	})
}

func TestAFailedRenewalIsTriedAgainAndDoesNotMoveTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(ten, ten.TTL, (*keeping).Failed)
		time.Sleep(4 * time.Second)
		k.want(t, seconds(3, 3.5, 4), nil)
		k.from(renew)
		time.Sleep(time.Second)
		k.want(t, seconds(3, 3.5, 4, 4.5), nil)
		k.from((*keeping).Failed)
		time.Sleep(time.Minute)
		sent := k.sent()
		if len(sent) < 10 {
			t.Errorf("a renewal that fails should be tried again, it was at %v", sent)
		}
		k.want(t, sent, seconds(4.5+9))
	})
}

func TestASlowRenewalCountsFromItsSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(ten, ten.TTL, func(k *keeping) {
			sent := clock.Now()
			time.Sleep(5 * time.Second)
			k.Renewed(sent, ten.TTL)
		})
		time.Sleep(8*time.Second + time.Millisecond)
		if first := k.sent()[0]; first != 3*time.Second {
			t.Errorf("the first renewal should be sent at 3 s, it was at %v", first)
		}
		if got := k.Deadline().Sub(k.start); got != 12*time.Second {
			t.Errorf("a renewal sent at 3 s should be trusted until 12 s, got %v", got)
		}
		k.End()
		time.Sleep(10 * time.Second)
	})
}

func TestAnOlderAnswerDoesNotMoveTheDeadlineBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(ten, ten.TTL, nil)
		time.Sleep(2 * time.Second)
		k.Renewed(k.start.Add(time.Second), ten.TTL)
		k.Renewed(k.start.Add(-time.Second), ten.TTL)
		k.Renewed(k.start.Add(2*time.Second), time.Second)
		if got := k.Deadline().Sub(k.start); got != 10*time.Second {
			t.Errorf("the deadline should be that of the latest renewal, 10 s, got %v", got)
		}
		k.End()
	})
}

func TestWhatWasLostStaysLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(ten, ten.TTL, func(k *keeping) {
			sent := clock.Now()
			time.Sleep(6 * time.Second) // the answer comes at the deadline
			k.Renewed(sent, ten.TTL)
		})
		time.Sleep(20 * time.Second)
		k.want(t, seconds(3), seconds(9))
		if got := k.Deadline().Sub(k.start); got != 9*time.Second {
			t.Errorf("the deadline should stay, it moved to %v", got)
		}
	})
}

// A process that was paused learns of its deadline late, and answers may lie
// there already.
func TestARenewalReadAfterTheDeadlineDoesNotReviveALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(ten, ten.TTL, nil)
		time.Sleep(time.Second)
		k.mu.Lock()
		k.alarm.Stop() // it has not run yet
		k.mu.Unlock()
		time.Sleep(9 * time.Second)
		if k.Trusted() {
			t.Error("by the clock the lease should not be trusted")
		}
		k.Renewed(k.start.Add(3*time.Second), ten.TTL)
		k.want(t, nil, []time.Duration{10 * time.Second}) // not only when the timer would have run
	})
}

func TestALossIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(ten, ten.TTL, nil)
		time.Sleep(2 * time.Second)
		for range 3 {
			go k.Lose()
		}
		time.Sleep(time.Minute)
		k.want(t, nil, seconds(2))
		if k.End() {
			t.Error("End should say that the keeper had ended")
		}
	})
}

func TestAfterItsEndAKeeperIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(ten, ten.TTL, renew)
		time.Sleep(4 * time.Second)
		if !k.End() || k.End() {
			t.Error("the first End should say that the keeper was running, the second that it was not")
		}
		k.Again()
		k.Failed()
		k.Freeze()
		k.Lose()
		k.Renewed(clock.Now(), time.Hour)
		time.Sleep(time.Hour)
		if sent := k.sent(); len(k.lost) != 0 || len(sent) != 1 || k.Trusted() {
			t.Errorf("after End there should be neither renewals nor a loss, got %v, %v", sent, k.lost)
		}
	})
}

func TestAFrozenLeaseEndsAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(ten, ten.TTL, renew)
		time.Sleep(4 * time.Second) // renewed at 3 s, until 12 s
		k.Freeze()
		k.Again()
		time.Sleep(time.Minute)
		k.want(t, seconds(3), seconds(12))
	})
}

func TestAgainRenewsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(ten, ten.TTL, renew)
		time.Sleep(time.Second)
		k.Again()
		synctest.Wait()
		k.want(t, seconds(1), nil)
		k.from(nil)
		k.Again()
		k.Again() // one is under way
		synctest.Wait()
		k.want(t, seconds(1, 1), nil)
		k.End()
	})
}

// Renewals of a lease without renewal are looks: whether it was taken away.
func TestNoRenewLooksAndDoesNotExtend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		terms := ten
		terms.NoRenew = true
		k := keep(terms, ten.TTL, renew)
		time.Sleep(time.Minute)
		sent := k.sent()
		if len(sent) == 0 {
			t.Error("a lease without renewal should be looked after all the same")
		}
		k.want(t, sent, seconds(9))
	})
}

func TestAGrantThatIsOverIsLostAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keep(ten, time.Millisecond, nil)
		k.want(t, nil, seconds(0))
	})
}

// What is left of a short grant may be less than the usual pause.
func TestAFailedRenewalOfAShortGrantIsTriedAgainInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hour := Terms{TTL: time.Hour, Margin: time.Second}
		k := keep(hour, 3*time.Second, (*keeping).Failed)
		time.Sleep(2 * time.Second)
		if n := len(k.sent()); n < 2 || n > 4 {
			t.Errorf("of a grant for 3 s a failed renewal should be tried again before its end, and not all the time; it was at %v", k.sent())
		}
		k.from(renew)
		time.Sleep(time.Minute)
		k.want(t, k.sent(), nil)
		k.End()
	})
}
