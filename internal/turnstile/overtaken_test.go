package turnstile

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
)

// overtaken has process b hold lock x by a message that was faster than the
// answer to its join, which is still held back, and then lost: the join is sent
// again.
func overtaken(t *testing.T, k site, client *redis.Client, m *miniredis.Miniredis, then func(h *Hold, answer *redistest.Fault)) {
	t.Helper()
	w := redistest.NewWire(t)
	through := redistest.BubbleClient(t, m, w.ThroughBubble)
	// Another lock that b waits for keeps its inbox open.
	other := k.newProcess(t, client, "other", time.Minute)
	held := other.acquire()
	waits := k.newProcess(t, through, "other", time.Minute).wait(t.Context())

	a := k.newProcess(t, client, "x", 10*time.Second)
	x := a.acquire()
	b := k.newProcess(t, through, "x", 10*time.Second)
	answer := w.HoldReply(redistest.Has(k.key("x") + ":line"))
	result := make(chan outcome, 1)
	go func() {
		h, err := b.line.Acquire(t.Context(), b.terms)
		result <- outcome{h, err}
	}()
	answer.Await(t)
	release(t, x)
	then(got(t, result), answer)

	release(t, held)
	release(t, got(t, waits))
}

// The join that is sent again came after the release: it took the lock, and
// nobody knew.
func TestJoinSentAgainAfterItsGrantWasReleasedLeavesNoGhost(t *testing.T) {
	bubble(t, func(t *testing.T, k site, client *redis.Client, m *miniredis.Miniredis) {
		overtaken(t, k, client, m, func(h *Hold, answer *redistest.Fault) {
			go func() { _ = h.Release(t.Context()) }() // its answer is behind the one that is held
			time.Sleep(100 * time.Millisecond)
			answer.Drop()
			time.Sleep(time.Second)
			synctest.Wait()
			if m.Exists(k.key("x")) {
				t.Errorf("it was released, and is held all the same for %v", k.left(m, "x"))
			}
		})
	})
}

// The answer to the join that is sent again tells what is left of the offer; that
// once put the first renewal off beyond it.
func TestJoinSentAgainWhileItsGrantIsHeldKeepsItRenewed(t *testing.T) {
	bubble(t, func(t *testing.T, k site, client *redis.Client, m *miniredis.Miniredis) {
		overtaken(t, k, client, m, func(h *Hold, answer *redistest.Fault) {
			answer.Drop()
			time.Sleep(time.Minute)
			if err := h.Err(); err != nil {
				t.Errorf("after a minute the lease says %v, with a server that answers", err)
			}
			release(t, h)
		})
	})
}

// A check told of the grant first. The message of it, which came while the
// release was on its way, once had the lock released on another connection: the
// holder's own release, which came after that, said that it had been lost.
func TestAGrantMessageThatComesDuringTheReleaseDoesNotOvertakeIt(t *testing.T) {
	bubble(t, func(t *testing.T, k site, client *redis.Client, m *miniredis.Miniredis) {
		w := redistest.NewWire(t)
		a, b := k.newProcess(t, client, "x", 10*time.Second), k.newProcess(t, redistest.BubbleClient(t, m, w.ThroughBubble), "x", 10*time.Second)
		x := a.acquire()
		result := b.wait(t.Context())
		message := w.HoldMessage("grant")
		release(t, x)
		message.Await(t)
		b.line.mu.Lock()
		b.line.check(b.line.place)
		b.line.mu.Unlock()
		h := got(t, result)

		command := w.HoldCommand(redistest.Has(h.grant.ticket))
		released := make(chan error, 1)
		go func() { released <- h.Release(t.Context()) }()
		command.Await(t)
		message.Release()
		time.Sleep(500 * time.Millisecond) // a call that comes later overtakes one that is stuck
		command.Release()
		if err := <-released; err != nil {
			t.Errorf("Release should return nil, got %v", err)
		}
	})
}
