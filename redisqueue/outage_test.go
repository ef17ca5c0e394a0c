package redisqueue_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

func TestAFirstAttemptSaysThatRedisIsUnavailable(t *testing.T) {
	t.Parallel()
	for what, strike := range map[string]func(*redistest.Own, testing.TB){"gone": (*redistest.Own).Kill, "silent": (*redistest.Own).Pause} {
		t.Run(what, func(t *testing.T) {
			own := redistest.StartOwn(t)
			q := newQueue[int](t, own.Client(t, impatient), redistest.Name(t), nil)
			strike(own, t)
			var wg sync.WaitGroup
			for call, do := range calls() {
				wg.Go(func() {
					err := do(soonCtx(t), q)
					if !errors.Is(err, redisqueue.ErrUnavailable) {
						t.Errorf("%s should say ErrUnavailable, got %v", call, err)
					}
					if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
						t.Errorf("%s should fail before its ctx ends, got %v", call, err)
					}
					if what == "gone" && errors.Is(err, redisqueue.ErrUnknownOutcome) {
						t.Errorf("%s should know that nothing was done, got %v", call, err)
					}
				})
			}
			wg.Wait()
		})
	}
}

// inUse is a queue in all of its states.
type inUse struct {
	q, other  *redisqueue.Queue[int]
	getting   *call[int]
	receiving *call[*delivery]
	full      *redisqueue.Queue[int]
	putting   *call[struct{}]
	joining   *call[struct{}]
	held      *delivery
}

// use brings a queue that is empty, and one that is full, into all their states.
func use(t *testing.T, own *redistest.Own, ttl time.Duration) *inUse {
	t.Helper()
	name := redistest.Name(t)
	client, direct := own.Client(t), own.Client(t)
	var heard journal
	u := &inUse{
		q:     newQueue[int](t, client, name, &redisqueue.Options{TTL: ttl, Observe: heard.note}),
		other: newQueue[int](t, direct, name, &redisqueue.Options{TTL: ttl}),
		full:  newQueue[int](t, direct, name+"full", &redisqueue.Options{TTL: ttl, MaxSize: 1}),
	}
	full := newQueue[int](t, client, name+"full", &redisqueue.Options{TTL: ttl, MaxSize: 1, Observe: heard.note})
	put(t, full, 0)
	u.held = receive(t, full)
	put(t, full, 1)
	u.putting = beginPut(t, full, 2)
	awaitCounts(t, u.full, counts{waiting: 1, parked: 1, claimed: 1})
	u.getting, u.receiving, u.joining = begin(t, u.q.Get), beginReceive(t, u.q), beginErr(t, full.Join)
	heard.awaitKind(t, redisqueue.Waiting, 4)
	return u
}

func TestEverythingSurvivesARestartWithTheData(t *testing.T) {
	t.Parallel()
	own := redistest.StartOwn(t, redistest.Persist(t)...)
	u := use(t, own, 20*time.Second)
	own.Restart(t)
	wantHeld(t, u.held)
	redistest.Eventually(t, soon, func() error { return u.other.Put(soonCtx(t), 1) })
	put(t, u.other, 2)
	if v := u.getting.returns(t, "Get") + u.receiving.returns(t, "Receive").Value(); v != 3 {
		t.Errorf("both should get an item, got a sum of %d", v)
	}
	wantGot(t, u.full, 1)
	u.putting.returns(t, "Put")
	wantGot(t, u.full, 2)
	u.joining.wantWaiting(t, "Join while an item is held")
	ack(t, u.held)
	u.joining.returns(t, "Join")
	wantCounts(t, u.full, counts{})
}

// What Redis has lost is lost; who waits goes on, and who holds is told by the next
// heartbeat.
func TestWaitsSurviveAnEmptyRestart(t *testing.T) {
	t.Parallel()
	own := redistest.StartOwn(t)
	u := use(t, own, 2*time.Second)
	own.Restart(t)
	redistest.Eventually(t, soon, func() error { return u.other.Put(soonCtx(t), 1) })
	put(t, u.other, 2)
	if v := u.getting.returns(t, "Get") + u.receiving.returns(t, "Receive").Value(); v != 3 {
		t.Errorf("both should get an item, got a sum of %d", v)
	}
	wantLost(t, u.held)
	u.joining.returns(t, "Join")
	// Its item is lost with the server, or was put into the new queue.
	await(t, u.putting.over, "the end of Put")
	t.Logf("the Put that waited for room returned %v", u.putting.err)
	drain(t, u.full)
	put(t, u.full, 3)
	wantGot(t, u.full, 3)
	wantCounts(t, u.full, counts{})
}

// A server that stands still for a while loses nothing, and nobody.
func TestEverythingSurvivesAPauseOfTheServer(t *testing.T) {
	t.Parallel()
	own := redistest.StartOwn(t)
	u := use(t, own, 20*time.Second)
	own.Pause(t)
	waiting := beginErr(t, func(ctx ctxT) error { _, err := u.other.PutMany(ctx, []int{1, 2}); return err })
	pause(4*time.Second, nil)
	own.Resume(t)
	if err := func() error { await(t, waiting.over, "the end of PutMany"); return waiting.err }(); err != nil {
		t.Errorf("PutMany should return nil once the server goes on, got %v", err)
	}
	if v := u.getting.returns(t, "Get") + u.receiving.returns(t, "Receive").Value(); v != 3 {
		t.Errorf("both should get an item, got a sum of %d", v)
	}
	wantHeld(t, u.held)
	wantGot(t, u.full, 1)
	u.putting.returns(t, "Put")
	wantGot(t, u.full, 2)
	ack(t, u.held)
	u.joining.returns(t, "Join")
	wantCounts(t, u.full, counts{})
}

// The claims of a consumer that does not come back with the server end as ever.
func TestClaimsEndAlsoOverARestart(t *testing.T) {
	t.Parallel()
	own := redistest.StartOwn(t, redistest.Persist(t)...)
	name := redistest.Name(t)
	w := redistest.NewWire(t)
	opts := &redisqueue.Options{TTL: short}
	dies, q := newQueue[int](t, own.Client(t, w.Through), name, opts), newQueue[int](t, own.Client(t), name, opts)
	put(t, q, 1, 2, 3)
	lost := []*delivery{receive(t, dies), receive(t, dies)}
	w.Down()
	own.Restart(t)
	var got []int
	redistest.Eventually(t, soon, func() error {
		d, err := q.Receive(soonCtx(t))
		if err != nil {
			return err
		}
		got = append(got, d.Value())
		if err := d.Ack(soonCtx(t)); err != nil {
			return err
		}
		if len(got) < 3 {
			return errors.New("not yet all")
		}
		return nil
	})
	slices.Sort(got)
	if !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("all items should come, got %v", got)
	}
	for _, d := range lost {
		wantErr(t, "Err of the first consumer", d.Err(), redisqueue.ErrLost)
	}
	wantCounts(t, q, counts{})
}
