// Package nerve registers the services of this host that Marathon does not run:
// the monolith, databases. Each comes from one file; its checks decide whether
// its entries are in the registry, as ephemeral nodes, and a drain file
// publishes them with weight 0 for a while. It is the half of the host agent
// that writes to the registry; the rest of smartstack only reads it.
package nerve
