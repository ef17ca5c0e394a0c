package observe

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/multihost/multihost/redislock"
)

// OpenTelemetry returns a function for Options.Observe of all locks of a
// program.
func OpenTelemetry(meter metric.Meter) (func(redislock.Observation), error) {
	buckets := metric.WithExplicitBucketBoundaries(0.001, 0.004, 0.016, 0.064, 0.25, 1, 4, 16, 64, 256)
	waited, err1 := meter.Float64Histogram("lock.wait.duration", metric.WithUnit("s"), buckets,
		metric.WithDescription("How long it took to acquire a lock."))
	held, err2 := meter.Float64Histogram("lock.held.duration", metric.WithUnit("s"), buckets,
		metric.WithDescription("How long a lock was held until it was released or lost."))
	others, err3 := meter.Int64Counter("lock.observations",
		metric.WithDescription("What else happened: waiting, fallback, reconnected."))
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}

	return func(o redislock.Observation) {
		ctx := context.Background() // an observation belongs to no request
		with := func(key, value string) metric.MeasurementOption {
			return metric.WithAttributes(attribute.String("lock", o.Name), attribute.String(key, value))
		}
		switch o.Kind {
		case redislock.Acquired:
			waited.Record(ctx, o.Duration.Seconds(), with("how", string(o.How)))
		case redislock.Released, redislock.Lost:
			held.Record(ctx, o.Duration.Seconds(), with("end", string(o.Kind)))
		default:
			others.Add(ctx, 1, with("kind", string(o.Kind)))
		}
	}, nil
}
