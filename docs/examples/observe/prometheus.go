package observe

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/multihost/multihost/redislock"
)

// Prometheus returns a function for Options.Observe of all locks of a program,
// and registers its metrics: call it once.
func Prometheus(registry prometheus.Registerer) func(redislock.Observation) {
	factory := promauto.With(registry)
	buckets := prometheus.ExponentialBuckets(0.001, 4, 10) // 1 ms to 262 s
	waited := factory.NewHistogramVec(prometheus.HistogramOpts{
		Name: "lock_wait_seconds", Help: "How long it took to acquire a lock.", Buckets: buckets,
	}, []string{"lock", "how"})
	held := factory.NewHistogramVec(prometheus.HistogramOpts{
		Name: "lock_held_seconds", Help: "How long a lock was held until it was released or lost.", Buckets: buckets,
	}, []string{"lock", "end"})
	others := factory.NewCounterVec(prometheus.CounterOpts{
		Name: "lock_observations_total", Help: "What else happened: waiting, fallback, reconnected.",
	}, []string{"lock", "kind"})

	return func(o redislock.Observation) {
		switch o.Kind {
		case redislock.Acquired:
			waited.WithLabelValues(o.Name, string(o.How)).Observe(o.Duration.Seconds())
		case redislock.Released, redislock.Lost:
			held.WithLabelValues(o.Name, string(o.Kind)).Observe(o.Duration.Seconds())
		default:
			others.WithLabelValues(o.Name, string(o.Kind)).Inc()
		}
	}
}
