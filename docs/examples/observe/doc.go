// Package observe shows how to feed what Options.Observe hears to Prometheus
// and to OpenTelemetry. docs/observe.md tells more. The code is there to be copied:
// the library itself depends on neither.
package observe
