// Package fencing shows how whatever the holders of a lock write to can refuse
// those who have lost it: in SQL, in Redis and in a file. docs/guarantees.md
// tells why that is needed. The code is there to be copied.
package fencing

import "errors"

// ErrOlder says that a later holder of the lock has been here: the caller has
// lost the lock, and must begin anew, with Acquire.
var ErrOlder = errors.New("a later holder of the lock has been here")
