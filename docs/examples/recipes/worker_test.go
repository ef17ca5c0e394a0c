package recipes_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/multihost/multihost/docs/examples/recipes"
)

func TestAMailThatCannotBeSentIsTriedAgainLaterAndThenGivenUp(t *testing.T) {
	inFakeTime(t, func(t *testing.T, m machines) {
		mails, err := recipes.Mails(m.client())
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range []string{"nobody", "ann", "bob"} {
			if err := mails.Put(t.Context(), recipes.Mail{To: to}); err != nil {
				t.Fatal(err)
			}
		}
		start, tried, ids := time.Now(), map[string][]time.Duration{}, map[string]bool{}
		ctx, cancel := context.WithCancel(t.Context())
		sent := make(chan recipes.Mail)
		go func() {
			for mail := range sent {
				tried[mail.To] = append(tried[mail.To], time.Since(start).Round(time.Second))
			}
		}()
		ended := make(chan error, 1)
		go func() {
			ended <- recipes.SendMails(ctx, m.client(), func(_ context.Context, id string, mail recipes.Mail) error {
				sent <- mail
				if mail.To == "nobody" {
					ids[id] = true
					return errors.New("no such mailbox")
				}
				return nil
			})
		}()
		time.Sleep(time.Minute)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		close(sent)

		want := []time.Duration{0, 2 * time.Second, 6 * time.Second, 14 * time.Second, 30 * time.Second}
		if !slices.Equal(tried["nobody"], want) || len(ids) != 1 {
			t.Errorf("tried at %v, want %v; under %d ids, want 1", tried["nobody"], want, len(ids))
		}
		if len(tried["ann"]) != 1 || len(tried["bob"]) != 1 {
			t.Errorf("sent %v", tried)
		}
		if state, err := mails.State(t.Context()); err != nil || state.Dead != 1 || state.Waiting+state.Delayed+state.Claimed != 0 {
			t.Errorf("%+v, %v", state, err)
		}
	})
}
