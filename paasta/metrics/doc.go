// Package metrics carries a Prometheus registry to those who do not scrape:
// Graphite, in its plaintext protocol. What a daemon measures it registers with
// the Prometheus registry that it is handed; package dropwizard is the JSON
// form for services.
package metrics
