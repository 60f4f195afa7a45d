// Package benchcmd is "paasta smartstack bench-reload": package benchreload in
// a network namespace of its own, with flags.
package benchcmd

import (
	"github.com/spf13/pflag"

	"github.com/gopaasta/paasta/paasta/command"
)

type benchFlags struct {
	strategies  []string
	requests    int
	reloads     int
	other       int
	concurrency int
	every       int
	full        bool
	json        bool
	picture     string
}

// Command is "paasta smartstack bench-reload".
func Command() command.Command {
	var f benchFlags
	return command.Command{
		Use:   "bench-reload",
		Short: "Measure what reloads of HAProxy do to connections, on this kernel",
		Long: `Run a web server, HAProxy before it and a load of new connections in a network
namespace of its own, reload HAProxy all the time by one strategy after the
other, and print what became of the requests. Also draws every request's latency
over time. Each request has one attempt. Where connections are held, a connect
of more than 900 ms and a SYN that the kernel sent again count as failures.
Needs root, and haproxy.`,
		Example: `  paasta smartstack bench-reload
  paasta smartstack bench-reload --full --strategy nfqueue,qdisc --json`,
		Flags: func(fs *pflag.FlagSet) {
			fs.StringSliceVar(&f.strategies, "strategy", nil, "run only `STRATEGY` (no-reload, plain, drop, sockets, nfqueue, qdisc, runtime; repeatable)")
			fs.IntVar(&f.requests, "requests", 50_000, "make at least `N` requests with each strategy that holds")
			fs.IntVar(&f.reloads, "reloads", 150, "make at least `N` reloads with each strategy that holds")
			fs.IntVar(&f.other, "other", 1, "make one `N`th of that with the other strategies")
			fs.IntVar(&f.concurrency, "concurrency", 10, "keep `N` connections busy")
			fs.IntVar(&f.every, "every", 100, "reload every `N` milliseconds")
			fs.BoolVar(&f.full, "full", false, "1,000,000 requests and 1,500 reloads, a fifth of that for those that do not hold")
			fs.StringVar(&f.picture, "picture", "reload-latency.svg", "draw the latencies into `FILE`; empty for no picture")
			fs.BoolVar(&f.json, "json", false, "print JSON")
		},
		Run: f.run,
	}
}
