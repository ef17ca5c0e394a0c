package redisqueue_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// eachOutage runs in a bubble, with a queue over a wire and the same one directly.
func eachOutage[T any](t *testing.T, behave func(t *testing.T, w *redistest.Wire, mine, other *redisqueue.Queue[T])) {
	t.Helper()
	redistest.Bubble(t, func(t *testing.T, direct *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		load(t, direct)
		opts := &redisqueue.Options{TTL: 24 * time.Hour}
		behave(t, w, newQueue[T](t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", opts), newQueue[T](t, direct, "x", opts))
	})
}

func write[T any](t *testing.T, w *redisqueue.Writer[T], v T) {
	t.Helper()
	if err := w.Put(soonCtx(t), v); err != nil {
		t.Fatalf("Put into the buffer should return nil, got %v", err)
	}
}

// Put has taken the value when it returns: the caller may use its bytes again.
func TestABufferedValueIsACopy(t *testing.T) {
	eachOutage(t, func(t *testing.T, w *redistest.Wire, mine, other *redisqueue.Queue[[]byte]) {
		writer := buffered(t, mine, 10)
		first := w.HoldCommand(script(t, "put"))
		scratch := []byte("a")
		write(t, writer, scratch)
		first.Await(t)
		synctest.Wait()
		for _, c := range []byte("bcd") {
			scratch[0] = c
			write(t, writer, scratch)
		}
		first.Release()
		if err := writer.Close(soonCtx(t)); err != nil {
			t.Fatal(err)
		}
		for _, c := range "abcd" {
			if v := get(t, other); string(v) != string(c) {
				t.Errorf("%c should come, got %s", c, v)
			}
		}
	})
}

// A Writer tries on while Redis is away, for longer than a Put is remembered or
// not: it never puts its values twice.
func TestAWriterPutsOnceHoweverLongTheOutage(t *testing.T) {
	for _, outage := range []time.Duration{3 * time.Minute, 59 * time.Minute, 2 * time.Hour} {
		eachOutage(t, func(t *testing.T, w *redistest.Wire, mine, other *redisqueue.Queue[int]) {
			writer := buffered(t, mine, 10)
			lost := w.DropReply(script(t, "put"))
			write(t, writer, 1)
			lost.Await(t)
			w.Down()
			time.Sleep(outage)
			w.Up()
			time.Sleep(time.Minute)
			err := writer.Close(soonCtx(t))
			if outage < 50*time.Minute && err != nil {
				t.Errorf("after %v the Writer should have put its value, got %v", outage, err)
			}
			if outage > 50*time.Minute {
				wantErr(t, "a Writer that cannot know any more", err, redisqueue.ErrUnknownOutcome)
			}
			if got := drain(t, other); len(got) != 1 {
				t.Errorf("after %v the value should come once, got %v", outage, got)
			}
		})
	}
}

// A Writer may wait for Redis for as long as it likes; a Put says that it cannot
// be reached.
func TestAPutBesideAWriterTellsOfAnOutage(t *testing.T) {
	eachOutage(t, func(t *testing.T, w *redistest.Wire, mine, other *redisqueue.Queue[int]) {
		put(t, mine, 0)
		writer := buffered(t, mine, 10)
		w.Down()
		write(t, writer, 1)
		time.Sleep(time.Minute)
		putting := beginPut(t, mine, 2)
		time.Sleep(time.Minute)
		select {
		case <-putting.over:
			wantErr(t, "Put while Redis is away", putting.err, redisqueue.ErrUnavailable)
		default:
			t.Error("Put should have told that Redis is away")
		}
		w.Up()
		if err := writer.Close(soonCtx(t)); err != nil {
			t.Errorf("the Writer should put its value when Redis is back, got %v", err)
		}
		wantGot(t, other, 0, 1)
		wantEmpty(t, other)
	})
}

// Values of two Writers travel together. That one is discarded is nothing to the
// other.
func TestADiscardedWriterDoesNotEndAnother(t *testing.T) {
	eachOutage(t, func(t *testing.T, w *redistest.Wire, mine, other *redisqueue.Queue[int]) {
		put(t, mine, 0)
		held := w.HoldReply(script(t, "put"))
		putting := beginPut(t, mine, 1)
		held.AwaitReply(t)
		a, b := buffered(t, mine, 10), buffered(t, mine, 10)
		write(t, a, 2)
		synctest.Wait()
		write(t, b, 3)
		synctest.Wait()
		lost := w.DropCommand(script(t, "put"))
		held.Release()
		putting.returns(t, "Put")
		lost.Await(t)
		w.Down()
		time.Sleep(time.Minute)
		a.Discard()
		time.Sleep(time.Minute)
		w.Up()
		if err := b.Close(soonCtx(t)); err != nil {
			t.Errorf("the other Writer should put its value, got %v", err)
		}
		got := drain(t, other)
		if len(got) < 3 || got[len(got)-1] != 3 {
			t.Errorf("its value should come, got %v", got)
		}
	})
}
