//go:build !linux

package redistest

import (
	"os"
	"syscall"
)

// dieWithParent has nothing to offer here: after a panicking test its servers
// have to be ended by hand.
func dieWithParent() *syscall.SysProcAttr { return nil }

// stopped takes the word of the signal.
func stopped(*os.Process) error { return nil }
