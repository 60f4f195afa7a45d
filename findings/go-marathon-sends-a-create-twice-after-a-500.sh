#!/bin/bash
# Library: github.com/gambol99/go-marathon v0.7.1, the Go client of Marathon's REST API.
#
# People expect: a request that changes something and was answered with an error is not sent again behind the caller's back.
# It does: with several members in its URL, any answer of 500 or above to any request, a POST that creates an app among them, marks that member down
#   and sends the same request to the next member; the first answer is lost. When no member is left it says "all the Marathon hosts are presently
#   down", also where each of them has answered, and it says so for the next 5 seconds without asking anybody.
# Why it matters here: a 500 says nothing about whether the app was created. A driver must expect a 409 for its own first attempt, and one
#   faulty answer of a single Marathon must not stop everything for 5 seconds.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'END'
module finding

go 1.26

require github.com/gambol99/go-marathon v0.7.1
END
cat >main.go <<'END'
package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"

	marathon "github.com/gambol99/go-marathon"
)

func main() {
	var posts atomic.Int32
	member := func(name string) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/ping":
				http.Error(w, "busy", http.StatusServiceUnavailable)
			case r.Method == http.MethodPost:
				io.Copy(io.Discard, r.Body)
				fmt.Printf("  %s gets POST number %d and answers 500\n", name, posts.Add(1))
				http.Error(w, `{"message":"storage is slow"}`, http.StatusInternalServerError)
			}
		}))
	}
	a, b := member("member a"), member("member b")
	config := marathon.NewDefaultConfig()
	config.URL = a.URL + "," + strings.TrimPrefix(b.URL, "http://")
	client, err := marathon.NewClient(config)
	if err != nil {
		panic(err)
	}
	for range 2 {
		fmt.Println("CreateApplication, once:")
		_, err = client.CreateApplication(marathon.NewDockerApplication().Name("/web").Count(1))
		fmt.Println("  it returns:", err)
	}
	fmt.Println("POSTs:", posts.Load())
}
END
go mod tidy 2>/dev/null
go list -m github.com/gambol99/go-marathon
go run . | tee out
grep -q '^POSTs: 2$' out || { echo "changed: another number of POSTs"; exit 1; }
[ "$(grep -c 'all the Marathon hosts are presently down' out)" = 2 ] || { echo "changed: another error"; exit 1; }
