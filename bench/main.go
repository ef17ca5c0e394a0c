// Command bench measures locks and semaphores over Redis side by side: those of
// multihost, their peers, and the least that a turn can cost.
//
// It starts a redis-server of its own, and for each measurement as many processes
// as the work asks for: itself, with another command.
package main

import (
	"time"

	"github.com/alecthomas/kong"
)

type command struct {
	Run    runCommand    `cmd:"" default:"withargs" help:"Measure, and print tables in Markdown."`
	Worker workerCommand `cmd:"" hidden:"" help:"One process of a measurement."`
	Hold   holdCommand   `cmd:"" hidden:"" help:"The process of a measurement of what holding and waiting cost."`
}

// ttl is that of all leases but those of which the cost of renewal is measured.
const ttl = 8 * time.Second

func main() {
	k := kong.Parse(&command{}, kong.Name("bench"),
		kong.Description("Locks and semaphores over Redis, side by side."))
	k.FatalIfErrorf(k.Run())
}
