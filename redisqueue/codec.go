package redisqueue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
)

// Codec turns values into bytes and back. All who use a queue must use one of
// the same name. It must be safe for concurrent use.
type Codec interface {
	// Name is 1 to 64 ASCII characters without spaces. It is kept in Redis and
	// compared.
	Name() string
	// Encode returns the bytes of a value.
	Encode(v any) ([]byte, error)
	// Decode stores the value of the bytes in what v points to. It may keep
	// data.
	Decode(data []byte, v any) error
}

// JSON is the codec for everything but []byte and string, as encoding/json does
// it, with one exception: null is decoded only into what can be nil (a pointer,
// map, slice or interface, or a type with an UnmarshalJSON of its own).
var JSON Codec = jsonCodec{}

// Raw is the codec for []byte and string: the bytes as they are.
var Raw Codec = rawCodec{}

type jsonCodec struct{}

func (jsonCodec) Name() string { return "json" }

func (jsonCodec) Encode(v any) ([]byte, error) { return json.Marshal(v) }

func (jsonCodec) Decode(data []byte, v any) error {
	if string(bytes.TrimSpace(data)) == "null" {
		if _, own := v.(json.Unmarshaler); !own && !nillable(reflect.TypeOf(v).Elem().Kind()) {
			return fmt.Errorf("null is no %v", reflect.TypeOf(v).Elem())
		}
	}
	return json.Unmarshal(data, v)
}

func nillable(k reflect.Kind) bool {
	return k == reflect.Pointer || k == reflect.Map || k == reflect.Slice || k == reflect.Interface
}

type rawCodec struct{}

func (rawCodec) Name() string { return "raw" }

func (rawCodec) Encode(v any) ([]byte, error) {
	switch v := v.(type) {
	case []byte:
		return v, nil
	case string:
		return []byte(v), nil
	}
	return nil, fmt.Errorf("the codec raw takes []byte and string, not %T", v)
}

func (rawCodec) Decode(data []byte, v any) error {
	switch v := v.(type) {
	case *[]byte:
		*v = data
	case *string:
		*v = string(data)
	default:
		return fmt.Errorf("the codec raw gives []byte and string, not %T", v)
	}
	return nil
}

// defaultCodec is the codec of a queue of T.
func defaultCodec[T any]() Codec {
	switch any((*T)(nil)).(type) {
	case *[]byte, *string:
		return Raw
	}
	return JSON
}
