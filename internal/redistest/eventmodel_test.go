package redistest

import (
	"testing"

	"github.com/anishathalye/porcupine"
)

// set, clear, pulse and wait are calls without anything in between.
func (h *EventHistory) set()   { h.Set(0).Returned() }
func (h *EventHistory) clear() { h.Clear(0).Returned() }
func (h *EventHistory) pulse() { h.Pulse(0).Returned() }
func (h *EventHistory) isSet(set bool) {
	_, _ = h.IsSet(1, func() (bool, error) { return set, nil })
}

func TestTheEventModelTellsGoodHistoriesFromBad(t *testing.T) {
	for _, c := range []struct {
		name  string
		legal bool
		run   func(h *EventHistory)
	}{
		{"set and clear", true, func(h *EventHistory) {
			h.isSet(false)
			h.set()
			h.isSet(true)
			h.Wait(2).Returned()
			h.clear()
			h.isSet(false)
		}},
		{"IsSet says set before any Set", false, func(h *EventHistory) { h.isSet(true) }},
		{"IsSet says clear after Set", false, func(h *EventHistory) { h.set(); h.isSet(false) }},
		{"IsSet says set after Clear", false, func(h *EventHistory) { h.set(); h.clear(); h.isSet(true) }},
		{"IsSet says set after a Pulse", false, func(h *EventHistory) { h.pulse(); h.isSet(true) }},
		{"a Pulse clears", true, func(h *EventHistory) { h.set(); h.pulse(); h.isSet(false) }},
		{"Wait returns without any Set", false, func(h *EventHistory) { h.Wait(2).Returned() }},
		{"Wait returns before the Set is called", false, func(h *EventHistory) { h.Wait(2).Returned(); h.set() }},
		{"Wait returns after a Clear of before", false, func(h *EventHistory) {
			h.set()
			h.clear()
			h.Wait(2).Returned()
		}},
		{"a Set followed by a Clear releases", true, func(h *EventHistory) {
			a, b := h.Wait(2), h.Wait(3)
			h.set()
			h.clear()
			h.isSet(false)
			a.Returned()
			b.Returned()
		}},
		{"a Pulse releases all who wait", true, func(h *EventHistory) {
			a, b := h.Wait(2), h.Wait(3)
			h.pulse()
			h.isSet(false)
			h.clear()
			c := h.Wait(4)
			a.Returned()
			h.pulse()
			b.Returned()
			c.Returned()
		}},
		{"a Pulse of before releases nobody", false, func(h *EventHistory) {
			h.pulse()
			h.Wait(2).Returned()
		}},
		{"a Pulse of before releases nobody, though it released another", false, func(h *EventHistory) {
			a := h.Wait(2)
			h.pulse()
			b := h.Wait(3)
			a.Returned()
			b.Returned()
		}},
		{"a Pulse under way releases", true, func(h *EventHistory) {
			p := h.Pulse(0)
			a := h.Wait(2)
			a.Returned()
			p.Returned()
		}},
		{"a wait that was cancelled says nothing", true, func(h *EventHistory) {
			h.Wait(2).Refused()
			h.Wait(3).Unknown()
			h.isSet(false)
		}},
		{"a Set of unknown outcome that was made late", true, func(h *EventHistory) {
			h.Set(0).Unknown()
			h.isSet(false)
			h.isSet(true)
			h.Wait(2).Returned()
		}},
		{"a Set of unknown outcome that was not made", true, func(h *EventHistory) {
			h.Set(0).Unknown()
			h.isSet(false)
		}},
		{"a Set of unknown outcome that was made twice", false, func(h *EventHistory) {
			h.Set(0).Unknown()
			h.isSet(true)
			h.clear()
			h.isSet(true)
		}},
		{"a Set that was refused has no effect", false, func(h *EventHistory) {
			h.Set(0).Refused()
			h.isSet(true)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h EventHistory
			c.run(&h)
			if legal := porcupine.CheckOperations(EventModel, h.history()); legal != c.legal {
				t.Errorf("legal is %v, should be %v", legal, c.legal)
			}
		})
	}
}
