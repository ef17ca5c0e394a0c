package scenario

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/multihost/multihost/internal/redistest"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// records runs a test on the record in a file and on that in each Redis.
func records(t *testing.T, test func(t *testing.T, record ticketRecord)) {
	t.Run("file", func(t *testing.T) { test(t, fileRecord{filepath.Join(t.TempDir(), "db")}) })
	redistest.Each(t, func(t *testing.T, s *redistest.Server) {
		client := s.Client(t)
		key := redistest.Name(t)
		t.Cleanup(func() { client.Del(t.Context(), key) })
		test(t, redisRecord{client, key})
	})
}

func TestRecordRefusesAnOlderToken(t *testing.T) {
	records(t, func(t *testing.T, record ticketRecord) {
		// Tokens are microseconds since 1970; Lua would print them as 1.79e+15.
		const token = 1_790_000_000_123_456
		if _, err := record.Open(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		for _, w := range []struct {
			stock
			want error
		}{
			{stock{2, token}, nil},
			{stock{7, token - 1}, errOlder},
			{stock{7, 0}, errOlder},
			{stock{1, token}, nil}, // the same holder
			{stock{0, token + 1}, nil},
			{stock{7, token}, errOlder},
		} {
			if err := record.Write(t.Context(), w.stock); !errors.Is(err, w.want) {
				t.Errorf("write of %+v: %v, want %v", w.stock, err, w.want)
			}
		}
		if got, err := record.Read(t.Context()); err != nil || got != (stock{0, token + 1}) {
			t.Errorf("in the end %+v, %v", got, err)
		}
	})
}

// Who had the lock before must not write between the reading and the writing of
// who has it now.
func TestRecordRefusesTheOneBeforeFromTheReadingOn(t *testing.T) {
	records(t, func(t *testing.T, record ticketRecord) {
		const token = 1_790_000_000_123_456
		if _, err := record.Open(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		for _, holder := range []uint64{token, token + 1, token + 1} {
			if got, err := record.Claim(t.Context(), holder); err != nil || got != (stock{3, holder}) {
				t.Errorf("claim with %d: %+v, %v", holder, got, err)
			}
		}
		if err := record.Write(t.Context(), stock{2, token}); !errors.Is(err, errOlder) {
			t.Errorf("the one before should be refused, got %v", err)
		}
		if _, err := record.Claim(t.Context(), token); !errors.Is(err, errOlder) {
			t.Errorf("its claim too, got %v", err)
		}
		if err := record.Write(t.Context(), stock{2, token + 1}); err != nil {
			t.Errorf("the present one should write, got %v", err)
		}
		if got, err := record.Read(t.Context()); err != nil || got != (stock{2, token + 1}) {
			t.Errorf("in the end %+v, %v", got, err)
		}
	})
}

func TestRecordIsCreatedOnce(t *testing.T) {
	records(t, func(t *testing.T, record ticketRecord) {
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if got, err := record.Open(t.Context(), 3); err != nil || got != (stock{Count: 3}) {
					t.Errorf("%+v, %v", got, err)
				}
			})
		}
		all.Wait()
		if err := record.Write(t.Context(), stock{1, 5}); err != nil {
			t.Fatal(err)
		}
		if got, err := record.Open(t.Context(), 3); err != nil || got != (stock{1, 5}) {
			t.Errorf("opened again: %+v, %v", got, err)
		}
	})
}

func TestRecordThatIsNoneIsAnError(t *testing.T) {
	for _, data := range []string{"", "{}", "null", "3", `{"count":"3"}`, `{"count":-1}`, `{"count":3} x`} {
		path := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := (fileRecord{path}).Open(t.Context(), 3); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %+v, %v, want an error that names the file", data, got, err)
		}
	}
	redistest.Bubble(t, func(t *testing.T, client *redis.Client, _ *miniredis.Miniredis) {
		if _, err := (redisRecord{client, "absent"}).Read(t.Context()); err == nil {
			t.Error("a record that is absent can be read")
		}
	})
}
