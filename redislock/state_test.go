package redislock_test

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
	"github.com/multihost/multihost/redislock"
)

func state(t *testing.T, l *redislock.Lock) redislock.State {
	t.Helper()
	s, err := l.State(soonCtx(t))
	if err != nil {
		t.Fatalf("State should not fail, got %v", err)
	}
	return s
}

func TestStateTellsWhoHoldsAndHowManyWait(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		l := newLock(t, client, name, unhurried)
		if got := state(t, l); !reflect.DeepEqual(got, redislock.State{}) {
			t.Errorf("the state of a lock that nobody knows should be empty, got %+v", got)
		}
		own := map[string]string{"job": "nightly \"report\"\n", "日本": "語"}
		h := take(t, newLock(t, s.Client(t), name, &redislock.Options{TTL: time.Minute, Metadata: own}))
		got := state(t, l)
		if !got.Held || got.Foreign || got.Owner == "" || got.Token != h.Token() || got.Waiters != 0 {
			t.Errorf("State should tell of the holder with token %d and nobody waiting, got %+v", h.Token(), got)
		}
		if got.TTL <= 0 || got.TTL > time.Minute {
			t.Errorf("the TTL should be what is left of a minute, got %v", got.TTL)
		}
		if !maps.Equal(got.Metadata, own) {
			t.Errorf("the metadata should be the holder's, %q, got %q", own, got.Metadata)
		}
		for i := range 3 {
			begin(t, newLock(t, s.Client(t), name, unhurried))
			awaitLine(t, client, name, i+1)
			if got := state(t, l); got.Waiters != i+1 || got.Token != h.Token() {
				t.Errorf("State should tell of the holder and of %d who wait, got %+v", i+1, got)
			}
		}
		release(t, h)
	})
}

func TestStateAfterTheTurnIsEmpty(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		l := newLock(t, s.Client(t), redistest.Name(t), nil)
		release(t, take(t, l))
		if got := state(t, l); !reflect.DeepEqual(got, redislock.State{}) {
			t.Errorf("the state of a free lock should be empty, got %+v", got)
		}
	})
}

func TestByDefaultTheMetadataNamesTheProcess(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		l := newLock(t, s.Client(t), redistest.Name(t), nil)
		h := take(t, l)
		host, _ := os.Hostname()
		got := state(t, l).Metadata
		if got["host"] != host || got["pid"] != strconv.Itoa(os.Getpid()) || got["program"] == "" || len(got) != 3 {
			t.Errorf("the metadata should name host %q, pid %d and the program, got %q", host, os.Getpid(), got)
		}
		release(t, h)
	})
}

func TestMetadataMayBeEmptyOrAsLargeAsAllowed(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		client := s.Client(t)
		for _, own := range []map[string]string{{}, {"k": ""}, {"k": strings.Repeat("v", 4096-len(`{"k":""}`))}} {
			holder, waiter := newLock(t, client, name, &redislock.Options{TTL: time.Minute, Metadata: own}),
				newLock(t, s.Client(t), name, &redislock.Options{TTL: time.Minute, Metadata: own})
			h := take(t, holder)
			if got := state(t, holder).Metadata; !maps.Equal(got, own) {
				t.Errorf("the metadata should be %q, got %q", own, got)
			}
			next := begin(t, waiter)
			awaitLine(t, client, name, 1)
			release(t, h)
			h = next.granted(t)
			if got := state(t, holder).Metadata; !maps.Equal(got, own) {
				t.Errorf("after a hand-over the metadata should be %q, got %q", own, got)
			}
			release(t, h)
		}
	})
}

func TestDeleteRemovesWhatAFreeLockKeeps(t *testing.T) {
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		name := redistest.Name(t)
		l := newLock(t, s.Client(t), name, unhurried)
		if err := l.Delete(soonCtx(t)); err != nil {
			t.Errorf("Delete of a lock that nobody knows should return nil, got %v", err)
		}
		h := take(t, l)
		token := h.Token()
		wantErr(t, "Delete of a held lock", l.Delete(soonCtx(t)), redislock.ErrNotAcquired)
		wantHeld(t, h)
		wantTaken(t, l)
		release(t, h)
		if err := l.Delete(soonCtx(t)); err != nil {
			t.Fatalf("Delete of a free lock should return nil, got %v", err)
		}
		if left := s.Client(t).Exists(soonCtx(t), key(name, "fence")).Val(); left != 0 {
			t.Error("Delete should remove the fencing counter")
		}
		h = take(t, l)
		if h.Token() <= token {
			t.Errorf("tokens should grow even after Delete, it was %d and is %d", token, h.Token())
		}
		release(t, h)
	})
}

func TestDeleteDoesNotEndAWait(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		l := newLock(t, client, "x", unhurried)
		h := take(t, l)
		waiter := begin(t, newLock(t, redistest.BubbleClient(t, m), "x", unhurried))
		time.Sleep(time.Second)
		if err := client.Del(soonCtx(t), key("x", "")).Err(); err != nil {
			t.Fatal(err)
		}
		if err := l.Delete(soonCtx(t)); err != nil {
			t.Fatalf("Delete of a free lock should return nil, got %v", err)
		}
		start := time.Now()
		<-waiter.over // it stands in line again when it looks
		if took := time.Since(start); took > lookingAgain {
			t.Errorf("a wait should notice within %v that its place is gone, it took %v", lookingAgain, took)
		}
		release(t, waiter.granted(t))
		wantLost(t, h)
	})
}
