//go:build unix

package redistest

import (
	"errors"
	"os"
	"syscall"
)

// pause stops a child without its noticing; resume lets it go on.
func pause(p *os.Process) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return stopped(p)
}

func resume(p *os.Process) error { return p.Signal(syscall.SIGCONT) }

// gone reports that there is no such process any more.
func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
