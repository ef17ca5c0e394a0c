package redistest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/anishathalye/porcupine"
)

// An EventHistory records what happens to one event and compares it with a
// flag whose waiters are released by generations: Wait may return if and only
// if the flag was set at some moment between its call and its return, or if a
// Pulse happened between the two. A Set followed at once by a Clear is such a moment too.
type EventHistory struct{ Recorder }

type eventOp string

const (
	eventSet   eventOp = "set"
	eventClear eventOp = "clear"
	eventPulse eventOp = "pulse"
	eventIsSet eventOp = "isset"
	eventBegin eventOp = "begin" // of a wait
	eventWait  eventOp = "wait"
)

// An EventCall is a call under way. One that does not return stays open: a change may
// still take effect, at any time.
type EventCall struct {
	p     *Pending
	begin *Pending // of a wait
}

// Set notes that client calls Set.
func (h *EventHistory) Set(client int) EventCall { return EventCall{p: h.Call(client, eventSet)} }

// Clear notes that client calls Clear.
func (h *EventHistory) Clear(client int) EventCall { return EventCall{p: h.Call(client, eventClear)} }

// Pulse notes that client calls Pulse.
func (h *EventHistory) Pulse(client int) EventCall { return EventCall{p: h.Call(client, eventPulse)} }

// Wait notes that client calls Wait.
func (h *EventHistory) Wait(client int) EventCall {
	// The moment of the call is an operation of its own without duration,
	// after which a Pulse of before does not count.
	begin := h.Call(client, eventBegin)
	begin.at()
	return EventCall{h.Call(client, eventWait), begin}
}

// IsSet notes that client calls IsSet, and what look returns. A look that
// fails says nothing.
func (h *EventHistory) IsSet(client int, look func() (bool, error)) (bool, error) {
	p := h.Call(client, eventIsSet)
	set, err := look()
	if err != nil {
		p.Forget()
	} else {
		p.Return(set)
	}
	return set, err
}

// Returned notes that the call returned nil.
func (c EventCall) Returned() { c.p.Return(true) }

// Unknown notes an error that leaves open whether the change was made.
func (c EventCall) Unknown() {}

// Refused notes that the call certainly did nothing: a Wait that ended by its
// ctx, a change that never left.
func (c EventCall) Refused() {
	c.p.Forget()
	if c.begin != nil {
		c.begin.Forget()
	}
}

// Judge fails the test when the history is not that of such a flag.
func (h *EventHistory) Judge(t testing.TB) {
	t.Helper()
	judge(t, EventModel, h.history())
}

// history returns the operations that say something: a Wait that has not
// returned would only make the search longer.
func (h *EventHistory) history() []porcupine.Operation {
	return slices.DeleteFunc(h.Operations(), func(op porcupine.Operation) bool {
		_, open := op.Output.(unknown)
		return open && op.Input == eventWait
	})
}

// eventState is what the model remembers: the flag, and whether a Pulse has
// just happened. Whoever waited then can be put right behind it, before
// anything else, so no more of the past is needed than that.
type eventState struct{ set, pulsed bool }

// EventModel is the sequential model behind EventHistory.
var EventModel = porcupine.Model{
	Init: func() any { return eventState{} },
	Step: func(state, input, output any) (bool, any) {
		s := state.(eventState)
		switch input.(eventOp) {
		case eventSet:
			return true, eventState{set: true}
		case eventClear:
			return true, eventState{}
		case eventPulse:
			return true, eventState{pulsed: true}
		case eventBegin:
			return true, eventState{set: s.set}
		case eventIsSet:
			return output == s.set, s
		case eventWait:
			return s.set || s.pulsed, s
		}
		return false, s
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%v -> %v", input, output) },
}
