package fencing_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	_ "modernc.org/sqlite"

	"github.com/multihost/multihost/docs/examples/fencing"
	"github.com/multihost/multihost/redislock"
)

// guarded is a value behind a guard.
type guarded interface {
	Read(ctx context.Context, token uint64) (string, error)
	Write(ctx context.Context, token uint64, value string) error
}

type row struct{ db *sql.DB }

func (r row) Read(ctx context.Context, token uint64) (value string, err error) {
	err = fencing.InTurn(ctx, r.db, "stock", token, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT value FROM stock`).Scan(&value)
	})
	return value, err
}

func (r row) Write(ctx context.Context, token uint64, value string) error {
	return fencing.InTurn(ctx, r.db, "stock", token, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE stock SET value = ?`, value)
		return err
	})
}

type file struct{ fencing.File }

func (f file) Read(_ context.Context, token uint64) (string, error) { return f.File.Read(token) }

func (f file) Write(_ context.Context, token uint64, value string) error {
	return f.File.Write(token, value)
}

func newClient(t *testing.T) *redis.Client {
	server := miniredis.RunT(t)
	server.ClockTTL(true)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// each runs a test on every guard.
func each(t *testing.T, test func(t *testing.T, g guarded)) {
	t.Run("sql", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "stock.db")
		db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_txlock=immediate")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		for _, statement := range []string{
			fencing.Schema, `CREATE TABLE stock (value TEXT NOT NULL)`, `INSERT INTO stock VALUES ('')`,
		} {
			if _, err := db.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
		test(t, row{db})
	})
	t.Run("redis", func(t *testing.T) { test(t, fencing.Hash{Client: newClient(t), Key: "stock"}) })
	t.Run("file", func(t *testing.T) {
		test(t, file{fencing.File{Path: filepath.Join(t.TempDir(), "stock")}})
	})
}

// first is a token of the size that they have: microseconds since 1970. Lua
// would print it as 1.79e+15.
const first = 1_790_000_000_123_456

func TestAnOlderTokenIsRefused(t *testing.T) {
	each(t, func(t *testing.T, g guarded) {
		for _, w := range []struct {
			token uint64
			value string
			want  error
		}{
			{first, "a", nil},
			{first - 1, "refused", fencing.ErrOlder},
			{0, "refused", fencing.ErrOlder},
			{first, "b", nil}, // the same holder
			{first + 1, "c", nil},
			{first, "refused", fencing.ErrOlder},
		} {
			if err := g.Write(t.Context(), w.token, w.value); !errors.Is(err, w.want) {
				t.Errorf("write of %q with token %d: %v, want %v", w.value, w.token, err, w.want)
			}
		}
		if _, err := g.Read(t.Context(), first); !errors.Is(err, fencing.ErrOlder) {
			t.Errorf("a read with an older token: %v", err)
		}
		if got, err := g.Read(t.Context(), first+1); got != "c" || err != nil {
			t.Errorf("in the end %q, %v", got, err)
		}
	})
}

// What has been read by a later holder may not change under it: so a read
// announces its token.
func TestAReadKeepsEarlierHoldersOut(t *testing.T) {
	each(t, func(t *testing.T, g guarded) {
		if err := g.Write(t.Context(), first, "3 left"); err != nil {
			t.Fatal(err)
		}
		if got, err := g.Read(t.Context(), first+1); got != "3 left" || err != nil {
			t.Fatalf("%q, %v", got, err)
		}
		if err := g.Write(t.Context(), first, "2 left"); !errors.Is(err, fencing.ErrOlder) {
			t.Errorf("the earlier holder may still write: %v", err)
		}
	})
}

// TestAHolderThatWasPausedCannotWrite plays what the guard is for, with a lock.
func TestAHolderThatWasPausedCannotWrite(t *testing.T) {
	each(t, func(t *testing.T, g guarded) {
		client := newClient(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		turn := func(opts *redislock.Options) *redislock.Lease {
			lock, err := redislock.New(client, "stock", opts)
			if err != nil {
				t.Fatal(err)
			}
			lease, err := lock.Acquire(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return lease
		}
		// A holder that does not renew is one that stands still.
		paused := turn(&redislock.Options{TTL: 100 * time.Millisecond, NoRenew: true}).Token()
		next := turn(nil)
		defer next.Release(ctx)
		if _, err := g.Read(ctx, next.Token()); err != nil {
			t.Fatal(err)
		}
		if err := g.Write(ctx, paused, "by one that lost the lock"); !errors.Is(err, fencing.ErrOlder) {
			t.Errorf("the paused holder may write: %v", err)
		}
		if err := g.Write(ctx, next.Token(), "by the holder"); err != nil {
			t.Error(err)
		}
	})
}

func TestOfManyWritersAtOnceTheLatestWins(t *testing.T) {
	each(t, func(t *testing.T, g guarded) {
		const writers = 20
		var all sync.WaitGroup
		for i := range uint64(writers) {
			all.Go(func() {
				err := g.Write(t.Context(), first+i, strconv.FormatUint(i, 10))
				if err != nil && !errors.Is(err, fencing.ErrOlder) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if got, err := g.Read(t.Context(), first+writers); got != strconv.Itoa(writers-1) || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	})
}
