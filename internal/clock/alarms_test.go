package clock

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Against timers of the runtime: any sequence of setting, resetting and stopping
// has the same alarms fire at the same times.
func TestAlarmsFireWhenTimersWould(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			var all Alarms
			var mu sync.Mutex
			var got, want [][2]int
			start := time.Now()
			note := func(to *[][2]int, i int) func() {
				return func() {
					mu.Lock()
					defer mu.Unlock()
					*to = append(*to, [2]int{int(time.Since(start)), i})
				}
			}
			var alarms []*Alarm
			var timers []*time.Timer
			for range 200 {
				d := time.Duration(r.IntN(50)) * time.Millisecond
				switch i := r.IntN(len(alarms) + 1); {
				case i == len(alarms):
					alarms = append(alarms, all.AfterFunc(d, note(&got, i)))
					timers = append(timers, time.AfterFunc(d, note(&want, i)))
				case r.IntN(3) == 0:
					alarms[i].Stop()
					timers[i].Stop()
				case r.IntN(4) == 0:
					all.Rest() // must not silence those that are set
				default:
					alarms[i].Reset(d, 0)
					timers[i].Reset(d)
				}
				time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond)
				synctest.Wait()
			}
			time.Sleep(time.Second)
			synctest.Wait()
			sorted := func(a [][2]int) [][2]int {
				slices.SortFunc(a, func(x, y [2]int) int { return slices.Compare(x[:], y[:]) })
				return a
			}
			if !slices.Equal(sorted(got), sorted(want)) {
				t.Fatalf("seed %d: alarms fired at %v, timers at %v", seed, got, want)
			}
			if len(got) < 20 {
				t.Fatalf("seed %d: only %d alarms have fired", seed, len(got))
			}
		})
	}
}

func TestAlarmsMayBeSetAndStoppedByThoseThatFire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all Alarms
		var mu sync.Mutex
		fired := 0
		var again *Alarm
		mu.Lock()
		again = all.AfterFunc(time.Second, func() {
			mu.Lock()
			defer mu.Unlock()
			if fired++; fired < 5 {
				again.Reset(time.Second, 0)
			} else {
				again.Stop()
				all.Rest()
			}
		})
		mu.Unlock()
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if fired != 5 {
			t.Errorf("it should fire 5 times, it did %d", fired)
		}
	})
}

// One that may be early fires along with another, within what it may, and else when it
// is due. It takes nobody along who may not be early.
func TestAnAlarmMayFireEarlierAlongWithAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all Alarms
		var mu sync.Mutex
		start, got := time.Now(), map[string]time.Duration{}
		set := func(name string, d, early time.Duration) {
			all.New(func() {
				mu.Lock()
				defer mu.Unlock()
				got[name] = time.Since(start)
			}).Reset(d, early)
		}
		set("late", 110*time.Millisecond, 9*time.Millisecond)
		set("first", 100*time.Millisecond, 10*time.Millisecond)
		set("along", 105*time.Millisecond, 5*time.Millisecond)
		set("punctual", 120*time.Millisecond, 0)
		set("alone", 150*time.Millisecond, 20*time.Millisecond)
		time.Sleep(time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		want := map[string]time.Duration{
			"first": 100 * time.Millisecond, "along": 100 * time.Millisecond, "late": 110 * time.Millisecond,
			"punctual": 120 * time.Millisecond, "alone": 150 * time.Millisecond,
		}
		if !maps.Equal(got, want) {
			t.Errorf("they should fire at %v, they did at %v", want, got)
		}
	})
}

// What a lease does: an alarm that is stopped before it fires.
func BenchmarkAlarm(b *testing.B) {
	var all Alarms
	for b.Loop() {
		all.AfterFunc(time.Second, func() {}).Stop()
	}
}

func BenchmarkTimer(b *testing.B) {
	for b.Loop() {
		time.AfterFunc(time.Second, func() {}).Stop()
	}
}
