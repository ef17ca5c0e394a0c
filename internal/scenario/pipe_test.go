package scenario

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
	"github.com/multihost/multihost/redisqueue"
)

// slow delays the commands of a client.
type slow struct{ redis.Hook }

func (slow) DialHook(next redis.DialHook) redis.DialHook { return next }

func (slow) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		time.Sleep(time.Second) // in a bubble
		return next(ctx, cmd)
	}
}

func (slow) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		time.Sleep(time.Second) // in a bubble
		return next(ctx, cmds)
	}
}

// Close once ended the two ways in the other order, and who saw the end in time could
// still send something that nobody would receive.
func TestWhoSeesTheEndOfAPipeCannotSend(t *testing.T) {
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, m *miniredis.Miniredis) {
		closing := redistest.BubbleClient(t, m)
		closing.AddHook(slow{})
		end := func(client *redis.Client, out, in string) (e pipeEnd) {
			var err error
			if e.out, err = redisqueue.New[string](client, out, &redisqueue.Options{ControlClient: client}); err != nil {
				t.Fatal(err)
			}
			if e.in, err = redisqueue.New[string](client, in, &redisqueue.Options{ControlClient: client}); err != nil {
				t.Fatal(err)
			}
			return e
		}
		parent, child := end(closing, "down", "up"), end(client, "up", "down")
		closed := make(chan error, 1)
		go func() { closed <- parent.Close(t.Context()) }()
		if got, err := child.Recv(t.Context()); !errors.Is(err, redisqueue.ErrShutdown) {
			t.Errorf("%q, %v", got, err)
		}
		if err := child.Send(t.Context(), "anybody there?"); !errors.Is(err, redisqueue.ErrShutdown) {
			t.Errorf("the end was seen, and sending says: %v", err)
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}
