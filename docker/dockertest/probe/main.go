// Command probe is a small server for tests to run in containers and as plain
// processes. It listens on -listen, else on :$PORT0, else on :8888, and answers
//
//	GET /status             200, or 503 after /fail
//	GET /fail, /recover     set the answer of /status
//	GET /exit?code=N        ends the process
//	GET /print?text=T       prints a line on stdout (and on stderr with to=stderr)
//	GET /                   its version, host name, arguments and environment, as JSON
//
// VERSION in the environment is its version; DELAY (a Go duration) delays the
// listening; IGNORE_TERM=1 makes it deaf to SIGTERM.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	listen := flag.String("listen", "", "listen on `ADDR`")
	flag.Parse()
	if *listen == "" {
		*listen = ":8888"
		if port := os.Getenv("PORT0"); port != "" && flag.Arg(0) == "port0" {
			*listen = ":" + port
		}
	}
	if flag.Arg(0) == "true" {
		return // what a COMMAND health check runs
	}
	// As process 1 of a container nothing ends us unless we say so.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		for s := range signals {
			fmt.Fprintln(os.Stderr, "got", s)
			if os.Getenv("IGNORE_TERM") == "" {
				os.Exit(0)
			}
		}
	}()
	if delay, err := time.ParseDuration(os.Getenv("DELAY")); err == nil {
		time.Sleep(delay)
	}
	var failing atomic.Bool
	http.HandleFunc("/status", func(w http.ResponseWriter, _ *http.Request) {
		if failing.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("/fail", func(http.ResponseWriter, *http.Request) { failing.Store(true) })
	http.HandleFunc("/recover", func(http.ResponseWriter, *http.Request) { failing.Store(false) })
	http.HandleFunc("/exit", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.FormValue("code"))
		os.Exit(code)
	})
	http.HandleFunc("/print", func(_ http.ResponseWriter, r *http.Request) {
		if r.FormValue("to") == "stderr" {
			fmt.Fprintln(os.Stderr, r.FormValue("text"))
			return
		}
		fmt.Println(r.FormValue("text"))
	})
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		name, _ := os.Hostname()
		_ = json.NewEncoder(w).Encode(map[string]any{
			"version": os.Getenv("VERSION"), "host": name, "args": os.Args, "env": os.Environ(),
		})
	})
	fmt.Println("listening on", *listen)
	if err := http.ListenAndServe(*listen, nil); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}
