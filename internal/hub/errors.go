package hub

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

var (
	// ErrUnavailable says that Redis could not be reached, or could not serve
	// the command just now (loading, failing over).
	ErrUnavailable = errors.New("redis is unavailable")

	// ErrUnknownOutcome says that a command was sent and no answer came: it may
	// have been carried out or not.
	ErrUnknownOutcome = errors.New("the outcome is unknown")

	// ErrMismatch says that what lies in Redis under this name is of another
	// type or layout, or was opened with other settings.
	ErrMismatch = errors.New("mismatch with what is in redis")
)

// verdict is what an error of one attempt means for the next.
type verdict int

const (
	final       verdict = iota // an answer; sending again would not change it
	unsent                     // not carried out: it never left, or Redis refused for the moment
	unknown                    // may have been carried out
	elsewhere                  // not carried out: another node is responsible
	noScript                   // not carried out: the script must be sent in full
	notWritable                // not carried out: this node is no longer the primary
)

// refusals are the answers by which Redis says "not now". The command was not
// carried out.
var refusals = map[string]verdict{
	"LOADING":     unsent,
	"MASTERDOWN":  unsent,
	"CLUSTERDOWN": unsent,
	"TRYAGAIN":    elsewhere,
	"MOVED":       elsewhere,
	"ASK":         elsewhere,
	"READONLY":    notWritable,
	"NOSCRIPT":    noScript,
	"NOREPLICAS":  unsent,
	"BUSY":        unsent,
	"UNBLOCKED":   notWritable, // the node has become a replica
}

// judge classifies the error of one attempt.
func judge(err error) verdict {
	if err == nil || errors.Is(err, redis.Nil) || errors.Is(err, redis.ErrClosed) {
		return final
	}
	var re redis.Error
	if errors.As(err, &re) {
		msg := strings.TrimPrefix(re.Error(), "ERR ")
		word, _, _ := strings.Cut(msg, " ")
		if v, ok := refusals[word]; ok {
			return v
		}
		if strings.HasPrefix(msg, "max number of clients") {
			return unsent
		}
		// A script's error names the command inside that failed.
		if strings.Contains(msg, "-READONLY") {
			return notWritable
		}
		return final
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" || errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, errRedial) {
		return unsent
	}
	return unknown
}

// explain wraps an error for the caller: what is not an answer is ErrUnavailable.
func explain(err error) error {
	if err == nil || errors.Is(err, redis.ErrClosed) || errors.Is(err, ErrUnavailable) {
		return err
	}
	var re redis.Error
	if errors.As(err, &re) {
		switch {
		case judge(err) != final:
			return &joined{ErrUnavailable, err}
		case strings.Contains(re.Error(), "WRONGTYPE"), strings.HasPrefix(re.Error(), "MISMATCH"):
			return &joined{ErrMismatch, err}
		}
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		// The deadline of one attempt, not the caller's: it must not match the
		// caller's ctx.Err().
		return &joined{ErrUnavailable, errors.New("no answer in time")}
	}
	if errors.Is(err, io.EOF) {
		return &joined{ErrUnavailable, errors.New("the connection was closed")}
	}
	return &joined{ErrUnavailable, err}
}

// joined is a sentinel and its cause, on one line.
type joined struct{ sentinel, cause error }

func (j *joined) Error() string   { return j.sentinel.Error() + ": " + j.cause.Error() }
func (j *joined) Unwrap() []error { return []error{j.sentinel, j.cause} }

// Join returns an error that matches sentinel and cause and reads as one line.
func Join(sentinel, cause error) error {
	if cause == nil {
		return sentinel
	}
	return &joined{sentinel, cause}
}

// Permanent says that an error will not pass by itself.
func Permanent(err error) bool {
	return errors.Is(err, ErrMismatch) || errors.Is(err, redis.ErrClosed)
}
