package redistest

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// Eventually waits until cond returns nil and fails the test when it does not
// in time, saying what was missing at last. It is for what happens in
// another process or in the server, where nothing can be waited on; what
// happens in this process should be waited for directly.
func Eventually(t testing.TB, within time.Duration, cond func() error) {
	t.Helper()
	if err := Within(within, cond); err != nil {
		t.Fatal(err)
	}
}

// EventuallyTrue is Eventually for a condition that has nothing to say; what
// names it in the message.
func EventuallyTrue(t testing.TB, within time.Duration, what string, cond func() bool) {
	t.Helper()
	not := errors.New("not so: " + what)
	Eventually(t, within, func() error {
		if cond() {
			return nil
		}
		return not
	})
}

// Within asks cond at once, then at growing intervals of 1 to 50 ms, and once
// more when the time is up, so that a machine that stood still in between does not
// fail what has become true. It returns the last error.
func Within(within time.Duration, cond func() error) error {
	end := time.Now().Add(within)
	pause := time.Millisecond
	for {
		late := !time.Now().Before(end)
		err := cond()
		if err == nil {
			return nil
		}
		if late {
			return fmt.Errorf("not within %v: %w", within, err)
		}
		timer := time.NewTimer(min(pause, time.Until(end)))
		<-timer.C
		pause = min(2*pause, 50*time.Millisecond)
	}
}
