// Package accesslog turns HAProxy's log into numbers: for each service how
// often it is asked, by whom, for what, how it answers and how long that takes.
// HAProxy sends one datagram a request to a Unix socket of the agent (Socket);
// Parse takes it apart, and a Counter adds it up, with a bound on how much it
// ever holds. Nothing here talks to HAProxy, which must not wait for us.
package accesslog
