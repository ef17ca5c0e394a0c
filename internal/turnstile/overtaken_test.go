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
func overtaken(t *testing.T, client *redis.Client, m *miniredis.Miniredis, then func(h *Hold, answer *redistest.Fault)) {
	t.Helper()
	w := redistest.NewWire(t)
	through := redistest.BubbleClient(t, m, w.ThroughBubble)
	// Another lock that b waits for keeps its inbox open.
	other := newProcess(t, client, "other", time.Minute)
	held := other.acquire()
	waits := newProcess(t, through, "other", time.Minute).wait(t.Context())

	a := newProcess(t, client, "x", 10*time.Second)
	x := a.acquire()
	b := newProcess(t, through, "x", 10*time.Second)
	answer := w.HoldReply(redistest.Has("mh1:lock:{x}:line"))
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
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		overtaken(t, client, m, func(h *Hold, answer *redistest.Fault) {
			go func() { _ = h.Release(t.Context()) }() // its answer is behind the one that is held
			time.Sleep(100 * time.Millisecond)
			answer.Drop()
			time.Sleep(time.Second)
			synctest.Wait()
			if m.Exists("mh1:lock:{x}") {
				owner, _ := m.Get("mh1:lock:{x}")
				t.Errorf("the lock was released, and is held by %s", owner)
			}
		})
	})
}

// The answer to the join that is sent again tells what is left of the offer; that
// once put the first renewal off beyond it.
func TestJoinSentAgainWhileItsGrantIsHeldKeepsItRenewed(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		overtaken(t, client, m, func(h *Hold, answer *redistest.Fault) {
			answer.Drop()
			time.Sleep(time.Minute)
			if err := h.Err(); err != nil {
				t.Errorf("after a minute the lease says %v, with a server that answers", err)
			}
			release(t, h)
		})
	})
}
