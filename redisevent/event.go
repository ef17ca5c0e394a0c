package redisevent

import (
	"context"
	"iter"
	"time"

	"github.com/redis/go-redis/v9"
)

type Options struct {
	Namespace     string
	TTL           time.Duration
	ControlClient redis.UniversalClient
	Observe       func(Observation)
}
type Observation struct{}
type State struct {
	Set     bool
	Changes uint64
}
type Event struct{}

var ErrMismatch, ErrUnavailable, ErrUnknownOutcome error

func New(client redis.UniversalClient, name string, opts *Options) (*Event, error) { panic("skeleton") }
func (e *Event) Set(ctx context.Context) error                                      { panic("skeleton") }
func (e *Event) Clear(ctx context.Context) error                                    { panic("skeleton") }
func (e *Event) Pulse(ctx context.Context) error                                    { panic("skeleton") }
func (e *Event) IsSet(ctx context.Context) (bool, error)                            { panic("skeleton") }
func (e *Event) Wait(ctx context.Context) error                                     { panic("skeleton") }
func (e *Event) State(ctx context.Context) (State, error)                           { panic("skeleton") }
func (e *Event) Delete(ctx context.Context) error                                   { panic("skeleton") }
func (e *Event) Watch(ctx context.Context) iter.Seq2[State, error]                  { panic("skeleton") }
