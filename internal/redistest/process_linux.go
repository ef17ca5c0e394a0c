package redistest

import "syscall"

// dieWithParent lets the kernel end a server when the test binary ends, also
// when it panics or is killed.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
