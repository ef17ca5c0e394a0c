package redistest

import (
	"os"
	"testing"
)

// Lacks skips the test, because this machine cannot do what it needs. Where
// servers are required by MULTIHOST_TEST_REQUIRE, as in CI, it fails it instead.
func Lacks(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("MULTIHOST_TEST_REQUIRE") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
