package clock

import (
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	clockMonotonic = 1
	clockBoottime  = 7

	// slack is by how much the two clocks may seem to drift without a
	// suspension: the time that may pass between reading them is accounted for
	// separately.
	slack = int64(time.Millisecond)
)

var (
	// offset is the last accepted distance between the two clocks.
	offset atomic.Int64
	// looked is when it was last compared, as time since start.
	looked atomic.Int64
	start  = time.Now()
)

func init() { compare() }

// suspended compares the clocks at most once a millisecond, because the system
// calls cost a microsecond. So a suspension shows at the latest after the
// process has run for a millisecond again.
func suspended() time.Duration {
	now := int64(time.Since(start))
	if d := now - looked.Load(); d > -slack && d < slack {
		return time.Duration(offset.Load())
	}
	looked.Store(now)
	return compare()
}

// compare reads both clocks. Time passes between two readings, much of it if
// the thread is preempted there, so the distance is known only as an interval;
// as long as the accepted one lies inside, it stays.
func compare() time.Duration {
	before := read(clockMonotonic)
	boot := read(clockBoottime)
	after := read(clockMonotonic)
	least, most := boot-after, boot-before
	old := offset.Load()
	if old >= least-slack && old <= most+slack {
		return time.Duration(old)
	}
	offset.CompareAndSwap(old, least)
	return time.Duration(offset.Load())
}

func read(id uintptr) int64 {
	var ts syscall.Timespec
	// A raw call: it does not block, so the scheduler need not know.
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		return 0
	}
	return ts.Nano()
}
