package clock

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestNowFollowsTheMonotonicClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := Now()
		time.Sleep(time.Hour)
		if d := Since(start); d != time.Hour {
			t.Fatalf("an hour took %v", d)
		}
		if d := Until(start.Add(2 * time.Hour)); d != time.Hour {
			t.Fatalf("an hour is left, got %v", d)
		}
		if d := time.Since(Wall(start)); d != time.Hour {
			t.Fatalf("on the wall clock an hour took %v", d)
		}
	})
}

func BenchmarkNow(b *testing.B) {
	for b.Loop() {
		Now()
	}
}
