#!/bin/bash
# Library: github.com/prometheus/client_golang/prometheus/graphite v1.25.0, which pushes a Prometheus registry to Graphite.
#
# People expect: label values, which may be any text in Prometheus, are made safe for Graphite's line protocol, as they are when tags are off.
# It does: with UseTags, values are written as they are. A blank splits the line, so that it has four fields where carbon reads three; a `;` in a
#   value starts another tag. Push returns nil. Without tags, values are cleaned, and then a/b, a.b and a_b become one and the same path.
# Why it matters here: the name of an instance, an endpoint ("GET /users") or a reason is a label value. Metrics of some services would be lost or
#   written under another name, and nothing would say so.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'END'
module finding

go 1.26

require github.com/prometheus/client_golang v1.25.0
END
cat >main.go <<'END'
package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/graphite"
)

// lines pushes one gauge with three values of a label and returns what a server got.
func lines(tags bool) []string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	got := make(chan []string)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			panic(err)
		}
		var all []string
		for s := bufio.NewScanner(conn); s.Scan(); {
			all = append(all, s.Text())
		}
		got <- all
	}()
	registry := prometheus.NewRegistry()
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "requests"}, []string{"endpoint"})
	registry.MustRegister(g)
	for i, v := range []string{"GET /users", "a;b=c", "a/b", "a.b", "a_b"} {
		g.WithLabelValues(v).Set(float64(i))
	}
	b, err := graphite.NewBridge(&graphite.Config{URL: l.Addr().String(), Gatherer: registry, UseTags: tags})
	if err != nil {
		panic(err)
	}
	fmt.Println("  Push returned", b.Push())
	return <-got
}

func main() {
	for _, tags := range []bool{true, false} {
		fmt.Printf("UseTags %v\n", tags)
		for _, line := range lines(tags) {
			fmt.Printf("  %d fields: %s\n", len(strings.Fields(line)), line)
		}
	}
}
END
go mod tidy 2>/dev/null
go list -m github.com/prometheus/client_golang
go run . | sed -E 's/ [0-9]{9,}$/ TIME/' | tee out
has() { grep -qF -- "$1" out || { echo "changed: no line with: $1"; exit 1; }; }
[ "$(grep -c 'Push returned <nil>' out)" = 2 ] || { echo "changed: Push says something"; exit 1; }
has '4 fields: requests;endpoint=GET /users'
has 'endpoint=a;b=c'
[ "$(grep -cF 'requests.endpoint.a_b ' out)" = 3 ] || { echo "changed: a/b, a.b and a_b are told apart without tags"; exit 1; }
