package redistest

import (
	"fmt"
	"os"
	"path/filepath"
)

// Directories carry the process id of the test binary that made them, so that
// a later run can tell which of them nobody needs any more.
const dirPattern = "multihost-redistest-%d-"

// newDir makes a directory for a server's files; the caller removes it.
func newDir() (string, error) {
	return os.MkdirTemp("", fmt.Sprintf(dirPattern, os.Getpid()))
}

// sweepDirs removes the directories of test binaries that were killed.
func sweepDirs() {
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "multihost-redistest-*"))
	if err != nil {
		return
	}
	for _, dir := range left {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(dir), dirPattern, &pid); err == nil && gone(pid) {
			_ = os.RemoveAll(dir) // another test binary may sweep as well
		}
	}
}
