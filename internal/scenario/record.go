package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/lockedfile"
)

// A stock is what the record of the tickets says, as JSON.
type stock struct {
	Count int    `json:"count"`
	Token uint64 `json:"token"` // of the lock's holder who wrote it; 0: nobody yet
}

// errOlder is the refusal of a write whose fencing token is older than the record's.
var errOlder = errors.New("the record was written under a newer fencing token")

// A ticketRecord is where the stock is kept. Claim reads it for the holder of the lock
// whose token this is: from then on it refuses who held the lock before, else that one
// could still write between this reading and the write that follows. Write refuses a
// stock whose token is older than that of the record, and does not otherwise look at
// what it replaces.
type ticketRecord interface {
	Open(ctx context.Context, count int) (stock, error) // creates it with count if absent
	Read(ctx context.Context) (stock, error)
	Claim(ctx context.Context, token uint64) (stock, error)
	Write(ctx context.Context, s stock) error
}

type redisRecord struct {
	client redis.UniversalClient
	key    string
}

func (r redisRecord) Open(ctx context.Context, count int) (stock, error) {
	data, err := json.Marshal(stock{Count: count})
	if err != nil {
		return stock{}, err
	}
	if err := r.client.SetNX(ctx, r.key, data, lapse).Err(); err != nil {
		return stock{}, fmt.Errorf("record of the tickets: %w", err)
	}
	return r.Read(ctx)
}

func (r redisRecord) Read(ctx context.Context) (stock, error) {
	data, err := r.client.Get(ctx, r.key).Bytes()
	if err != nil {
		return stock{}, fmt.Errorf("record of the tickets: %w", err)
	}
	return parseStock(data)
}

// writeStock compares and writes in one step. The same token may write twice: it is
// the same holder. The new record is written as it was sent, because Lua would
// print a large token as 1.79e+15.
//
// KEYS[1] the record, a string of JSON
// ARGV[1] the new record, JSON
// ARGV[2] its token, a number
// Returns 1: written; 0: refused, the record's token is newer.
var writeStock = redis.NewScript(`
local old = redis.call('GET', KEYS[1])
if old and (cjson.decode(old).token or 0) > tonumber(ARGV[2]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'KEEPTTL')
return 1
`)

func (r redisRecord) Write(ctx context.Context, s stock) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	written, err := writeStock.Run(ctx, r.client, []string{r.key}, data, s.Token).Bool()
	if err != nil {
		return fmt.Errorf("record of the tickets: %w", err)
	}
	if !written {
		return errOlder
	}
	return nil
}

// claimStock reads and leaves the token in one step.
//
// KEYS[1] the record, a string of JSON
// ARGV[1] the token, a number
// Returns the record as it is now; nil: refused, the record's token is newer
var claimStock = redis.NewScript(`
local old = cjson.decode(redis.call('GET', KEYS[1]))
if (old.token or 0) > tonumber(ARGV[1]) then return nil end
local new = string.format('{"count":%d,"token":%s}', old.count, ARGV[1])
redis.call('SET', KEYS[1], new, 'KEEPTTL')
return new
`)

func (r redisRecord) Claim(ctx context.Context, token uint64) (stock, error) {
	data, err := claimStock.Run(ctx, r.client, []string{r.key}, token).Text()
	if errors.Is(err, redis.Nil) {
		return stock{}, errOlder
	}
	if err != nil {
		return stock{}, fmt.Errorf("record of the tickets: %w", err)
	}
	return parseStock([]byte(data))
}

// A fileRecord is a file of this machine. Whoever reads it sees a whole record,
// because a new one is renamed into its place; a file lock beside it keeps check
// and rename together.
type fileRecord struct{ path string }

func (f fileRecord) Open(ctx context.Context, count int) (stock, error) {
	unlock, err := f.lock()
	if err != nil {
		return stock{}, err
	}
	defer unlock()
	if _, err := os.Stat(f.path); errors.Is(err, fs.ErrNotExist) {
		if err := f.replace(stock{Count: count}); err != nil {
			return stock{}, err
		}
	}
	return f.Read(ctx)
}

func (f fileRecord) Read(context.Context) (stock, error) {
	data, err := os.ReadFile(f.path)
	if err != nil {
		return stock{}, err
	}
	s, err := parseStock(data)
	if err != nil {
		return stock{}, fmt.Errorf("%s: %w", f.path, err)
	}
	return s, nil
}

func (f fileRecord) Claim(ctx context.Context, token uint64) (now stock, err error) {
	err = f.update(ctx, token, func(old stock) stock {
		now = stock{old.Count, token}
		return now
	})
	return now, err
}

func (f fileRecord) Write(ctx context.Context, s stock) error {
	return f.update(ctx, s.Token, func(stock) stock { return s })
}

// update replaces the record, if the token is not older than its own.
func (f fileRecord) update(ctx context.Context, token uint64, by func(old stock) stock) error {
	unlock, err := f.lock()
	if err != nil {
		return err
	}
	defer unlock()
	old, err := f.Read(ctx)
	if err != nil {
		return err
	}
	if old.Token > token {
		return errOlder
	}
	return f.replace(by(old))
}

func (f fileRecord) lock() (unlock func(), err error) {
	return lockedfile.MutexAt(f.path + ".lock").Lock()
}

func (f fileRecord) replace(s stock) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	// Under the lock nobody else writes this name; what a crash left there is overwritten.
	next := f.path + ".new"
	if err := os.WriteFile(next, data, 0o644); err != nil {
		return err
	}
	return os.Rename(next, f.path)
}

func parseStock(data []byte) (stock, error) {
	var s struct {
		Count *int
		Token uint64
	}
	if err := json.Unmarshal(data, &s); err != nil || s.Count == nil || *s.Count < 0 {
		return stock{}, fmt.Errorf("record of the tickets: want %s, found %q", `{"count":3}`, data)
	}
	return stock{*s.Count, s.Token}, nil
}
