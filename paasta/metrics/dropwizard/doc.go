// Package dropwizard gives a service counters, meters, histograms and timers
// and serves them as the JSON that Dropwizard's Metrics and uwsgi_metrics
// print. It imports only the standard library, so that a service can take it
// without taking ours. The host agent collects it from services whose
// namespace says metrics_uri.
//
//	reg := dropwizard.NewRegistry()
//	mux.Handle("GET /users/{id}", reg.Middleware("users", users))
//	mux.Handle("GET /status/metrics", reg)
//
// All types are safe for concurrent use. Times come from the registry's clock,
// so that tests need not wait.
package dropwizard
