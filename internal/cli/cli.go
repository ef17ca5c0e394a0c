package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/multihost/multihost/internal/scenario"
)

// The exit codes of the command.
const (
	exitDone        = 0
	exitFailed      = 1 // something went wrong, or did not show what it had to show
	exitUsage       = 2 // the command line cannot be understood
	exitInterrupted = scenario.ExitInterrupted
)

// commands is the command line. It is read with kong, because there a command is a
// plain struct with tags: a scenario declares its options without importing anything.
type commands struct {
	Demo demo `cmd:"" help:"Run the demos: processes that agree through Redis. Without a name all of them, with a closing table."`
}

// Run runs the command with its arguments and returns its exit code. It ends early when
// ctx ends.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	line, code := parse(args, stdout, stderr)
	if line == nil {
		return code
	}
	err := line.Run(&console{ctx, stdin, stdout, stderr})
	if err == nil {
		return exitDone
	}
	if ctx.Err() != nil || errors.Is(err, scenario.ErrInterrupted) {
		return exitInterrupted
	}
	if !errors.Is(err, errShown) {
		fmt.Fprintln(stderr, "multihost:", err)
	}
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// A console is what a subcommand talks to.
type console struct {
	ctx            context.Context // of the whole command
	stdin          io.Reader
	stdout, stderr io.Writer
}

// errShown is the end of a command that failed and has said so already.
var errShown = errors.New("failed")

// A usageError is a mistake in the command line.
type usageError struct{ error }

// parse reads the command line. Without a result the command is over, with the code.
func parse(args []string, stdout, stderr io.Writer) (line *kong.Context, code int) {
	type exit int
	defer func() {
		switch r := recover().(type) {
		case nil:
		case exit: // kong has printed the help
			line, code = nil, int(r)
		default:
			panic(r)
		}
	}()
	parser, err := kong.New(new(commands),
		kong.Name("multihost"),
		kong.Description("Lock, Semaphore, Event and Queue of Python's multiprocessing, for the processes of many hosts, over Redis."),
		kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.Exit(func(code int) { panic(exit(code)) }),
	)
	if err != nil {
		panic(err) // a mistake in the structs above
	}
	line, err = parser.Parse(args)
	if err != nil {
		fmt.Fprintln(stderr, "multihost:", explain(err))
		return nil, exitUsage
	}
	return line, exitDone
}

// explain adds to a mistake in the command line what would have been right.
func explain(err error) string {
	var mistake *kong.ParseError
	if !errors.As(err, &mistake) || mistake.Context == nil {
		return err.Error()
	}
	node := mistake.Context.Selected()
	if node == nil {
		node = mistake.Context.Model.Node
	} else if node.Hidden {
		node = node.Parent // it stands for its parent
	}
	message := err.Error()
	if i := strings.Index(message, ": "); i >= 0 && strings.HasPrefix(message, "demo") {
		message = message[i+2:]
	}
	switch {
	case strings.HasPrefix(message, "unknown flag"):
		var names []string
		for _, group := range node.AllFlags(true) {
			for _, flag := range group {
				names = append(names, "--"+flag.Name)
			}
		}
		message += "; allowed are " + strings.Join(names, ", ")
	case strings.HasPrefix(message, "unexpected argument") && len(node.Children) > 0:
		var names []string
		for _, child := range node.Children {
			names = append(names, child.Name)
		}
		message += ": the commands are " + strings.Join(names, ", ")
	}
	return message + " (see: " + node.FullPath() + " --help)"
}
