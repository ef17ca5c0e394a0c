package redistest

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

// scale is how many times longer than usual tests wait for other processes and
// hold leases whose renewal they wait for.
var scale = sync.OnceValue(func() time.Duration {
	value := os.Getenv("MULTIHOST_TEST_SCALE")
	if value == "" {
		return 1
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > 100 {
		panic(fmt.Sprintf("MULTIHOST_TEST_SCALE=%q: a whole number from 1 to 100 is allowed", value))
	}
	return time.Duration(n)
})

// Scale returns d, multiplied by MULTIHOST_TEST_SCALE where a machine that is slow or
// does much else sets it: the time a renewal has, or what should happen at once. Tests in
// fake time need none of it.
func Scale(d time.Duration) time.Duration { return d * scale() }
