package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
)

// memory is what a deleted queue keeps for an hour at most, so that a command which
// comes late does nothing.
var memory = regexp.MustCompile(`:queue:\{[^}]*\}:(asked|refused|[\w-]+:(producer|wake|taken))$`)

// left are the keys that a run has left, but for that memory.
func left(m *miniredis.Miniredis) []string {
	return slices.DeleteFunc(m.Keys(), func(key string) bool {
		ttl := m.TTL(key)
		return memory.MatchString(key) && ttl > 0 && ttl <= time.Hour
	})
}

// perform plays a scenario with goroutines for workers, all started at once.
func perform(ctx context.Context, s Scenario, set Setting, out io.Writer) (Verdict, error) {
	var mu sync.Mutex
	var errs []error
	var crew sync.WaitGroup
	for _, role := range s.Cast().Roles {
		for i := range role.Count {
			crew.Go(func() {
				err := Work(ctx, s, set, Post{Role: role.Name, Index: i, Parent: true}, out)
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			})
		}
	}
	crew.Wait()
	if err := errors.Join(errs...); err != nil {
		return Verdict{}, err
	}
	return Audit(ctx, s, set)
}

// The rows must not depend on luck: at the original's waits each seed gives the same verdict.
func TestEverySeedShowsWhatItMust(t *testing.T) {
	for _, s := range []Scenario{
		&Print{Workers: 3},
		&Print{Workers: 3, Lock: true},
		&Tickets{Buyers: 5, Tickets: 3},
		&Tickets{Buyers: 5, Tickets: 3, NoLock: true},
		&Event{},
		&Traffic{Cars: 3},
		&Tickets{Buyers: 5, Tickets: 3, Queue: true},
		&KTV{Singers: 5, Room: 4},
		&Queue{},
		&Queue{BothWays: true},
		&Buns{Producers: 1, Consumers: 1},
		&Buns{Producers: 1, Consumers: 1, EndMarker: true},
		&Buns{Producers: 2, Consumers: 3, EndMarker: true, From: "parent"},
		&Buns{Producers: 3, Consumers: 4, Shutdown: true},
		&Pipe{Rounds: 3},
	} {
		t.Run(fmt.Sprintf("%T%+[1]v", s), func(t *testing.T) {
			redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
				seeds := uint64(20)
				if _, long := s.(*Buns); long {
					seeds = 5 // a run takes as long as twenty of the others
				}
				for seed := range seeds {
					set := Setting{Client: client, Namespace: fmt.Sprint("seed", seed), Seed: seed, Speed: 1}
					v, err := perform(t.Context(), s, set, io.Discard)
					if err != nil || !v.Passed {
						t.Errorf("seed %d: %v, %v", seed, v.Showed(English), err)
					}
					if err := Clean(t.Context(), s, set); err != nil {
						t.Error(err)
					}
				}
				if left := left(m); len(left) > 0 {
					t.Errorf("keys are left: %q", left)
				}
			})
		})
	}
}

// What is left of a run where the workers died with their parent ends by itself, but for the limit of a
// semaphore, and of a queue the items and the mark of Shutdown: those stay.
func TestWhatARunKeepsEndsByItself(t *testing.T) {
	for _, s := range []Scenario{
		&Print{Workers: 2, Lock: true}, &Tickets{Buyers: 2, Tickets: 3}, &Event{}, &Traffic{Cars: 2},
		&Queue{}, &Buns{Producers: 1, Consumers: 2, EndMarker: true},
	} {
		t.Run(fmt.Sprintf("%T", s), func(t *testing.T) {
			redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
				set := Setting{Client: client, Namespace: "killed", Speed: 1}
				if v, err := perform(t.Context(), s, set, io.Discard); err != nil || !v.Passed {
					t.Fatalf("%v, %v", v.Showed(English), err)
				}
				if len(m.Keys()) == 0 {
					t.Fatal("the run has left nothing to look at")
				}
				time.Sleep(25 * time.Hour) // a lock's counter stays for a day
				if left := m.Keys(); len(left) > 0 {
					t.Errorf("keys are left: %q", left)
				}
			})
		})
	}
}

func TestSeedFixesTheWaits(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, _ *miniredis.Miniredis) {
		took := func(seed uint64, speed float64) time.Duration {
			set := Setting{Client: client, Namespace: "run", Seed: seed, Speed: speed}
			began := time.Now()
			if _, err := perform(t.Context(), &Tickets{Buyers: 4, Tickets: 3, NoLock: true}, set, io.Discard); err != nil {
				t.Fatal(err)
			}
			d := time.Since(began)
			if err := Clean(t.Context(), &Tickets{}, set); err != nil {
				t.Fatal(err)
			}
			return d
		}
		first := took(1, 1)
		if again := took(1, 1); again != first {
			t.Errorf("the same seed took %v and %v", first, again)
		}
		if other := took(2, 1); other == first {
			t.Errorf("seeds 1 and 2 both took %v", first)
		}
		if fast := took(1, 10); fast < first/10-time.Millisecond || fast > first/10+time.Millisecond {
			t.Errorf("%v at speed 1 became %v at speed 10", first, fast)
		}
	})
}

func TestWorkerThatCannotBeHeardEnds(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		set := Setting{Client: client, Namespace: "run", Speed: 1}
		post := Post{Role: "worker", Parent: true}
		if err := Work(t.Context(), &Print{Workers: 1}, set, post, brokenPipe{}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("without an output: %v, want %v", err, io.ErrClosedPipe)
		}
		m.SetError("READONLY")
		if err := Work(t.Context(), &Print{Join: true}, set, post, io.Discard); err == nil || !strings.Contains(err.Error(), "worker 0: journal of the run: READONLY") {
			t.Errorf("without a journal: %v", err)
		}
		m.SetError("")
	})
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestUnknownRoleNamesTheRoles(t *testing.T) {
	err := Work(t.Context(), &Traffic{Cars: 1}, Setting{}, Post{Role: "lorry"}, io.Discard)
	if want := `unknown role "lorry": there are light, car, and verdict`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestWorkersStartedByHandAreNumbered(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, _ *miniredis.Miniredis) {
		set := Setting{Client: client, Namespace: "run", Speed: 1}
		p := &Print{Join: true, Workers: 3}
		for range 3 {
			if err := Work(t.Context(), p, set, Post{Role: "worker", Index: -1}, io.Discard); err != nil {
				t.Fatal(err)
			}
		}
		v, err := Conclude(t.Context(), p, set, 0)
		if err != nil {
			t.Fatal(err)
		}
		check(t, "by hand", v, true, "one after another, in order [0 1 2]")
	})
}

// A client sends a command again when its reply was lost.
func TestFactThatWasSentTwiceCountsOnce(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, _ *miniredis.Miniredis) {
		j := Setting{Client: client, Namespace: "run"}.journal()
		first := Fact{Worker: "buyer 0", Seq: 0, What: "bought"}
		second := Fact{Worker: "buyer 0", Seq: 1, What: "bought"}
		other := Fact{Worker: "buyer 1", Seq: 0, What: "bought"}
		for _, f := range []Fact{first, other, first, second, other} {
			if err := j.add(t.Context(), f); err != nil {
				t.Fatal(err)
			}
		}
		facts, err := j.read(t.Context())
		if err != nil || len(facts) != 3 || facts[0].Worker != "buyer 0" || facts[1].Worker != "buyer 1" || facts[2].Seq != 1 {
			t.Errorf("%+v, %v", facts, err)
		}
	})
}

func TestNamesOfRuns(t *testing.T) {
	for _, name := range []string{"a", "demo-1f.2", "R_1", strings.Repeat("x", 64)} {
		if err := CheckNamespace(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "-a", "a b", "a{b}", "a:b", "ü", "a\n", strings.Repeat("x", 65)} {
		if CheckNamespace(name) == nil {
			t.Errorf("%q is taken for the name of a run", name)
		}
	}
}
