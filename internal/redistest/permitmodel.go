package redistest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/anishathalye/porcupine"
)

// A PermitHistory records what happens to one semaphore and compares it with a
// set of holders and a limit:
//
//   - a grant needs that fewer than limit hold, and an id that nobody had before;
//   - a holder that was seen to trust its permit (Use) holds it at that moment;
//   - a holder ends by its Release, or when its trust has ended (Hold);
//   - Resize moves the limit and takes permits from nobody.
//
// So a grant too many while the others still trust their permits is refused,
// provided that holders say so: the more often a test calls Use, the sharper it is.
type PermitHistory struct {
	Recorder
	limit int
}

// NewPermitHistory begins the history of a semaphore with this limit.
func NewPermitHistory(limit int) *PermitHistory { return &PermitHistory{limit: limit} }

type permitOp string

const (
	permitAcquire permitOp = "acquire"
	permitRelease permitOp = "release"
	permitUse     permitOp = "use"
	permitLose    permitOp = "lose"
	permitResize  permitOp = "resize"
)

type permitInput struct {
	op    permitOp
	id    string
	limit int // of a resize
}

type permitOutput struct {
	ok bool
	id string // of a grant
}

// A PermitCall is a call under way. One whose outcome is unknown is left alone.
type PermitCall struct{ p *Pending }

// Acquire notes that client calls Acquire or TryAcquire.
func (h *PermitHistory) Acquire(client int) PermitCall {
	return PermitCall{h.Call(client, permitInput{op: permitAcquire})}
}

// Granted notes that the call returned the permit with this id.
func (c PermitCall) Granted(id string) { c.p.Return(permitOutput{ok: true, id: id}) }

// Refused notes that the call took nothing.
func (c PermitCall) Refused() { c.p.Forget() }

// Release notes that client calls Release for the permit with this id.
func (h *PermitHistory) Release(client int, id string) PermitCall {
	return PermitCall{h.Call(client, permitInput{op: permitRelease, id: id})}
}

// Hold notes that from now on client may lose the permit with this id.
func (h *PermitHistory) Hold(client int, id string) PermitCall {
	return PermitCall{h.Call(client, permitInput{op: permitLose, id: id})}
}

// Resize notes that client calls Resize.
func (h *PermitHistory) Resize(client, limit int) PermitCall {
	return PermitCall{h.Call(client, permitInput{op: permitResize, limit: limit})}
}

// Done notes that Release or Resize returned nil.
func (c PermitCall) Done() { c.p.Return(permitOutput{ok: true}) }

// Lost notes that Release said, or Hold found, that the permit had been lost.
func (c PermitCall) Lost() { c.p.Return(permitOutput{}) }

// Kept notes that what was held was not lost: it was released.
func (c PermitCall) Kept() { c.p.Forget() }

// Use asks whether the permit is trusted, with still, and notes the answer.
func (h *PermitHistory) Use(client int, id string, still func() bool) bool {
	p := h.Call(client, permitInput{op: permitUse, id: id})
	ok := still()
	p.Return(permitOutput{ok: ok})
	return ok
}

// Judge fails the test when the history is not that of a semaphore.
func (h *PermitHistory) Judge(t testing.TB) {
	t.Helper()
	ops := h.history()
	seen := map[string]bool{}
	for _, op := range ops {
		out, _ := op.Output.(permitOutput)
		if out.id != "" && seen[out.id] {
			t.Errorf("the id %s was given twice", out.id)
		}
		seen[out.id] = true
	}
	judge(t, h.model(), ops)
}

// history leaves out what took nothing, as far as anybody knows: it would only
// make the search longer.
func (h *PermitHistory) history() []porcupine.Operation {
	return slices.DeleteFunc(h.Operations(), func(op porcupine.Operation) bool {
		out, _ := op.Output.(permitOutput)
		return op.Input.(permitInput).op == permitAcquire && !out.ok
	})
}

// permitState is what the model remembers: comparable, so the holders are one
// string.
type permitState struct {
	limit int
	held  string // ids in order, each with a space behind
}

func (s permitState) holds(id string) bool { return strings.Contains(" "+s.held, " "+id+" ") }

func (s permitState) with(id string) permitState {
	all := append(strings.Fields(s.held), id)
	slices.Sort(all)
	s.held = strings.Join(all, " ") + " "
	return s
}

func (s permitState) without(id string) permitState {
	if s.holds(id) {
		s.held = strings.TrimPrefix(strings.Replace(" "+s.held, " "+id+" ", " ", 1), " ")
	}
	return s
}

// model is the sequential model.
func (h *PermitHistory) model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return permitState{limit: h.limit} },
		Step: func(state, input, output any) (bool, any) {
			out, known := output.(permitOutput)
			return permitStep(state.(permitState), input.(permitInput), out, known)
		},
		DescribeOperation: func(input, output any) string {
			in := input.(permitInput)
			return fmt.Sprintf("%s(%s) %d -> %v", in.op, in.id, in.limit, output)
		},
	}
}

// permitStep says whether an operation is legal now and what it leaves behind.
// One whose outcome is unknown is open to the end of the history, so the
// checker may put it where it has no effect any more.
func permitStep(s permitState, in permitInput, out permitOutput, known bool) (bool, permitState) {
	switch in.op {
	case permitAcquire:
		return len(strings.Fields(s.held)) < s.limit, s.with(out.id)
	case permitRelease:
		return !known || !out.ok || s.holds(in.id), s.without(in.id)
	case permitUse:
		if out.ok {
			return s.holds(in.id), s
		}
		return true, s.without(in.id)
	case permitLose:
		return true, s.without(in.id)
	case permitResize:
		s.limit = in.limit
		return true, s
	}
	return false, s
}
