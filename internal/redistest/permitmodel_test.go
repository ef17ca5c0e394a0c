package redistest

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

func (h *PermitHistory) take(client int, id string) { h.Acquire(client).Granted(id) }
func (h *PermitHistory) give(client int, id string) { h.Release(client, id).Done() }
func (h *PermitHistory) use(client int, id string, ok bool) {
	h.Use(client, id, func() bool { return ok })
}

func TestThePermitModelTellsGoodHistoriesFromBad(t *testing.T) {
	for _, c := range []struct {
		name  string
		legal bool
		run   func(h *PermitHistory)
	}{
		{"two at a time, one after another", true, func(h *PermitHistory) {
			h.take(0, "a-1.1")
			h.take(1, "a-11.1")
			h.use(0, "a-1.1", true)
			h.give(0, "a-1.1")
			h.use(1, "a-11.1", true)
			h.take(2, "b")
			h.give(1, "a-11.1")
			h.give(2, "b")
		}},
		{"three at a time", false, func(h *PermitHistory) {
			h.take(0, "a")
			h.take(1, "b")
			h.take(2, "c")
		}},
		{"three at a time, and all are trusted", false, func(h *PermitHistory) {
			h.take(0, "a")
			h.take(1, "b")
			holding := h.Hold(0, "a")
			h.take(2, "c")
			h.use(0, "a", true)
			holding.Lost()
		}},
		{"a third after a loss", true, func(h *PermitHistory) {
			h.take(0, "a")
			h.take(1, "b")
			holding := h.Hold(0, "a")
			h.use(0, "a", true)
			h.take(2, "c")
			h.use(0, "a", false)
			holding.Lost()
		}},
		{"a release of what is not held", false, func(h *PermitHistory) {
			h.take(0, "a")
			h.give(0, "a")
			h.give(0, "a")
		}},
		{"a release that says lost", true, func(h *PermitHistory) {
			h.take(0, "a")
			h.Release(0, "a").Lost()
			h.take(1, "b")
			h.take(2, "c")
		}},
		{"a release that is under way", true, func(h *PermitHistory) {
			h.take(0, "a")
			h.take(1, "b")
			h.Release(0, "a")
			h.take(2, "c")
		}},
		{"a raised limit", true, func(h *PermitHistory) {
			h.take(0, "a")
			h.take(1, "b")
			h.Resize(9, 3).Done()
			h.take(2, "c")
		}},
		{"a lowered limit takes from nobody, and gives to nobody", false, func(h *PermitHistory) {
			h.take(0, "a")
			h.take(1, "b")
			h.Resize(9, 1).Done()
			h.use(0, "a", true)
			h.give(1, "b")
			h.take(2, "c")
		}},
		{"a lowered limit of which nobody knows whether it came", true, func(h *PermitHistory) {
			h.take(0, "a")
			h.Resize(9, 1)
			h.take(1, "b")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := NewPermitHistory(2)
			c.run(h)
			if legal := porcupine.CheckOperations(h.model(), h.history()); legal != c.legal {
				t.Errorf("legal: %v, should be %v", legal, c.legal)
			}
		})
	}
}
