package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
)

// muster starts workers of a scenario without a parent, all at once and each with a
// client of its own, as processes have; the function it gives waits for them. Of the
// last role it leaves out as many as absent. out gives each its output.
func muster(t *testing.T, m *miniredis.Miniredis, s Scenario, set Setting, absent int, out func(role string, i int) io.Writer) (ended func() []error) {
	t.Helper()
	var mu sync.Mutex
	var errs []error
	var crew sync.WaitGroup
	roles := s.Cast().Roles
	roles[len(roles)-1].Count -= absent
	for _, role := range roles {
		for i := range role.Count {
			own := set
			own.Client = redistest.BubbleClient(t, m)
			crew.Go(func() {
				err := Work(t.Context(), s, own, Post{Role: role.Name, Index: -1}, out(role.Name, i))
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			})
		}
	}
	return func() []error {
		crew.Wait()
		return errs
	}
}

func unheard(string, int) io.Writer { return io.Discard }

// The verdict is asked at once and waits until the last worker has ended; a second
// crew finds nothing of the first.
func TestACrewNeedsNoParent(t *testing.T) {
	for _, s := range []Scenario{
		&Print{Workers: 3},
		&Print{Workers: 3, Lock: true},
		&Print{Workers: 4, Join: true},
		&Tickets{Buyers: 5, Tickets: 3},
		&Tickets{Buyers: 5, Tickets: 3, NoLock: true},
		&Event{},
		&Traffic{Cars: 5},
		&Tickets{Buyers: 5, Tickets: 3, Queue: true},
		&KTV{Singers: 5, Room: 4},
		&Queue{},
		&Queue{BothWays: true},
		&Buns{Producers: 1, Consumers: 1},
		&Buns{Producers: 1, Consumers: 2, EndMarker: true},
		&Buns{Producers: 2, Consumers: 1, EndMarker: true, From: "parent"},
		&Buns{Producers: 3, Consumers: 4, Shutdown: true},
		&Pipe{Rounds: 3},
	} {
		t.Run(fmt.Sprintf("%T%+[1]v", s), func(t *testing.T) {
			redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
				set := Setting{Client: client, Namespace: "run", Speed: 1}
				for range 2 {
					ended := muster(t, m, s, set, 0, unheard)
					v, err := Conclude(t.Context(), s, set, 0)
					if err != nil || !v.Passed {
						t.Errorf("%v, %v", v.Showed(English), err)
					}
					if err := errors.Join(ended()...); err != nil {
						t.Error(err)
					}
					if left := left(m); len(left) > 0 {
						t.Errorf("keys are left: %q", left)
					}
				}
			})
		})
	}
}

// The cars of a crew come as those of a parent do: at the gaps of the seed.
func TestGapsAreThoseOfAParent(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		s := &Traffic{Cars: 8}
		set := Setting{Client: client, Namespace: "run", Seed: 7, Speed: 1}
		began := time.Now()
		gap, random := s.Cast().Roles[1].Gap, set.random("car", -1)
		want, got := make([]time.Duration, s.Cars), make([]time.Duration, s.Cars)
		for i := 1; i < s.Cars; i++ {
			want[i] = want[i-1] + gap(random)
		}
		ended := muster(t, m, noted{s, func(car int) {
			got[car] = time.Since(began).Round(time.Second)
		}}, set, 0, unheard)
		if err := errors.Join(ended()...); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("the cars came after %v, want %v", got, want)
		}
	})
}

// noted tells when a car begins.
type noted struct {
	*Traffic
	begins func(car int)
}

func (n noted) Work(ctx context.Context, w *Worker) error {
	if w.Role() == "car" {
		n.begins(w.Index)
	}
	return n.Traffic.Work(ctx, w)
}

func TestAWorkerThatFailsEndsItsCrewAndFailsTheVerdict(t *testing.T) {
	for _, s := range []Scenario{
		&Print{Workers: 3, Join: true}, // the others wait for their turn
		&Tickets{Buyers: 3, Tickets: 3},
		&Traffic{Cars: 2}, // the light would go on for ever
	} {
		t.Run(fmt.Sprintf("%T", s), func(t *testing.T) {
			redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
				set := Setting{Client: client, Namespace: "run", Speed: 1}
				roles := s.Cast().Roles
				last := roles[len(roles)-1].Name
				var broken sync.Once
				ended := muster(t, m, s, set, 0, func(role string, _ int) io.Writer {
					out := io.Discard
					if role == last {
						broken.Do(func() { out = late{brokenPipe{}} })
					}
					return out
				})
				_, err := Conclude(t.Context(), s, set, 0)
				if err == nil || !strings.HasPrefix(err.Error(), last+" ") || !strings.HasSuffix(err.Error(), " failed: "+io.ErrClosedPipe.Error()) {
					t.Errorf("the verdict says: %v", err)
				}
				failed := 0
				for _, err := range ended() {
					if errors.Is(err, io.ErrClosedPipe) {
						failed++
					} else if err != nil && !errors.Is(err, errOver) {
						t.Errorf("another worker: %v", err)
					}
				}
				if failed != 1 {
					t.Errorf("%d workers failed by themselves", failed)
				}
				// For those who have not heard of it yet.
				if !slices.ContainsFunc(m.Keys(), func(key string) bool { return strings.HasSuffix(key, "event:{over}") }) {
					t.Error("nothing says any more that the run is over")
				}
				concludesAnew(t, m, s, set)
				time.Sleep(25 * time.Hour) // a lock that is released after its deletion leaves its counter for a day
				if left := m.Keys(); len(left) > 0 {
					t.Errorf("keys are left: %q", left)
				}
			})
		})
	}
}

// late writes when nobody else has anything to do any more: who joins a crew after its
// end would begin the next.
type late struct{ io.Writer }

func (l late) Write(b []byte) (int, error) {
	time.Sleep(time.Millisecond) // in a bubble
	return l.Writer.Write(b)
}

// concludesAnew plays the run again.
func concludesAnew(t *testing.T, m *miniredis.Miniredis, s Scenario, set Setting) {
	t.Helper()
	ended := muster(t, m, s, set, 0, unheard)
	if v, err := Conclude(t.Context(), s, set, 0); err != nil || !v.Passed {
		t.Errorf("the next crew: %v, %v", v.Showed(English), err)
	}
	if err := errors.Join(ended()...); err != nil {
		t.Errorf("the next crew: %v", err)
	}
}

func TestTheVerdictNamesThoseWhoHaveNotEnded(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		set := Setting{Client: client, Namespace: "run", Speed: 1}
		ended := muster(t, m, &Print{Workers: 3, Join: true}, set, 2, unheard)
		_, err := Conclude(t.Context(), &Print{Workers: 3, Join: true}, set, time.Minute)
		if want := "not ended within 1m0s: worker 1, worker 2"; err == nil || err.Error() != want {
			t.Errorf("%v, want %v", err, want)
		}
		if err := errors.Join(ended()...); err != nil {
			t.Error(err)
		}

		ended = muster(t, m, &Tickets{Buyers: 3, Tickets: 3}, set, 1, unheard)
		_, err = Conclude(t.Context(), &Tickets{Buyers: 3, Tickets: 3}, set, 0)
		if want := "not ended within 1m15s: buyer 0, buyer 1, buyer 2"; err == nil || err.Error() != want {
			t.Errorf("%v, want %v", err, want)
		}
		for _, err := range ended() {
			if !errors.Is(err, errOver) {
				t.Errorf("a buyer that met nobody ended with %v, want %v", err, errOver)
			}
		}
		concludesAnew(t, m, &Tickets{Buyers: 3, Tickets: 3}, set)
	})
}

func TestAnInterruptedWorkerFailsTheVerdict(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		s := &Traffic{Cars: 1}
		set := Setting{Client: client, Namespace: "run", Speed: 1}
		ended := muster(t, m, s, set, 1, unheard) // the light alone
		ctx, interrupt := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { interrupt(ErrInterrupted) })
		own := set
		own.Client = redistest.BubbleClient(t, m)
		if err := Work(ctx, s, own, Post{Role: "car", Index: -1}, io.Discard); !errors.Is(err, ErrInterrupted) {
			t.Errorf("the car: %v, want %v", err, ErrInterrupted)
		}
		if _, err := Conclude(t.Context(), s, set, 0); err == nil || err.Error() != "car 0 failed: interrupted" {
			t.Errorf("the verdict says: %v", err)
		}
		if err := errors.Join(ended()...); !errors.Is(err, errOver) {
			t.Errorf("the light: %v, want %v", err, errOver)
		}
	})
}

func TestAWorkerTooManyFailsTheVerdict(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		set := Setting{Client: client, Namespace: "run", Speed: 1}
		ended := muster(t, m, &Tickets{Buyers: 3, Tickets: 3}, set, 0, unheard)
		extra := Work(t.Context(), &Tickets{Buyers: 3, Tickets: 3}, set, Post{Role: "buyer", Index: -1}, io.Discard)
		_, err := Conclude(t.Context(), &Tickets{Buyers: 3, Tickets: 3}, set, 0)
		want := "buyer 3 failed: the run has 3 of this role already: give the same number to all of its processes"
		if err == nil || err.Error() != want {
			t.Errorf("the verdict says %v, want %v; the one too many %v, the others %v", err, want, extra, ended())
		}
		ended()
	})
}
