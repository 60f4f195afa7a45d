package metrics

import "embed"

// Sources holds the source of package dropwizard, without its tests, for
// services that take a copy: it needs nothing but the standard library.
//
//go:embed dropwizard/doc.go dropwizard/meter.go dropwizard/middleware.go dropwizard/registry.go dropwizard/reservoir.go dropwizard/view.go
var Sources embed.FS
