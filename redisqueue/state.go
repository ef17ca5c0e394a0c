package redisqueue

import (
	"encoding/json"
	"errors"
	"strconv"

	"github.com/multihost/multihost/internal/hub"
)

// state reads the answer of state.
func (a answer) state() (State, error) {
	if a.word != "state" || len(a.rest) != 8 {
		return State{}, errReply
	}
	var n [4]int
	for i := range n {
		v, ok := a.rest[i].(int64)
		if !ok || v < 0 {
			return State{}, errReply
		}
		n[i] = int(v)
	}
	max, ok1 := a.rest[4].(string)
	codec, ok2 := a.rest[5].(string)
	down, ok3 := a.rest[6].(int64)
	list, ok4 := a.rest[7].([]any)
	size, err := strconv.Atoi(max)
	if !ok1 || !ok2 || !ok3 || !ok4 || err != nil || size < 0 || len(list)%4 != 0 {
		return State{}, errReply
	}
	s := State{
		Waiting: n[0], Parked: n[1], Delayed: n[2], Dead: n[3],
		MaxSize: size, Codec: codec, Shutdown: down == 1,
	}
	for ; len(list) > 0; list = list[4:] {
		c, err := consumer(list[:4])
		if err != nil {
			return State{}, err
		}
		s.Claimed += c.Claimed
		s.Consumers = append(s.Consumers, c)
	}
	return s, nil
}

func consumer(v []any) (Consumer, error) {
	id, ok1 := v[0].(string)
	metadata, ok2 := v[1].(string)
	claimed, ok3 := v[2].(int64)
	left, ok4 := v[3].(int64)
	if !ok1 || !ok2 || !ok3 || !ok4 || claimed < 0 {
		return Consumer{}, errReply
	}
	c := Consumer{ID: id, Claimed: int(claimed), TTL: millis(left)}
	if metadata != "" {
		if err := json.Unmarshal([]byte(metadata), &c.Metadata); err != nil {
			return Consumer{}, errors.Join(hub.ErrMismatch, err)
		}
	}
	return c, nil
}
