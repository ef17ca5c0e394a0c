//go:build !linux

package redistest

import "syscall"

// dieWithParent has nothing to offer here: after a panicking test its servers
// have to be ended by hand.
func dieWithParent() *syscall.SysProcAttr { return nil }
