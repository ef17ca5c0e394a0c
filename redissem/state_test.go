package redissem_test

import (
	"maps"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redissem"
)

func state(t testing.TB, s *redissem.Semaphore) redissem.State {
	t.Helper()
	got, err := s.State(soonCtx(t))
	if err != nil {
		t.Fatalf("State should not fail, got %v", err)
	}
	return got
}

// cut takes an id apart: the ticket, and the turn.
func cut(id string) (ticket, turn string, ok bool) { return strings.Cut(id, ".") }

func TestStateTellsWhoHoldsAndHowManyWait(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		sem := newSem(t, client, name, 2, unhurried)
		if got, want := state(t, sem), (redissem.State{Limit: 2, Declared: 2}); !reflect.DeepEqual(got, want) {
			t.Errorf("the state of a semaphore that nobody knows should be %+v, got %+v", want, got)
		}
		own := map[string]string{"job": "nightly \"report\"\n", "日本": "語"}
		first := take(t, newSem(t, s.Client(t), name, 2, &redissem.Options{TTL: 30 * time.Second, Metadata: own}))
		second := take(t, sem)
		got := state(t, sem)
		if got.Limit != 2 || got.Declared != 2 || got.Held != 2 || got.Waiters != 0 || len(got.Permits) != 2 {
			t.Fatalf("State should tell of two permits of two, got %+v", got)
		}
		if p := got.Permits[0]; p.ID != first.ID() || !maps.Equal(p.Metadata, own) || p.TTL <= 0 || p.TTL > 30*time.Second || p.Resting {
			t.Errorf("the first to end should be %s, with its metadata, got %+v", first.ID(), p)
		}
		host, _ := os.Hostname()
		if p := got.Permits[1]; p.ID != second.ID() || p.Metadata["host"] != host || p.Metadata["pid"] != strconv.Itoa(os.Getpid()) {
			t.Errorf("the second should be %s of this process, got %+v", second.ID(), p)
		}
		for i := range 3 {
			begin(t, newSem(t, s.Client(t), name, 2, unhurried))
			awaitLine(t, client, name, i+1)
			if got := state(t, sem); got.Waiters != i+1 || got.Held != 2 {
				t.Errorf("State should tell of two holders and of %d who wait, got %+v", i+1, got)
			}
		}
		release(t, first)
		release(t, second)
	})
}

func TestStateListsTheFirstThousandPermits(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		const n = 1010
		name := redistest.Name(t)
		client := s.Client(t)
		sem := newSem(t, client, name, 2000, &redissem.Options{TTL: time.Minute, NoRenew: true})
		for range n {
			if _, err := sem.TryAcquire(soonCtx(t)); err != nil {
				t.Fatal(err)
			}
		}
		if got := state(t, sem); got.Held != n || len(got.Permits) != 1000 {
			t.Errorf("State should count %d and list 1000, got %d and %d", n, got.Held, len(got.Permits))
		}
		if err := client.Del(soonCtx(t), key(name, ""), key(name, "holders")).Err(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAPermitThatEndsLeavesNoRecord(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		brief := newSem(t, client, "x", 10, &redissem.Options{TTL: time.Second, NoRenew: true})
		long := newSem(t, client, "x", 10, &redissem.Options{TTL: time.Hour, NoRenew: true})
		for range 3 {
			take(t, brief)
		}
		h := take(t, long) // keeps the keys
		time.Sleep(2 * time.Second)
		if got := state(t, long); got.Held != 1 || len(got.Permits) != 1 || got.Permits[0].ID != h.ID() {
			t.Errorf("only %s should be left, got %+v", h.ID(), got)
		}
		release(t, take(t, long)) // any turn purges
		records, err := m.HKeys(key("x", "holders"))
		ticket, _, _ := cut(h.ID())
		if err != nil || len(records) != 1 || records[0] != ticket {
			t.Errorf("permits that have ended should leave no record, there are %v, %v", records, err)
		}
		for range 2 {
			take(t, brief)
		}
		time.Sleep(2 * time.Second)
		release(t, h) // so does the last release
		wantNoKeys(t, client, "x")
	})
}

func TestDeleteRefusesWhilePermitsAreTakenAndMakesTheNameNew(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		sem := newSem(t, client, name, 2, unhurried)
		h := take(t, sem)
		wantErr(t, "Delete while a permit is taken", sem.Delete(soonCtx(t)), redissem.ErrNotAcquired)
		wantHeld(t, h)
		release(t, h)
		if err := sem.Delete(soonCtx(t)); err != nil {
			t.Fatalf("Delete of a semaphore without holders should succeed, got %v", err)
		}
		redistest.NoLeaks(t, s, name)
		if err := sem.Delete(soonCtx(t)); err != nil {
			t.Errorf("Delete of what is not there should succeed, got %v", err)
		}
		wantFree(t, newSem(t, client, name, 3, unhurried), 3)
	})
}

// Somebody who waits at a closed gate that is deleted waits at the new one.
func TestAWaitSurvivesTheDeletionOfItsSemaphore(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		gate := newSem(t, client, "gate", 0, unhurried)
		waiter := begin(t, newSem(t, redistest.BubbleClient(t, m), "gate", 0, unhurried))
		awaitLine(t, client, "gate", 1)
		if err := gate.Delete(t.Context()); err != nil {
			t.Fatalf("Delete of a semaphore without holders should succeed, got %v", err)
		}
		time.Sleep(time.Minute) // it looks again
		waiter.wantWaiting(t)
		if err := gate.Resize(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		release(t, waiter.granted(t))
	})
}
