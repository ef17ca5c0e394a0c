package fencing

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Hash is a value in Redis that the holders of a lock read and write, in turn.
type Hash struct {
	Client redis.UniversalClient
	Key    string
}

// inTurn compares and writes in one step.
//
// KEYS[1] a hash: value, and token, that of the latest holder who was here
// ARGV[1] the caller's token, ARGV[2] the new value; without it, only read
// Returns {1, value}, or {0}: a later holder has been here
var inTurn = redis.NewScript(`
local seen = redis.call('HGET', KEYS[1], 'token')
if seen and tonumber(seen) > tonumber(ARGV[1]) then return {0} end
redis.call('HSET', KEYS[1], 'token', ARGV[1])
if ARGV[2] then redis.call('HSET', KEYS[1], 'value', ARGV[2]) end
return {1, redis.call('HGET', KEYS[1], 'value') or ''}
`)

// Read returns the value, and keeps earlier holders from changing it.
func (h Hash) Read(ctx context.Context, token uint64) (string, error) {
	return h.run(ctx, token)
}

// Write replaces the value.
func (h Hash) Write(ctx context.Context, token uint64, value string) error {
	_, err := h.run(ctx, token, value)
	return err
}

func (h Hash) run(ctx context.Context, args ...any) (string, error) {
	answer, err := inTurn.Run(ctx, h.Client, []string{h.Key}, args...).Slice()
	if err != nil {
		return "", err
	}
	if len(answer) < 2 {
		return "", ErrOlder
	}
	return answer[1].(string), nil
}
