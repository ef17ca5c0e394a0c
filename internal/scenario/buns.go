package scenario

import (
	"context"
	"errors"
	"time"

	"github.com/multihost/multihost/redisevent"
	"github.com/multihost/multihost/redisqueue"
)

// Buns is a cook and an eater with a queue between them. When the cook is done the
// eater waits for ever, unless somebody tells it that no more buns come: an end
// marker in the queue for each who waits, or the queue itself, once it was shut
// down; then nobody has to know how many they are.
type Buns struct {
	EndMarker bool   `xor:"end" help:"An end marker follows the last bun, one for each consumer."`
	From      string `enum:"producer,parent," default:"" placeholder:"ROLE" help:"With --end-marker: who puts it, the producer (by default) or the parent."`
	Shutdown  bool   `xor:"end" help:"The parent shuts the queue down when the producers are done."`
	Producers int    `default:"-1" placeholder:"N" help:"Number of producers. By default 1, with --shutdown 3."`
	Consumers int    `default:"-1" placeholder:"N" help:"Number of consumers. By default 1, with --shutdown 4."`
}

var (
	bunsParent = phrase{key: "parent", en: "main", zh: "主"}
	bunsMade   = phrase{key: "made", colour: onBlue, en: "%s made bun %d", zh: "%s 生产了 包子%d", named: true}
	bunsEaten  = phrase{key: "eaten", colour: onMagenta, en: "%s ate bun %d", zh: "%s 吃 包子%d", named: true}
	bunsStuck  = phrase{key: "stuck", colour: red, en: "all buns are eaten, and the consumer waits for another", zh: "包子已吃完, 消费者仍在等待"}
	bunsEnded  = "ended" // a consumer: by a marker, by the shutdown, or while it waited
)

// bunsEach is how many buns a producer makes.
const bunsEach = 10

// Validate is called when the command line has been read.
func (b *Buns) Validate() error {
	producers, consumers := b.count()
	switch {
	case b.From != "" && !b.EndMarker:
		return errors.New("--from needs --end-marker")
	case b.EndMarker && !b.later() && producers > 1:
		return errors.New("one of several producers cannot know that the others are done too: the marker has to come --from=parent")
	}
	return errors.Join(inRange("--producers", producers, 1, atMost), inRange("--consumers", consumers, 1, atMost))
}

// AfterApply is called when the command line is right.
func (b *Buns) AfterApply() error {
	b.Producers, b.Consumers = b.count()
	return nil
}

func (b *Buns) count() (producers, consumers int) {
	producers, consumers = 1, 1
	if b.Shutdown {
		producers, consumers = 3, 4
	}
	if b.Producers >= 0 {
		producers = b.Producers
	}
	if b.Consumers >= 0 {
		consumers = b.Consumers
	}
	return producers, consumers
}

// later tells whether the parent has something to do when the producers are done.
func (b *Buns) later() bool { return b.Shutdown || b.From == "parent" }

// Cast implements Scenario.
func (b *Buns) Cast() Cast {
	producers, consumers := b.count()
	return Cast{
		Source: "internal/scenario/buns.go",
		Roles: []Role{
			{Name: "parent", Count: 1},
			{Name: "producer", Count: producers, Busy: 2 * bunsEach * 3 * time.Second}, // making, and what it makes is eaten
			{Name: "consumer", Count: consumers},
		},
		Queues: []string{"buns"},
		Events: []string{"start", "made", "ended", "stop"},
		Keys:   []string{"start", "made", "ended"},
	}
}

// Work implements Scenario. A bun is a number; no number, null in JSON, is the end
// marker.
func (b *Buns) Work(ctx context.Context, w *Worker) error {
	buns, err := redisqueue.New[*int](w.Client, "buns", &redisqueue.Options{Namespace: w.Namespace})
	if err != nil {
		return err
	}
	stop, err := redisevent.New(w.Client, "stop", &redisevent.Options{Namespace: w.Namespace, TTL: lapse})
	if err != nil {
		return err
	}
	if w.Role() == "parent" {
		return b.parent(ctx, w, buns, stop)
	}
	producers, consumers := b.count()
	if err := w.Together(ctx, "start", 1+producers+consumers); err != nil {
		return err
	}
	if w.Role() == "producer" {
		return b.produce(ctx, w, buns)
	}
	return b.consume(ctx, w, buns, stop)
}

func (b *Buns) produce(ctx context.Context, w *Worker, buns *redisqueue.Queue[*int]) error {
	producers, consumers := b.count()
	for n := w.Index * bunsEach; n < (w.Index+1)*bunsEach; n++ {
		if err := w.Pause(ctx, time.Second, 3*time.Second); err != nil {
			return err
		}
		w.Say(ctx, bunsMade, w.Who, n)
		if err := buns.Put(ctx, &n); err != nil {
			return err
		}
	}
	if b.EndMarker && !b.later() {
		if _, err := buns.PutMany(ctx, make([]*int, consumers)); err != nil {
			return err
		}
	}
	return w.Together(ctx, "made", 1+producers)
}

func (b *Buns) consume(ctx context.Context, w *Worker, buns *redisqueue.Queue[*int], stop *redisevent.Event) error {
	_, consumers := b.count()
	waiting, cancel := w.Until(ctx, stop)
	defer cancel()
	for {
		bun, err := buns.Receive(waiting)
		switch {
		case errors.Is(err, redisqueue.ErrShutdown):
			w.Note(ctx, bunsEnded, "shutdown")
			return w.Together(ctx, "ended", 1+consumers)
		case err != nil && waiting.Err() != nil && ctx.Err() == nil:
			w.Note(ctx, bunsEnded, "stopped")
			return w.Together(ctx, "ended", 1+consumers)
		case err != nil:
			return err
		case bun.Value() == nil:
			w.Note(ctx, bunsEnded, "marker")
			return errors.Join(overdue(bun.Ack(ctx)), w.Together(ctx, "ended", 1+consumers))
		}
		if err := w.Pause(ctx, time.Second, 3*time.Second); err != nil {
			return err
		}
		w.Say(ctx, bunsEaten, w.Who, *bun.Value())
		if err := overdue(bun.Ack(ctx)); err != nil {
			return err
		}
	}
}

// parent waits for its producers, and then for its consumers.
func (b *Buns) parent(ctx context.Context, w *Worker, buns *redisqueue.Queue[*int], stop *redisevent.Event) error {
	producers, consumers := b.count()
	if !b.later() {
		w.Say(ctx, bunsParent)
	}
	err := w.Together(ctx, "start", 1+producers+consumers)
	if err == nil {
		err = w.Together(ctx, "made", 1+producers)
	}
	switch {
	case err != nil:
		return err
	case b.Shutdown:
		err = buns.Shutdown(ctx)
	case b.From == "parent":
		_, err = buns.PutMany(ctx, make([]*int, consumers))
	case !b.EndMarker:
		err = b.unstick(ctx, w, buns, stop)
	}
	if err != nil {
		return err
	}
	if b.later() {
		w.Say(ctx, bunsParent)
	}
	return w.Together(ctx, "ended", 1+consumers)
}

// unstick stops the consumers, who will not end by themselves.
func (b *Buns) unstick(ctx context.Context, w *Worker, buns *redisqueue.Queue[*int], stop *redisevent.Event) error {
	if err := buns.Join(ctx); err != nil { // until the last bun is eaten
		return err
	}
	_, consumers := b.count()
	patience, cancel := w.Within(ctx, 2*time.Second)
	defer cancel()
	err := w.Together(patience, "ended", 1+consumers)
	if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	w.Say(ctx, bunsStuck)
	return stop.Set(ctx)
}

// Judge implements Scenario.
func (b *Buns) Judge(journal []Fact) Verdict {
	producers, consumers := b.count()
	switch {
	case b.Shutdown:
		return judgeEaten(journal, producers, consumers, "shutdown", b.later())
	case b.EndMarker:
		return judgeEaten(journal, producers, consumers, "marker", b.later())
	}
	return judgeStuck(journal, producers, consumers)
}
