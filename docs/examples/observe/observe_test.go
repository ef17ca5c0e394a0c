package observe_test

import (
	"context"
	"maps"
	"math"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/multihost/multihost/docs/examples/observe"
	"github.com/multihost/multihost/redislock"
)

// point is the state of a metric under one pair of labels.
type point struct {
	count   uint64
	seconds float64 // of a histogram, rounded to tenths
}

// want is what the turns of play should look like, by metric and its second label.
var want = map[string]point{
	"wait free":        {2, 0},
	"wait handed over": {1, 2},
	"held released":    {2, 5},
	"held lost":        {1, 9.9},
	"others waiting":   {1, 0},
}

// play runs three turns in fake time: one of 2 s, for the end of which another
// process waits, one of 3 s by that process, and one that is lost.
func play(t *testing.T, hear func(redislock.Observation)) {
	server := miniredis.NewMiniRedis()
	server.ClockTTL(true)
	defer server.Close()
	newLock := func(opts redislock.Options) *redislock.Lock {
		client := redis.NewClient(&redis.Options{
			Addr:                     "127.0.0.1:6379", // never dialled
			Dialer:                   func(context.Context, string, string) (net.Conn, error) { return server.Dial() },
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		t.Cleanup(func() { _ = client.Close() })
		opts.Observe = hear
		lock, err := redislock.New(client, "orders", &opts)
		if err != nil {
			t.Fatal(err)
		}
		return lock
	}
	hold := func(lock *redislock.Lock, d time.Duration) {
		lease, err := lock.Acquire(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		time.Sleep(d)
		_ = lease.Release(t.Context()) // the last one is lost by then
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		hold(newLock(redislock.Options{}), 2*time.Second)
	}()
	synctest.Wait()
	hold(newLock(redislock.Options{}), 3*time.Second)
	<-done
	hold(newLock(redislock.Options{TTL: 10 * time.Second, NoRenew: true}), time.Minute)
	time.Sleep(time.Second) // the library puts its connections away
}

func compare(t *testing.T, got map[string]point) {
	t.Helper()
	for name, p := range got {
		p.seconds = math.Round(10*p.seconds) / 10
		got[name] = p
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestPrometheusHearsWhatHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewPedanticRegistry()
		play(t, observe.Prometheus(registry))

		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		short := map[string]string{
			"lock_wait_seconds": "wait ", "lock_held_seconds": "held ", "lock_observations_total": "others ",
		}
		got := map[string]point{}
		for _, family := range families {
			for _, m := range family.Metric {
				labels := map[string]string{}
				for _, l := range m.Label {
					labels[l.GetName()] = l.GetValue()
				}
				if labels["lock"] != "orders" {
					t.Errorf("labels %v", labels)
				}
				delete(labels, "lock")
				for _, second := range labels {
					p := point{count: m.GetHistogram().GetSampleCount(), seconds: m.GetHistogram().GetSampleSum()}
					p.count += uint64(m.GetCounter().GetValue())
					got[short[family.GetName()]+second] = p
				}
			}
		}
		compare(t, got)
	})
}

func TestOpenTelemetryHearsWhatHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := metric.NewManualReader()
		provider := metric.NewMeterProvider(metric.WithReader(reader))
		hear, err := observe.OpenTelemetry(provider.Meter("example"))
		if err != nil {
			t.Fatal(err)
		}
		play(t, hear)

		var all metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &all); err != nil {
			t.Fatal(err)
		}
		got := map[string]point{}
		for _, m := range all.ScopeMetrics[0].Metrics {
			switch data := m.Data.(type) {
			case metricdata.Histogram[float64]:
				name, label := "wait ", "how"
				if m.Name == "lock.held.duration" {
					name, label = "held ", "end"
				}
				for _, p := range data.DataPoints {
					second, _ := p.Attributes.Value(attribute.Key(label))
					got[name+second.AsString()] = point{p.Count, p.Sum}
				}
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					second, _ := p.Attributes.Value("kind")
					got["others "+second.AsString()] = point{count: uint64(p.Value)}
				}
			}
		}
		compare(t, got)
	})
}
