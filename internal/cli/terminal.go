package cli

import (
	"io"
	"os"
	"runtime"

	"golang.org/x/term"
)

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// wantsColour decides for --color=auto. The console of Windows shows escape sequences as
// they are unless it is told otherwise.
func wantsColour(out io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && runtime.GOOS != "windows" && isTerminal(out)
}
