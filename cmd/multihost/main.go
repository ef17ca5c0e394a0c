// Command multihost brings Lock, Semaphore, Event and Queue of Python's
// multiprocessing to the processes of many hosts, through Redis.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/multihost/multihost/internal/cli"
)

func main() {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signals = append(signals, syscall.SIGHUP) // the terminal was closed
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	// The first signal ends the work in good order; a second one ends it at once.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
