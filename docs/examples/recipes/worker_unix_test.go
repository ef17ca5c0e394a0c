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
	for range 20 {
		if err := mails.Put(t.Context(), recipes.Mail{To: "ann"}); err != nil {
			t.Fatal(err)
		}
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
	// One that is free now may take another mail in the very moment of the signal.
	more := 0
	for done := 0; done < 8+more; {
		select {
		case <-begun:
			more++
		case finish <- true:
			done++
		}
	}
	if err := <-ended; err != nil {
		t.Errorf("a stop that was asked for ended with %v", err)
	}
	state, err := mails.State(t.Context())
	if err != nil || state.Claimed != 0 || state.Dead != 0 || state.Waiting != 20-8-more || more > 8 {
		t.Errorf("after the stop, with %d more: %+v, %v", more, state, err)
	}
}
