package recipes

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/redisqueue"
)

// Mail is an item of the queue.
type Mail struct{ To, Text string }

// Mails returns the queue, the same for those who put and those who send.
func Mails(client redis.UniversalClient) (*redisqueue.Queue[Mail], error) {
	return redisqueue.New[Mail](client, "mails", &redisqueue.Options{
		RetryDelay:    func(attempt int) time.Duration { return time.Second << attempt }, // 2 s, 4 s, 8 s, 16 s
		MaxDeliveries: 5,                                                                 // then to the dead letters
	})
}

// SendMails sends mails, eight at a time, until it is told to stop by SIGTERM or
// Ctrl-C: then it takes no more, finishes those it has begun, and returns nil.
// A mail whose sender dies is sent by another one: so a mail may be sent twice,
// with the same id.
func SendMails(ctx context.Context, client redis.UniversalClient, send func(ctx context.Context, id string, m Mail) error) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal ends the process at once

	mails, err := Mails(client)
	if err != nil {
		return err
	}
	err = mails.Work(ctx, 8, func(ctx context.Context, d *redisqueue.Delivery[Mail]) error {
		return send(ctx, d.ID(), d.Value()) // an error: once more, after the RetryDelay
	})
	if errors.Is(err, context.Canceled) {
		return nil // as it was told
	}
	return err
}
