package clock

import (
	"container/heap"
	"sync"
	"time"
)

// Alarms are any number of timers on one of the runtime's. To set one that is later
// than another, or to stop one, touches no timer of the runtime: that costs two
// system calls and wakes a thread where the process is about to sleep, and a lease
// sets a timer that in most cases is stopped before it fires. The zero value is ready
// for use; all methods are safe for concurrent use.
type Alarms struct {
	mu    sync.Mutex
	queue alarmQueue
	timer *time.Timer
	armed time.Time // when the timer fires; zero: it does not
}

// Alarm is one of them. Like a timer it counts no time in suspension.
type Alarm struct {
	all   *Alarms
	f     func()
	when  time.Time
	early time.Duration // how much earlier it may fire, along with another
	at    int           // in the queue, -1: not there
}

// New returns an alarm that is not set yet. When it fires, f runs on a goroutine of its own.
func (a *Alarms) New(f func()) *Alarm { return &Alarm{all: a, f: f, at: -1} }

// AfterFunc has f run on a goroutine of its own after d, as [time.AfterFunc] does.
func (a *Alarms) AfterFunc(d time.Duration, f func()) *Alarm {
	m := a.New(f)
	m.Reset(d, 0)
	return m
}

// Reset has the alarm fire after d, and not when it would have. It may fire up to early
// before that if another fires then: so thousands of them wake the process now and then,
// and not thousands of times.
func (m *Alarm) Reset(d, early time.Duration) {
	a := m.all
	a.mu.Lock()
	defer a.mu.Unlock()
	m.when, m.early = time.Now().Add(d), early
	if m.at < 0 {
		heap.Push(&a.queue, m)
	} else {
		heap.Fix(&a.queue, m.at)
	}
	a.arm()
}

// Stop has the alarm not fire. It may be firing just now.
func (m *Alarm) Stop() {
	m.all.mu.Lock()
	defer m.all.mu.Unlock()
	if m.at >= 0 {
		heap.Remove(&m.all.queue, m.at)
	}
}

// arm has the timer fire in time for the first alarm. It may fire earlier than that.
// Called with mu.
func (a *Alarms) arm() {
	if len(a.queue) == 0 {
		return
	}
	first := a.queue[0].when
	if !a.armed.IsZero() && !first.Before(a.armed) {
		return
	}
	a.armed = first
	d := max(time.Until(first), 0)
	if a.timer == nil {
		a.timer = time.AfterFunc(d, a.fire)
	} else {
		a.timer.Reset(d)
	}
}

func (a *Alarms) fire() {
	a.mu.Lock()
	var due []func()
	for now := time.Now(); len(a.queue) > 0 && !a.queue[0].when.Add(-a.queue[0].early).After(now); {
		due = append(due, heap.Pop(&a.queue).(*Alarm).f)
	}
	a.armed = time.Time{}
	a.arm()
	a.mu.Unlock()
	for i, f := range due {
		if i == len(due)-1 {
			f()
		} else {
			go f()
		}
	}
}

// Rest stops the timer if no alarm is set.
func (a *Alarms) Rest() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 && !a.armed.IsZero() {
		a.timer.Stop()
		a.armed = time.Time{}
	}
}

// alarmQueue is a heap, the next alarm first.
type alarmQueue []*Alarm

func (q alarmQueue) Len() int           { return len(q) }
func (q alarmQueue) Less(i, j int) bool { return q[i].when.Before(q[j].when) }
func (q alarmQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}

func (q *alarmQueue) Push(x any) {
	m := x.(*Alarm)
	m.at = len(*q)
	*q = append(*q, m)
}

func (q *alarmQueue) Pop() any {
	old := *q
	m := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	m.at = -1
	return m
}
