package redistest

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

// mutexLegal is what the model says of a history, without failing the test.
func mutexLegal(h *MutexHistory) bool {
	return porcupine.CheckOperations(MutexModel, h.history())
}

// take, try and give are calls without anything in between.
func (h *MutexHistory) take(client int, token uint64) { h.Acquire(client).Granted(token) }
func (h *MutexHistory) refuse(client int)             { h.Try(client).Refused() }
func (h *MutexHistory) give(client int, token uint64) { h.Release(client, token).Released() }
func (h *MutexHistory) use(client int, token uint64, ok bool) {
	h.Use(client, token, func() bool { return ok })
}

func TestTheOwnerMutexModelTellsGoodHistoriesFromBad(t *testing.T) {
	for _, c := range []struct {
		name  string
		legal bool
		run   func(h *MutexHistory)
	}{
		{"one after another", true, func(h *MutexHistory) {
			h.take(0, 5)
			h.use(0, 5, true)
			h.give(0, 5)
			h.take(1, 9)
			h.give(1, 9)
		}},
		{"double owner", false, func(h *MutexHistory) {
			h.take(0, 1)
			h.take(1, 2)
		}},
		{"double owner by TryAcquire", false, func(h *MutexHistory) {
			h.take(0, 1)
			h.Try(1).Granted(2)
		}},
		{"repeated token", false, func(h *MutexHistory) {
			h.take(0, 1)
			h.give(0, 1)
			h.take(1, 1)
		}},
		{"falling token", false, func(h *MutexHistory) {
			h.take(0, 7)
			h.give(0, 7)
			h.take(1, 6)
		}},
		{"falling token after a loss", false, func(h *MutexHistory) {
			h.take(0, 7)
			h.Hold(0, 7).Lost()
			h.take(1, 6)
		}},
		{"grants that overlap, in the order of their tokens", true, func(h *MutexHistory) {
			a, b := h.Acquire(0), h.Acquire(1)
			b.Granted(1)
			r := h.Release(1, 1)
			a.Granted(2)
			r.Released()
		}},
		{"granted before the release was called", false, func(h *MutexHistory) {
			b := h.Acquire(1)
			h.take(0, 1)
			b.Granted(2)
			h.give(0, 1)
		}},
		{"the next owner after a loss", true, func(h *MutexHistory) {
			h.take(0, 1)
			hold := h.Hold(0, 1)
			h.use(0, 1, true)
			b := h.Acquire(1)
			hold.Lost()
			b.Granted(2)
			h.use(0, 1, false)
			h.Release(0, 1).Lost()
			h.give(1, 2)
		}},
		{"the loss is seen late, nothing was done meanwhile", true, func(h *MutexHistory) {
			h.take(0, 1)
			hold := h.Hold(0, 1)
			h.take(1, 2)
			hold.Lost()
		}},
		{"trusted after another was granted, then lost", false, func(h *MutexHistory) {
			h.take(0, 1)
			hold := h.Hold(0, 1)
			h.take(1, 2)
			h.use(0, 1, true)
			hold.Lost()
		}},
		{"trusted after a loss", false, func(h *MutexHistory) {
			h.take(0, 1)
			h.Hold(0, 1).Lost()
			h.use(0, 1, true)
		}},
		{"granted although the owner was never lost", false, func(h *MutexHistory) {
			h.take(0, 1)
			h.Hold(0, 1).Kept()
			h.take(1, 2)
		}},
		{"killed owner", true, func(h *MutexHistory) {
			h.take(0, 1)
			h.Gone(0, 1)
			h.use(0, 1, true)
			h.take(1, 2)
		}},
		{"killed owner works on", false, func(h *MutexHistory) {
			h.take(0, 1)
			h.Gone(0, 1)
			h.take(1, 2)
			h.use(0, 1, true)
		}},
		{"released although another is the owner", false, func(h *MutexHistory) {
			h.take(0, 1)
			h.Hold(0, 1).Lost()
			h.take(1, 2)
			h.give(0, 1)
		}},
		{"released twice", false, func(h *MutexHistory) {
			h.take(0, 1)
			h.give(0, 1)
			h.give(0, 1)
		}},
		{"a release of unknown outcome that happened", true, func(h *MutexHistory) {
			h.take(0, 1)
			h.Release(0, 1).Unknown()
			h.take(1, 2)
		}},
		{"a release of unknown outcome that happened late", true, func(h *MutexHistory) {
			h.take(0, 1)
			h.Release(0, 1).Unknown()
			h.use(0, 1, true)
			h.refuse(1)
			h.take(1, 2)
		}},
		{"used after a release of unknown outcome and another grant", false, func(h *MutexHistory) {
			h.take(0, 1)
			h.Release(0, 1).Unknown()
			h.take(1, 2)
			h.use(0, 1, true)
		}},
		{"an acquire of unknown outcome is nobody's", true, func(h *MutexHistory) {
			h.Acquire(0).Unknown()
			h.Try(0).Unknown()
			h.refuse(1)
			h.take(1, 3)
		}},
		{"refused while held", true, func(h *MutexHistory) {
			h.take(0, 1)
			h.refuse(1)
			h.give(0, 1)
		}},
		{"refused for nothing", false, func(h *MutexHistory) {
			h.take(0, 1)
			h.give(0, 1)
			h.refuse(1)
		}},
		{"refused while a release was under way", true, func(h *MutexHistory) {
			h.take(0, 1)
			r := h.Release(0, 1)
			h.refuse(1)
			r.Released()
		}},
		{"refused while the server may not know of the loss", true, func(h *MutexHistory) {
			h.take(0, 1)
			h.Hold(0, 1).Lost()
			h.refuse(1)
		}},
		{"refused after what followed the loss was over", false, func(h *MutexHistory) {
			h.take(0, 1)
			h.Hold(0, 1).Lost()
			h.take(1, 2)
			h.give(1, 2)
			h.refuse(1)
		}},
		{"refused because of a line", true, func(h *MutexHistory) {
			h.take(0, 1)
			waiter := h.Acquire(2)
			h.give(0, 1)
			h.refuse(1)
			waiter.Granted(2)
		}},
		{"refused because a waiter had just given up", true, func(h *MutexHistory) {
			h.take(0, 1)
			h.Acquire(2).Refused()
			h.give(0, 1)
			h.refuse(1)
		}},
		{"refused because of a waiter who was withdrawn", false, func(h *MutexHistory) {
			h.take(0, 1)
			h.Acquire(2).Refused()
			h.give(0, 1)
			h.Settled()
			h.refuse(1)
		}},
		{"broken", true, func(h *MutexHistory) {
			h.take(0, 1)
			hold := h.Hold(0, 1)
			b := h.Break(1, 1)
			hold.Lost()
			b.Released()
			h.take(1, 2)
		}},
		{"Break returns before the holder has ended", false, func(h *MutexHistory) {
			h.take(0, 1)
			hold := h.Hold(0, 1)
			h.Break(1, 1).Released()
			h.use(0, 1, true)
			hold.Lost()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h MutexHistory
			c.run(&h)
			if legal := mutexLegal(&h); legal != c.legal {
				t.Errorf("legal is %v, should be %v", legal, c.legal)
			}
		})
	}
}
