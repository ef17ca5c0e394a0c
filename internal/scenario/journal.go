package scenario

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// A Fact is one thing that a worker did.
type Fact struct {
	Worker string   // role and number: "buyer 2"
	Number int      // the number within the role
	Seq    int      // counts the worker's facts
	What   string   // the key of a phrase, or a word of the scenario's
	Args   []string `json:",omitempty"`
}

// is tells whether the fact is the saying of p.
func (f Fact) is(p phrase) bool { return f.What == p.key }

// arg is the fact's i-th argument, or nothing if there is none.
func (f Fact) arg(i int) string {
	if i >= len(f.Args) {
		return ""
	}
	return f.Args[i]
}

// A journal is a list in Redis. A fact is appended before the next thing
// happens, so facts that are ordered by a lock or an event stand in that order.
type journal struct {
	client redis.UniversalClient
	key    string
}

func (s Setting) journal() journal { return journal{s.Client, s.key("journal")} }

func (j journal) add(ctx context.Context, f Fact) error {
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	pipe := j.client.Pipeline()
	pipe.RPush(ctx, j.key, data)
	pipe.Expire(ctx, j.key, lapse)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("journal of the run: %w", err)
	}
	return nil
}

// read gives the facts in order. A command whose reply was lost is sent again
// by the client; what was appended twice counts once, where it came first.
func (j journal) read(ctx context.Context) ([]Fact, error) {
	rows, err := j.client.LRange(ctx, j.key, 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("journal of the run: %w", err)
	}
	type id struct {
		worker string
		seq    int
	}
	seen := make(map[id]bool)
	facts := make([]Fact, 0, len(rows))
	for _, row := range rows {
		var f Fact
		if err := json.Unmarshal([]byte(row), &f); err != nil {
			return nil, fmt.Errorf("journal of the run: %w", err)
		}
		if !seen[id{f.Worker, f.Seq}] {
			seen[id{f.Worker, f.Seq}] = true
			facts = append(facts, f)
		}
	}
	return facts, nil
}
