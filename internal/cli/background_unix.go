//go:build unix

package cli

import (
	"os/signal"
	"syscall"
)

// ignoreBackgroundRead lets a process go on that reads from its terminal while it
// runs in the background (started with &): the read fails, and nothing stops.
func ignoreBackgroundRead() { signal.Ignore(syscall.SIGTTIN) }
