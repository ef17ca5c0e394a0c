//go:build !unix

package redistest

import (
	"errors"
	"os"
)

// pause and resume have no counterpart here; Own.Pause skips the test.
func pause(*os.Process) error  { return errors.ErrUnsupported }
func resume(*os.Process) error { return errors.ErrUnsupported }

// gone cannot tell, so that nothing of a running test is ever removed.
func gone(int) bool { return false }
