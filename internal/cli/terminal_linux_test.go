package cli

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/multihost/multihost/internal/redistest"
)

// terminal opens a terminal that nobody looks at.
func terminal(t *testing.T) *os.File {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		redistest.Lacks(t, "no terminal here: %v", err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestColoursAreForTerminals(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	screen := terminal(t)
	if wantsColour(file) || wantsColour(new(bytes.Buffer)) {
		t.Error("colours are wanted in a file or a buffer")
	}
	if !wantsColour(screen) {
		t.Error("no colours are wanted on a terminal")
	}
	for variable, value := range map[string]string{"NO_COLOR": "1", "TERM": "dumb"} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, value)
			if wantsColour(screen) {
				t.Errorf("colours are wanted in spite of %s=%s", variable, value)
			}
		})
	}
}

// A service has /dev/null for its input, which ends at once and means nothing.
func TestNobodyTalksThroughDevNull(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	if isTalking(null) {
		t.Error("somebody talks through /dev/null")
	}
	if !isTalking(read) || !isTalking(terminal(t)) {
		t.Error("nobody talks through a pipe, or a terminal")
	}
}
