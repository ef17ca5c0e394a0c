package redistest

import "os"

// Long is how often a test does something over: long with MULTIHOST_TEST_LONG=1 (make
// long), when nobody waits for it, else short.
func Long(short, long int) int {
	if os.Getenv("MULTIHOST_TEST_LONG") != "" {
		return long
	}
	return short
}
