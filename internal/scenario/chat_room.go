package scenario

import (
	"cmp"
	"context"
	"fmt"

	"github.com/multihost/multihost/redisqueue"
)

// Several servers share a room: whoever talks to one of them is heard at all. Each
// server has a queue of its own, and a message is put to every server's queue: of
// a queue that they shared, each message would reach only one of them.

var chatRoom = phrase{key: "room", en: "room: server %d, worker %d: %s", zh: "聊天室: 服务器 %d, 服务 %d: %s"}

// A RoomMessage is what one server tells the others.
type RoomMessage struct {
	Server, Worker int
	Text           string
}

// Line is the message as a server prints it.
func (m RoomMessage) Line(lang Lang) string { return chatRoom.in(lang, m.Server, m.Worker, m.Text) }

type room []*redisqueue.Queue[RoomMessage] // by the number of the server

func roomName(server int) string { return fmt.Sprint("room ", server) }

func newRoom(set Setting, servers int) (room, error) {
	var r room
	for n := range servers {
		queue, err := redisqueue.New[RoomMessage](set.Client, roomName(n), &redisqueue.Options{Namespace: set.Namespace})
		if err != nil {
			return nil, err
		}
		r = append(r, queue)
	}
	return r, nil
}

// inRoom serves while it prints what is said in the room. When all servers have
// served their clients nothing is said any more, and each closes its queue.
func (c *Chat) inRoom(ctx context.Context, w *Worker, serve func(heard func(worker int, message string)) error) (err error) {
	r, err := newRoom(w.setting, c.Servers)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	printed := make(chan error, 1)
	go func() {
		printed <- r.print(ctx, w.Index, func(m RoomMessage) { w.Say(ctx, chatRoom, m.Server, m.Worker, m.Text) })
	}()
	defer func() {
		if err != nil {
			cancel() // nobody else ends the printing
		}
		err = cmp.Or(err, <-printed)
		cancel()
	}()
	err = serve(func(worker int, message string) {
		w.Say(ctx, chatHeard, worker, message)
		if err := r.tell(ctx, RoomMessage{w.Index, worker, message}); err != nil {
			w.fail(err)
		}
	})
	if err != nil {
		return err
	}
	if err := w.Together(ctx, "served", c.Servers); err != nil {
		return err
	}
	return r[w.Index].Shutdown(ctx)
}

func (r room) tell(ctx context.Context, m RoomMessage) error {
	for _, queue := range r {
		if err := queue.Put(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// print prints what is said in the room until the server's queue is closed.
func (r room) print(ctx context.Context, server int, printed func(RoomMessage)) error {
	for m, err := range r[server].All(ctx) {
		if err != nil {
			return err
		}
		printed(m)
	}
	return nil
}
