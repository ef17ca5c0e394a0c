package scenario

import (
	"context"
	"fmt"
	"strings"

	"github.com/multihost/multihost/redisqueue"
)

// Queue is the first thing to do with a queue: the parent puts something, and the
// worker gets it. With --both-ways the worker answers through the same queue, and
// the parent must not take back what it has put itself.
type Queue struct {
	BothWays bool `help:"The worker answers through the same queue."`
}

var queueGot = phrase{key: "got", en: "%s", zh: "%s"}

// Cast implements Scenario.
func (q *Queue) Cast() Cast {
	return Cast{
		Source: "internal/scenario/queue.go",
		Roles:  []Role{{Name: "parent", Count: 1}, {Name: "worker", Count: 1}},
		Queues: []string{"queue"},
		Events: []string{"acknowledged"},
		Keys:   []string{"acknowledged"},
	}
}

// Work implements Scenario.
func (q *Queue) Work(ctx context.Context, w *Worker) error {
	if q.BothWays {
		queue, err := redisqueue.New[string](w.Client, "queue", &redisqueue.Options{Namespace: w.Namespace})
		switch {
		case err != nil:
			return err
		case w.Role() == "parent":
			return q.ask(ctx, w, queue)
		}
		return q.answer(ctx, w, queue)
	}
	queue, err := redisqueue.New[[]int](w.Client, "queue", &redisqueue.Options{Namespace: w.Namespace})
	switch {
	case err != nil:
		return err
	case w.Role() == "parent":
		return queue.Put(ctx, []int{1, 2, 3})
	}
	list, err := queue.Get(ctx)
	if err != nil {
		return err
	}
	w.Say(ctx, queueGot, strings.ReplaceAll(fmt.Sprint(list), " ", ", "))
	return nil
}

func (q *Queue) ask(ctx context.Context, w *Worker, queue *redisqueue.Queue[string]) error {
	if err := queue.Put(ctx, "hi"); err != nil {
		return err
	}
	if err := queue.Join(ctx); err != nil { // until the worker has acknowledged it
		return err
	}
	// The worker must not answer before: Join would wait for its answer as well.
	if err := w.Together(ctx, "acknowledged", 2); err != nil {
		return err
	}
	answer, err := queue.Get(ctx)
	if err != nil {
		return err
	}
	w.Say(ctx, queueGot, answer)
	return nil
}

func (q *Queue) answer(ctx context.Context, w *Worker, queue *redisqueue.Queue[string]) error {
	asked, err := queue.Receive(ctx)
	if err != nil {
		return err
	}
	w.Say(ctx, queueGot, asked.Value())
	if err := overdue(asked.Ack(ctx)); err != nil {
		return err
	}
	if err := w.Together(ctx, "acknowledged", 2); err != nil {
		return err
	}
	return queue.Put(ctx, "你好")
}

// Judge implements Scenario.
func (q *Queue) Judge(journal []Fact) Verdict {
	if q.BothWays {
		return judgeGot(journal, "worker 0: hi", "parent 0: 你好")
	}
	return judgeGot(journal, "worker 0: [1, 2, 3]")
}
