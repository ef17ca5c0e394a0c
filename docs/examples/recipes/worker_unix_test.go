//go:build unix

package recipes_test

import (
	"context"
	"syscall"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/docs/examples/recipes"
)

func TestSIGTERMLetsTheMailsThatWereBegunFinish(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	defer client.Close()
	mails, err := recipes.Mails(client)
	if err != nil {
		t.Fatal(err)
	}
	const all = 1000
	if _, err := mails.PutMany(t.Context(), make([]recipes.Mail, all)); err != nil {
		t.Fatal(err)
	}
	begun, finish, ended := make(chan bool), make(chan bool), make(chan error, 1)
	go func() {
		ended <- recipes.SendMails(t.Context(), client, func(ctx context.Context, _ string, _ recipes.Mail) error {
			begun <- true
			<-finish
			return ctx.Err() // nil: what has begun is not cancelled
		})
	}()
	for range 8 {
		<-begun
	}
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	// Until the signal has arrived, those that are free take more.
	taken := 8
	for stopping := true; stopping; {
		select {
		case <-begun:
			taken++
		case finish <- true:
		case err := <-ended:
			if err != nil {
				t.Errorf("a stop that was asked for ended with %v", err)
			}
			stopping = false
		}
	}
	state, err := mails.State(t.Context())
	if err != nil || state.Claimed != 0 || state.Dead != 0 || state.Waiting != all-taken || taken == all {
		t.Errorf("after the stop, with %d of %d taken: %+v, %v", taken, all, state, err)
	}
}
