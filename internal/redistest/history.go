package redistest

import (
	"math"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// judgeWithin bounds the search for an order that explains a history.
const judgeWithin = time.Minute

// openEnd is the return of an operation that has not returned.
const openEnd = math.MaxInt64

// A Recorder keeps the history of operations on one object: who called what
// when, and what came back when. Its clock counts calls and returns, so it orders
// them exactly, in fake time too. It is safe for concurrent use.
type Recorder struct {
	mu    sync.Mutex
	clock int64
	ops   []*Pending
}

// A Pending is an operation that was called. If it never returns it stays
// open: it may have taken effect at any moment after the call, or not at all.
type Pending struct {
	r         *Recorder
	op        porcupine.Operation
	forgotten bool
}

// unknown is the output of an operation that is still open.
type unknown struct{}

// Call notes that a client (numbered from 0) begins an operation.
func (r *Recorder) Call(client int, input any) *Pending {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &Pending{r: r, op: porcupine.Operation{ClientId: client, Input: input, Call: r.tick(), Output: unknown{}, Return: openEnd}}
	r.ops = append(r.ops, p)
	return p
}

// tick moves the clock on. The caller holds mu.
func (r *Recorder) tick() int64 {
	r.clock++
	return r.clock
}

// Return notes that the operation has returned.
func (p *Pending) Return(output any) {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	p.op.Output, p.op.Return = output, p.r.tick()
}

// at makes the operation one without duration, at the moment of its call.
func (p *Pending) at() {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	p.op.Output, p.op.Return = nil, p.op.Call
}

// Forget removes an operation that says nothing: a look that failed.
func (p *Pending) Forget() {
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	p.forgotten = true
}

// Operations returns the history in the form that porcupine takes.
func (r *Recorder) Operations() []porcupine.Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []porcupine.Operation
	for _, p := range r.ops {
		if !p.forgotten {
			all = append(all, p.op)
		}
	}
	return all
}

// judge fails the test when no order of the operations explains the history
// by the model, and draws how far each order comes.
func judge(t testing.TB, model porcupine.Model, history []porcupine.Operation) {
	t.Helper()
	result, info := porcupine.CheckOperationsVerbose(model, history, judgeWithin)
	switch result {
	case porcupine.Ok:
	case porcupine.Unknown:
		t.Errorf("no verdict on %d operations within %v: make the history shorter", len(history), judgeWithin)
	default:
		path := filepath.Join(t.ArtifactDir(), "history.html")
		if err := porcupine.VisualizePath(model, info, path); err != nil {
			t.Log("no picture: ", err)
		}
		for _, op := range history {
			t.Logf("%d..%d client %d: %s", op.Call, op.Return, op.ClientId, model.DescribeOperation(op.Input, op.Output))
		}
		t.Errorf("no order of these %d operations is legal; go test -artifacts keeps the picture %s", len(history), path)
	}
}
