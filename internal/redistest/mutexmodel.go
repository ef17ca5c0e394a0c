package redistest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/anishathalye/porcupine"
)

// A MutexHistory records what happens to one lock with fencing tokens and
// compares it with an owner mutex:
//
//   - a grant needs that nobody is the owner, and its token is greater than
//     every earlier one;
//   - an owner that was seen to trust its lease (Use) is the owner at that moment;
//   - an owner ends by its Release, or when its trust has ended (Hold, Gone);
//   - TryAcquire is refused only while there is an owner, or may be one at
//     the server (after a loss, until the next grant), or while somebody may stand in line.
//
// So a second grant while the first owner still trusts its lease is refused,
// provided that owners say so: the more often a test calls Use, the sharper it is.
type MutexHistory struct {
	Recorder
	settled []int64
}

type mutexOp string

const (
	mutexAcquire mutexOp = "acquire"
	mutexTry     mutexOp = "try"
	mutexRelease mutexOp = "release"
	mutexUse     mutexOp = "use"
	mutexLose    mutexOp = "lose"
	mutexBreak   mutexOp = "break"
)

type mutexInput struct {
	op      mutexOp
	token   uint64
	excused bool // of a try: somebody may have stood in line
}

type mutexOutput struct {
	ok    bool
	token uint64 // of a grant
}

// A MutexTaking is a call of Acquire or TryAcquire under way.
type MutexTaking struct{ p *Pending }

// Acquire notes that client calls Acquire.
func (h *MutexHistory) Acquire(client int) MutexTaking {
	return MutexTaking{h.Call(client, mutexInput{op: mutexAcquire})}
}

// Try notes that client calls TryAcquire.
func (h *MutexHistory) Try(client int) MutexTaking {
	return MutexTaking{h.Call(client, mutexInput{op: mutexTry})}
}

// Granted notes that the call returned a lease with token.
func (a MutexTaking) Granted(token uint64) { a.p.Return(mutexOutput{ok: true, token: token}) }

// Refused notes that TryAcquire answered that it did not acquire, or that
// Acquire gave up (its ctx ended).
func (a MutexTaking) Refused() { a.p.Return(mutexOutput{}) }

// Unknown notes an error that leaves open what happened at the server.
func (a MutexTaking) Unknown() {}

// A MutexGiving is a call of Release under way.
type MutexGiving struct{ p *Pending }

// Release notes that client calls Release for the lease with token.
func (h *MutexHistory) Release(client int, token uint64) MutexGiving {
	return MutexGiving{h.Call(client, mutexInput{op: mutexRelease, token: token})}
}

// Released notes that Release returned nil: the lease was ours to the end.
func (g MutexGiving) Released() { g.p.Return(mutexOutput{ok: true}) }

// Lost notes that Release said that the lease had been lost.
func (g MutexGiving) Lost() { g.p.Return(mutexOutput{}) }

// Unknown notes an error that leaves open whether it was given back.
func (g MutexGiving) Unknown() {}

// Use asks whether the lease is trusted, with still, and notes the answer.
func (h *MutexHistory) Use(client int, token uint64, still func() bool) bool {
	p := h.Call(client, mutexInput{op: mutexUse, token: token})
	ok := still()
	p.Return(mutexOutput{ok: ok})
	return ok
}

// A MutexHolding is the time for which a lease is held.
type MutexHolding struct{ p *Pending }

// Hold notes that from now on client may lose the lease with token.
func (h *MutexHistory) Hold(client int, token uint64) MutexHolding {
	return MutexHolding{h.Call(client, mutexInput{op: mutexLose, token: token})}
}

// Lost notes that the lease's Done was seen closed by a loss, at the latest now.
func (o MutexHolding) Lost() { o.p.Return(mutexOutput{}) }

// Kept notes that the lease was not lost: it was released.
func (o MutexHolding) Kept() { o.p.Forget() }

// Gone notes that the holder of token has been killed or left alone: its
// trust ends now or later, unseen.
func (h *MutexHistory) Gone(client int, token uint64) {
	h.Call(client, mutexInput{op: mutexLose, token: token})
}

// Break notes a call of Break for token; Released of what it returns notes
// that Break said that the holder had ended.
func (h *MutexHistory) Break(client int, token uint64) MutexGiving {
	return MutexGiving{h.Call(client, mutexInput{op: mutexBreak, token: token})}
}

// Settled notes that nobody stands in line now and that no call of before is
// still being withdrawn, as NoLeaks has shown.
func (h *MutexHistory) Settled() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settled = append(h.settled, h.tick())
}

// Judge fails the test when the history is not that of an owner mutex.
func (h *MutexHistory) Judge(t testing.TB) {
	t.Helper()
	judge(t, MutexModel, h.history())
}

// history returns the operations, with an excuse for each TryAcquire that was
// refused while somebody may have stood in line. Calls that took nothing, as far as anybody
// knows, are left out then: they would only make the search longer.
func (h *MutexHistory) history() []porcupine.Operation {
	all := h.Operations()
	var ops []porcupine.Operation
	for _, op := range all {
		in := op.Input.(mutexInput)
		out, known := op.Output.(mutexOutput)
		switch {
		case in.op == mutexAcquire && !out.ok, in.op == mutexTry && !known:
			continue
		case in.op == mutexTry && !out.ok:
			in.excused = slices.ContainsFunc(all, func(other porcupine.Operation) bool {
				return other.Call < op.Return && h.inLineUntil(other) > op.Call
			})
			op.Input = in
		}
		ops = append(ops, op)
	}
	return ops
}

// inLineUntil returns up to when an operation may have stood in line. One that
// gave up is withdrawn in the background, so nobody knows until things have settled.
func (h *MutexHistory) inLineUntil(op porcupine.Operation) int64 {
	in := op.Input.(mutexInput)
	out, known := op.Output.(mutexOutput)
	switch {
	case in.op == mutexTry && known, in.op != mutexTry && in.op != mutexAcquire:
		return 0
	case known && out.ok:
		return op.Return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, at := range h.settled {
		if at > op.Call {
			return at
		}
	}
	return openEnd
}

// mutexState is what the model remembers.
type mutexState struct {
	owner uint64 // its token; 0: nobody
	last  uint64 // the greatest token so far
	stale bool   // the owner's trust ended, and the server may not know yet
}

// MutexModel is the sequential model behind MutexHistory.
var MutexModel = porcupine.Model{
	Init: func() any { return mutexState{} },
	Step: func(state, input, output any) (bool, any) {
		out, known := output.(mutexOutput)
		return mutexStep(state.(mutexState), input.(mutexInput), out, known)
	},
	DescribeOperation: func(input, output any) string {
		in := input.(mutexInput)
		if in.token != 0 {
			return fmt.Sprintf("%s(%d) -> %v", in.op, in.token, output)
		}
		return fmt.Sprintf("%s -> %v", in.op, output)
	},
}

// mutexStep says whether an operation is legal now and what it leaves behind.
// One whose outcome is unknown is open to the end of the history, so the
// checker may put it where it has no effect any more.
func mutexStep(s mutexState, in mutexInput, out mutexOutput, known bool) (bool, mutexState) {
	switch in.op {
	case mutexAcquire, mutexTry:
		if !out.ok {
			return s.owner != 0 || s.stale || in.excused, s
		}
		return s.owner == 0 && out.token > s.last, mutexState{owner: out.token, last: out.token}
	case mutexRelease:
		if known && out.ok {
			return s.owner == in.token, mutexState{last: s.last}
		}
		return true, s.without(in.token)
	case mutexUse:
		if out.ok {
			return s.owner == in.token, s
		}
		return true, s.without(in.token)
	case mutexLose:
		return true, s.without(in.token)
	case mutexBreak:
		return !known || s.owner != in.token, s
	}
	return false, s
}

// without is the state after the trust of token's owner has ended.
func (s mutexState) without(token uint64) mutexState {
	if s.owner == token {
		s.owner, s.stale = 0, true
	}
	return s
}
