package redistest

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/anishathalye/porcupine"
)

// A QueueHistory records what happens to one queue whose items are taken for
// good, and compares it with a FIFO queue:
//
//   - an item that was put is taken at most once, and only what was put;
//   - items are taken in the order in which they were put, and those of one
//     producer are put in the order of their numbers;
//   - while MaxSize items wait nothing is put;
//   - TryGet is refused only while nothing waits, TryPut only while MaxSize items
//     wait or somebody may wait for room;
//   - after Shutdown nothing is put, and ErrShutdown comes from then on: at once
//     for who puts, when nothing waits any more for who takes.
//
// A Get that gave up may have had items in its hand for a while, which went back to the
// head: until things have settled as many items may be missing, or too many. Two processes
// may give back in either order: until the queue was empty as many items may be passed over.
type QueueHistory struct {
	Recorder
	MaxSize int // 0: no bound
	settled []int64
	emptied []int64
	drained bool
}

// A QueueItem is an item by who puts it. The numbers of a producer rise, from
// 1; both stay below 65,536.
type QueueItem struct{ Producer, Number int }

type queueOp string

const (
	queuePut      queueOp = "put"
	queueGet      queueOp = "get"
	queueShutdown queueOp = "shutdown"
)

type queueInput struct {
	op   queueOp
	item QueueItem // of a put

	maxSize int
	inHand  int  // items that may be in the hands of those who gave up
	astray  int  // items that may be before others that were put earlier
	excused bool // of a put: somebody may have waited for room
}

type queueOutcome string

const (
	queueDone    queueOutcome = "done"
	queueRefused queueOutcome = "refused" // ErrFull, ErrEmpty
	queueGaveUp  queueOutcome = "gave up"
	queueEnded   queueOutcome = "ErrShutdown"
)

type queueOutput struct {
	outcome queueOutcome
	item    QueueItem // of a get
}

// A QueuePutting is a call that puts one item under way.
type QueuePutting struct{ p *Pending }

// Put notes that client calls Put, or TryPut, with this item. Of PutMany each
// item is noted.
func (h *QueueHistory) Put(client int, item QueueItem) QueuePutting {
	return QueuePutting{h.Call(client, queueInput{op: queuePut, item: item})}
}

// Done notes that the item was put.
func (c QueuePutting) Done() { c.p.Return(queueOutput{outcome: queueDone}) }

// Full notes that TryPut said ErrFull.
func (c QueuePutting) Full() { c.p.Return(queueOutput{outcome: queueRefused}) }

// GaveUp notes that the call ended without the item having been put.
func (c QueuePutting) GaveUp() { c.p.Return(queueOutput{outcome: queueGaveUp}) }

// Ended notes that the call said ErrShutdown.
func (c QueuePutting) Ended() { c.p.Return(queueOutput{outcome: queueEnded}) }

// Unknown notes an error that leaves open whether the item was put.
func (c QueuePutting) Unknown() {}

// A QueueTaking is a call that takes one item under way.
type QueueTaking struct{ p *Pending }

// Get notes that client calls Get or TryGet. Of GetMany each item is noted that it
// might return.
func (h *QueueHistory) Get(client int) QueueTaking {
	return QueueTaking{h.Call(client, queueInput{op: queueGet})}
}

// Got notes that the call returned this item.
func (c QueueTaking) Got(item QueueItem) { c.p.Return(queueOutput{queueDone, item}) }

// Nothing notes that GetMany returned fewer items than it might have.
func (c QueueTaking) Nothing() { c.p.Forget() }

// Empty notes that TryGet said ErrEmpty.
func (c QueueTaking) Empty() { c.p.Return(queueOutput{outcome: queueRefused}) }

// GaveUp notes that the call ended without an item.
func (c QueueTaking) GaveUp() { c.p.Return(queueOutput{outcome: queueGaveUp}) }

// Ended notes that the call said ErrShutdown.
func (c QueueTaking) Ended() { c.p.Return(queueOutput{outcome: queueEnded}) }

// Unknown notes an error, or the death of the caller, that leaves open whether
// an item was taken.
func (c QueueTaking) Unknown() {}

// A QueueEnding is a call of Shutdown under way. One that does not return may
// still take effect.
type QueueEnding struct{ p *Pending }

// Shutdown notes that client calls Shutdown.
func (h *QueueHistory) Shutdown(client int) QueueEnding {
	return QueueEnding{h.Call(client, queueInput{op: queueShutdown})}
}

// Done notes that the queue is shut down.
func (c QueueEnding) Done() { c.p.Return(queueOutput{outcome: queueDone}) }

// Settled notes that nothing of those who gave up before is under way any
// more, as NoLeaks has shown.
func (h *QueueHistory) Settled() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settled = append(h.settled, h.tick())
}

// Emptied notes that nothing is in the queue, nor in anybody's hand.
func (h *QueueHistory) Emptied() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.emptied = append(h.emptied, h.tick())
}

// Judge fails the test when the history is not that of such a queue.
func (h *QueueHistory) Judge(t testing.TB) {
	t.Helper()
	judge(t, h.model(), h.history())
}

// model is QueueModel for this history, which is searched part by part.
func (h *QueueHistory) model() porcupine.Model {
	m := QueueModel
	m.Partition = h.parts
	return m
}

// parts cuts a history where the queue was empty and nothing was under way: the search
// for an order need not go beyond.
func (h *QueueHistory) parts(ops []porcupine.Operation) [][]porcupine.Operation {
	ops = slices.Clone(ops)
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	var parts [][]porcupine.Operation
	for _, at := range h.emptied {
		n := 0 // that began before
		whole := true
		for ; n < len(ops) && ops[n].Call <= at; n++ {
			whole = whole && ops[n].Return <= at && ops[n].Input.(queueInput).op != queueShutdown // what is shut stays so
		}
		if whole && n > 0 {
			parts = append(parts, ops[:n])
			ops = ops[n:]
		}
	}
	if len(ops) > 0 {
		parts = append(parts, ops)
	}
	return parts
}

// Drained notes that in the end the queue was empty and nothing was under way.
// So it is known by now what became of each item, which makes the search short.
func (h *QueueHistory) Drained() { h.drained = true }

// history returns the operations but for those who gave up, whose traces the
// others are excused for.
func (h *QueueHistory) history() []porcupine.Operation {
	var ops, gaveUp []porcupine.Operation
	for _, op := range h.Operations() {
		if out, ok := op.Output.(queueOutput); ok && out.outcome == queueGaveUp {
			gaveUp = append(gaveUp, op)
		} else {
			ops = append(ops, op)
		}
	}
	if h.drained {
		var undone []porcupine.Operation
		ops, undone = h.resolve(ops)
		gaveUp = append(gaveUp, undone...)
	}
	for i, op := range ops {
		in := op.Input.(queueInput)
		in.maxSize = h.MaxSize
		for _, other := range gaveUp {
			if other.Call > op.Return {
				continue
			}
			taking := other.Input.(queueInput).op == queueGet
			if taking && h.after(h.emptied, other) > op.Call {
				in.astray++
			}
			if h.after(h.settled, other) > op.Call {
				if taking {
					in.inHand++
				} else {
					in.excused = true
				}
			}
		}
		ops[i].Input = in
	}
	for _, at := range h.emptied { // like a TryGet that says so, and that nothing excuses
		ops = append(ops, porcupine.Operation{
			ClientId: 1 << 20, Call: at, Return: at,
			Input: queueInput{op: queueGet, maxSize: h.MaxSize}, Output: queueOutput{outcome: queueRefused},
		})
	}
	return ops
}

// resolve settles what is open, now that all is over. A put of unknown outcome was
// made if its item was taken, and else left traces at most, as did a get. What
// is missing was taken by gets of unknown outcome, by as many as there are, and before
// the queue was found empty.
func (h *QueueHistory) resolve(all []porcupine.Operation) (ops, undone []porcupine.Operation) {
	taken := map[QueueItem]int64{} // until when
	for _, op := range all {
		if out, ok := op.Output.(queueOutput); ok && op.Input.(queueInput).op == queueGet && out.outcome == queueDone {
			taken[out.item] = op.Return
		}
	}
	var missing []porcupine.Operation // the puts
	var lost []int64                  // since when
	for _, op := range all {
		in := op.Input.(queueInput)
		out, known := op.Output.(queueOutput)
		until, was := taken[in.item]
		switch {
		case in.op == queuePut && !known && was:
			op.Output, op.Return = queueOutput{outcome: queueDone}, until
		case in.op == queueGet && !known:
			lost = append(lost, op.Call)
			undone = append(undone, op)
			continue
		case in.op == queuePut && !known:
			undone = append(undone, op)
			continue
		case in.op == queuePut && out.outcome == queueDone && !was:
			missing = append(missing, op)
		}
		ops = append(ops, op)
	}
	slices.Sort(lost)
	slices.SortFunc(missing, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	for _, put := range missing {
		until := h.after(h.emptied, put)
		if len(lost) == 0 || lost[0] >= until {
			continue
		}
		ops = append(ops, porcupine.Operation{
			ClientId: 1 << 20, Call: max(lost[0], put.Call), Return: until - 1,
			Input: queueInput{op: queueGet}, Output: queueOutput{queueDone, put.Input.(queueInput).item},
		})
		lost = lost[1:]
	}
	return ops, undone
}

// after returns the first of these moments after an operation was called.
func (h *QueueHistory) after(moments []int64, op porcupine.Operation) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, at := range moments {
		if at > op.Call {
			return at
		}
	}
	return openEnd
}

// queueState is what the model remembers, in a form that can be compared: the
// waiting items, four bytes each, and the last number of each producer, two bytes.
type queueState struct {
	waiting, last string
	shut          bool
}

// QueueModel is the sequential model behind QueueHistory.
var QueueModel = porcupine.Model{
	Init: func() any { return queueState{} },
	Step: func(state, input, output any) (bool, any) {
		s, in := state.(queueState), input.(queueInput)
		out, known := output.(queueOutput)
		switch in.op {
		case queuePut:
			return s.put(in, out.outcome, known)
		case queueGet:
			return s.get(in, out, known)
		case queueShutdown:
			s.shut = true
			return true, s
		}
		return false, s
	},
	DescribeOperation: func(input, output any) string {
		in := input.(queueInput)
		return fmt.Sprintf("%s %v -> %v", in.op, in.item, output)
	},
}

const itemSize = 4

func (i QueueItem) encode() string {
	var b [itemSize]byte
	binary.BigEndian.PutUint16(b[:], uint16(i.Producer))
	binary.BigEndian.PutUint16(b[2:], uint16(i.Number))
	return string(b[:])
}

func (s queueState) size() int { return len(s.waiting) / itemSize }

// put says whether a put is legal now and what it leaves behind. One of unknown
// outcome that could not have been made had no effect: it is open to the end of
// the history, so wherever it did have one, the checker finds that too.
func (s queueState) put(in queueInput, outcome queueOutcome, known bool) (bool, queueState) {
	full := in.maxSize > 0 && s.size() >= in.maxSize
	switch outcome {
	case queueRefused:
		return full || in.maxSize > 0 && in.excused, s
	case queueEnded:
		return s.shut, s
	}
	room := in.maxSize == 0 || s.size()-in.inHand < in.maxSize
	if s.shut || !room || in.item.Number <= s.lastOf(in.item.Producer) {
		return !known, s
	}
	s.waiting += in.item.encode()
	return true, s.withLast(in.item)
}

// get is put for takings.
func (s queueState) get(in queueInput, out queueOutput, known bool) (bool, queueState) {
	if !known { // it took the first one, if there was one
		s.waiting = s.waiting[min(itemSize, len(s.waiting)):]
		return true, s
	}
	switch out.outcome {
	case queueRefused:
		return s.size() <= in.inHand, s
	case queueEnded:
		return s.shut && s.size() <= in.inHand, s
	}
	want := out.item.encode()
	for i := range min(s.size(), in.astray+1) {
		if s.waiting[i*itemSize:(i+1)*itemSize] == want {
			s.waiting = s.waiting[:i*itemSize] + s.waiting[(i+1)*itemSize:]
			return true, s
		}
	}
	return false, s
}

func (s queueState) lastOf(producer int) int {
	if 2*producer+2 > len(s.last) {
		return 0
	}
	return int(binary.BigEndian.Uint16([]byte(s.last[2*producer:])))
}

func (s queueState) withLast(i QueueItem) queueState {
	b := make([]byte, max(len(s.last), 2*i.Producer+2))
	copy(b, s.last)
	binary.BigEndian.PutUint16(b[2*i.Producer:], uint16(i.Number))
	s.last = string(b)
	return s
}
