package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multihost/multihost/redisqueue"
)

// Pipe is the channel with two ends that stands beside the queue in
// multiprocessing: what one end sends the other receives, both ways, until an end
// is closed. It is made of two queues, one for each way.
type Pipe struct {
	Rounds int `default:"3" help:"How often the parent says hi."`
}

var (
	pipeSent     = "sent" // with the message
	pipeReceived = phrase{key: "received", en: "the %s received: %s", zh: "%s 收到: %s"}
	pipeEnded    = phrase{key: "ended", colour: yellow, en: "the %s sees that the other end is closed", zh: "%s: 另一端已关闭"}
	pipeRefused  = "refused" // a message, by the closed pipe
)

// Validate is called when the command line has been read.
func (p *Pipe) Validate() error { return inRange("--rounds", p.Rounds, 1, 1000) }

// Cast implements Scenario.
func (p *Pipe) Cast() Cast {
	return Cast{
		Source: "internal/scenario/pipe.go",
		Roles: []Role{
			{Name: "parent", Count: 1},
			{Name: "child", Count: 1, Busy: time.Duration(p.Rounds) * time.Second},
		},
		Queues: []string{"to child", "to parent"},
	}
}

// A pipeEnd is what one of the two has of the pipe.
type pipeEnd struct{ out, in *redisqueue.Queue[string] }

// Send fails with ErrShutdown once an end is closed.
func (e pipeEnd) Send(ctx context.Context, message string) error { return e.out.Put(ctx, message) }

// Recv fails with ErrShutdown once an end is closed and all that was sent before is
// received.
func (e pipeEnd) Recv(ctx context.Context) (string, error) { return e.in.Get(ctx) }

// Close closes the pipe for both ends; first what the other end sends through, so that
// it cannot send any more when it sees the end of what it receives.
func (e pipeEnd) Close(ctx context.Context) error {
	return errors.Join(e.in.Shutdown(ctx), e.out.Shutdown(ctx))
}

// Work implements Scenario.
func (p *Pipe) Work(ctx context.Context, w *Worker) error {
	opts := &redisqueue.Options{Namespace: w.Namespace}
	down, err := redisqueue.New[string](w.Client, "to child", opts)
	if err != nil {
		return err
	}
	up, err := redisqueue.New[string](w.Client, "to parent", opts)
	if err != nil {
		return err
	}
	if w.Role() == "parent" {
		return p.parent(ctx, w, pipeEnd{out: down, in: up})
	}
	return p.child(ctx, w, pipeEnd{out: up, in: down})
}

func (p *Pipe) parent(ctx context.Context, w *Worker, pipe pipeEnd) error {
	for n := range p.Rounds {
		if err := p.say(ctx, w, pipe, fmt.Sprint("hi ", n)); err != nil {
			return err
		}
		answer, err := pipe.Recv(ctx)
		if err != nil {
			return err
		}
		w.Say(ctx, pipeReceived, w.Role(), answer)
	}
	// Closing does not take back what is on its way.
	return errors.Join(p.say(ctx, w, pipe, "bye"), pipe.Close(ctx))
}

func (p *Pipe) child(ctx context.Context, w *Worker, pipe pipeEnd) error {
	for n := 0; ; n++ {
		message, err := pipe.Recv(ctx)
		if errors.Is(err, redisqueue.ErrShutdown) {
			break
		}
		if err != nil {
			return err
		}
		w.Say(ctx, pipeReceived, w.Role(), message)
		if message == "bye" {
			continue
		}
		if err := w.Pause(ctx, 0, time.Second); err != nil {
			return err
		}
		if err := p.say(ctx, w, pipe, fmt.Sprint("你好 ", n)); err != nil {
			return err
		}
	}
	w.Say(ctx, pipeEnded, w.Role())
	err := pipe.Send(ctx, "anybody there?")
	if errors.Is(err, redisqueue.ErrShutdown) {
		w.Note(ctx, pipeRefused)
		return nil
	}
	return err
}

func (p *Pipe) say(ctx context.Context, w *Worker, pipe pipeEnd, message string) error {
	w.Note(ctx, pipeSent, message)
	return pipe.Send(ctx, message)
}

// Judge implements Scenario.
func (p *Pipe) Judge(journal []Fact) Verdict { return judgePipe(journal, p.Rounds) }
