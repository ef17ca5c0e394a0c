package redistest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/anishathalye/porcupine"
)

// A DeliveryHistory records what happens to the items of one queue that are
// received and acknowledged, and compares each of them with an item that is
// delivered at least once:
//
//   - only what was put is delivered, and everything that was put is finished
//     in the end (Drained): acknowledged, or a dead letter after MaxDeliveries;
//   - its attempts count 1, 2, 3;
//   - a delivery that was seen to be trusted (Use) is the only one of its item;
//   - it comes again only when the delivery before was given back, or its trust
//     had ended (Hold, Gone); it does not come again after an Ack that returned nil.
//
// An item that was in the hands of a process that was killed, and of which
// nobody heard, may have counted as delivered: for each Receive that never
// returned one attempt may be missing.
type DeliveryHistory struct {
	Recorder
	MaxDeliveries int // 0: no end

	deliveries atomic.Int64
}

type deliveryOp string

const (
	deliveryPut     deliveryOp = "put"
	deliveryReceive deliveryOp = "receive"
	deliveryUse     deliveryOp = "use"
	deliveryLose    deliveryOp = "lose"
	deliveryAck     deliveryOp = "ack"
	deliveryNack    deliveryOp = "nack"
	deliveryDrained deliveryOp = "drained"
)

// A Delivered names one delivery in a history.
type Delivered struct {
	item   QueueItem
	number int64
}

type deliveryInput struct {
	op   deliveryOp
	of   Delivered // its item alone, of a put; of a receive see the output
	most int       // MaxDeliveries

	unseen int // deliveries of which nobody may have heard
}

type deliveryOutput struct {
	ok      bool
	what    Delivered // of a receive
	attempt int
}

// A DeliveryCall is a call under way. One that does not return stays open: what it was
// to do may still happen, at any time.
type DeliveryCall struct{ p *Pending }

// Done notes that the call returned nil.
func (c DeliveryCall) Done() { c.p.Return(deliveryOutput{ok: true}) }

// Lost notes that Ack or Nack said ErrLost.
func (c DeliveryCall) Lost() { c.p.Return(deliveryOutput{}) }

// Refused notes that a put certainly did nothing.
func (c DeliveryCall) Refused() { c.p.Forget() }

// Unknown notes an error that leaves open what was done.
func (c DeliveryCall) Unknown() {}

// Put notes that client puts this item.
func (h *DeliveryHistory) Put(client int, item QueueItem) DeliveryCall {
	return DeliveryCall{h.Call(client, deliveryInput{op: deliveryPut, of: Delivered{item: item}})}
}

// A DeliveryReceiving is a call of Receive under way.
type DeliveryReceiving struct {
	h *DeliveryHistory
	p *Pending
}

// Receive notes that client calls Receive.
func (h *DeliveryHistory) Receive(client int) DeliveryReceiving {
	return DeliveryReceiving{h, h.Call(client, deliveryInput{op: deliveryReceive})}
}

// Got notes that the call returned this item at its attempt-th delivery.
func (c DeliveryReceiving) Got(item QueueItem, attempt int) Delivered {
	d := Delivered{item, c.h.deliveries.Add(1)}
	c.p.Return(deliveryOutput{ok: true, what: d, attempt: attempt})
	return d
}

// Nothing notes that the call ended without an item.
func (c DeliveryReceiving) Nothing() { c.p.Forget() }

// Use asks whether the delivery is trusted, with still, and notes the answer.
func (h *DeliveryHistory) Use(client int, d Delivered, still func() bool) bool {
	look := h.Look(client, d)
	ok := still()
	look.Saw(ok)
	return ok
}

// A DeliveryLook is a look whether the delivery is trusted, under way.
type DeliveryLook struct{ p *Pending }

// Look notes that client begins to look whether the delivery is trusted.
func (h *DeliveryHistory) Look(client int, d Delivered) DeliveryLook {
	return DeliveryLook{h.Call(client, deliveryInput{op: deliveryUse, of: d})}
}

// Saw notes what the look showed. A look that shows nothing is none.
func (l DeliveryLook) Saw(ok bool) { l.p.Return(deliveryOutput{ok: ok}) }

// A DeliveryHolding is the time for which an item is held.
type DeliveryHolding struct{ p *Pending }

// Lost notes that the delivery's Done was seen closed by a loss, at the latest now.
func (o DeliveryHolding) Lost() { o.p.Return(deliveryOutput{}) }

// Kept notes that the delivery was not lost: it was acknowledged or given back.
func (o DeliveryHolding) Kept() { o.p.Forget() }

// Hold notes that from now on client may lose the delivery.
func (h *DeliveryHistory) Hold(client int, d Delivered) DeliveryHolding {
	return DeliveryHolding{h.Call(client, deliveryInput{op: deliveryLose, of: d})}
}

// Gone notes that the holder of the delivery has been killed, or does not know
// what became of it: its trust ends now or later, unseen.
func (h *DeliveryHistory) Gone(client int, d Delivered) {
	h.Call(client, deliveryInput{op: deliveryLose, of: d})
}

// Ack notes that client calls Ack.
func (h *DeliveryHistory) Ack(client int, d Delivered) DeliveryCall {
	return DeliveryCall{h.Call(client, deliveryInput{op: deliveryAck, of: d})}
}

// Nack notes that client calls Nack.
func (h *DeliveryHistory) Nack(client int, d Delivered) DeliveryCall {
	return DeliveryCall{h.Call(client, deliveryInput{op: deliveryNack, of: d})}
}

// Drained notes that every item should be finished by now.
func (h *DeliveryHistory) Drained() {
	items := map[QueueItem]bool{}
	for _, op := range h.Operations() {
		if in := op.Input.(deliveryInput); in.op == deliveryPut {
			items[in.of.item] = true
		}
	}
	for item := range items {
		h.Call(0, deliveryInput{op: deliveryDrained, of: Delivered{item: item}}).Return(deliveryOutput{ok: true})
	}
}

// Judge fails the test when the history of some item is not legal, and shows
// that of a few.
func (h *DeliveryHistory) Judge(t testing.TB) {
	t.Helper()
	bad := 0
	for item, ops := range h.byItem() {
		switch porcupine.CheckOperationsTimeout(DeliveryModel, ops, judgeWithin) {
		case porcupine.Ok:
			continue
		case porcupine.Unknown:
			t.Errorf("no verdict on %v within %v", item, judgeWithin)
		}
		const shown = 5
		if bad++; bad <= shown {
			t.Errorf("no order of what happened to %v is legal:\n%s", item, describe(ops))
		}
	}
	if bad > 0 {
		t.Errorf("the history of %d items is not legal", bad)
	}
}

func describe(ops []porcupine.Operation) string {
	var b strings.Builder
	for _, op := range ops {
		fmt.Fprintf(&b, "  %d..%d client %d: %s\n", op.Call, op.Return, op.ClientId, DeliveryModel.DescribeOperation(op.Input, op.Output))
	}
	return b.String()
}

// byItem returns the operations of each item. Items do not touch each other, so
// each is judged alone, and a history of thousands costs little.
func (h *DeliveryHistory) byItem() map[QueueItem][]porcupine.Operation {
	var opened []int64 // when each Receive was called that never returned
	all := h.Operations()
	for _, op := range all {
		if _, known := op.Output.(deliveryOutput); !known && op.Input.(deliveryInput).op == deliveryReceive {
			opened = append(opened, op.Call)
		}
	}
	slices.Sort(opened)
	items := map[QueueItem][]porcupine.Operation{}
	for _, op := range all {
		in := op.Input.(deliveryInput)
		out, known := op.Output.(deliveryOutput)
		if in.op == deliveryReceive {
			if !known {
				continue
			}
			in.of = out.what
		}
		in.most = h.MaxDeliveries
		in.unseen, _ = slices.BinarySearch(opened, op.Return)
		op.Input = in
		items[in.of.item] = append(items[in.of.item], op)
	}
	for _, ops := range items {
		slices.SortFunc(ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	}
	return items
}

type deliveryPhase int

const (
	absent deliveryPhase = iota
	waiting
	claimed
	finished
)

// deliveryState is what the model remembers of an item.
type deliveryState struct {
	phase    deliveryPhase
	by       int64 // whose it is, while it is claimed
	attempts int   // deliveries so far
}

// DeliveryModel is the sequential model of one item behind DeliveryHistory.
var DeliveryModel = porcupine.Model{
	Init: func() any { return deliveryState{} },
	Step: func(state, input, output any) (bool, any) {
		out, known := output.(deliveryOutput)
		return state.(deliveryState).step(input.(deliveryInput), out, known)
	},
	DescribeOperation: func(input, output any) string {
		in := input.(deliveryInput)
		return fmt.Sprintf("%s of delivery %d -> %+v", in.op, in.of.number, output)
	},
}

// step says whether an operation is legal now and what it leaves behind. One
// of unknown outcome is open to the end of the history, so the checker may put
// it where it has no effect any more.
func (s deliveryState) step(in deliveryInput, out deliveryOutput, known bool) (bool, deliveryState) {
	mine := s.phase == claimed && s.by == in.of.number
	switch in.op {
	case deliveryPut:
		if s.phase != absent {
			return !known, s
		}
		return true, deliveryState{phase: waiting}
	case deliveryReceive:
		next := s.attempts + 1
		legal := s.phase == waiting && out.attempt >= next && out.attempt <= next+in.unseen
		return legal, deliveryState{claimed, in.of.number, out.attempt}
	case deliveryUse:
		switch {
		case !known:
			return true, s
		case out.ok:
			return mine, s
		}
		return true, s.back(in)
	case deliveryLose:
		return true, s.back(in)
	case deliveryAck:
		switch {
		case known && out.ok:
			return mine, deliveryState{phase: finished, attempts: s.attempts}
		case !known && mine:
			return true, deliveryState{phase: finished, attempts: s.attempts}
		}
		return true, s.back(in)
	case deliveryNack:
		if known && out.ok {
			return mine, s.back(in)
		}
		return true, s.back(in)
	case deliveryDrained:
		dead := s.phase == waiting && in.most > 0 && s.attempts+in.unseen >= in.most
		return s.phase == absent || s.phase == finished || dead, s
	}
	return false, s
}

// back is the state after a delivery is over without an Ack.
func (s deliveryState) back(in deliveryInput) deliveryState {
	switch {
	case s.phase != claimed || s.by != in.of.number:
		return s
	case in.most > 0 && s.attempts >= in.most:
		return deliveryState{phase: finished, attempts: s.attempts} // a dead letter
	default:
		return deliveryState{phase: waiting, attempts: s.attempts}
	}
}
