// Package traffic says what the agents' counts of requests mean: which endpoint
// is slow, whether it is all backends or one, who calls what, what a service
// waits for, and whether a new version differs from the one before. It is pure:
// counts in, answers out, each with how sure it is. Where there are too few
// requests to tell, it says so.
package traffic
