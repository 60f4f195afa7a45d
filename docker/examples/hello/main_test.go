package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAnswers(t *testing.T) {
	t.Setenv("MESOS_TASK_ID", "hello_main.task")
	srv := httptest.NewServer(handler())
	defer srv.Close()
	for path, want := range map[string]string{
		"/":       "hello from dev on hello_main.task\n",
		"/status": "ok\n",
	} {
		var out strings.Builder
		if err := get(t.Context(), srv.URL+path, &out); err != nil {
			t.Errorf("GET %s: %v", path, err)
		}
		if out.String() != want {
			t.Errorf("GET %s = %q, want %q", path, out.String(), want)
		}
	}
	var metrics strings.Builder
	if err := get(t.Context(), srv.URL+"/status/metrics", &metrics); err != nil || !strings.Contains(metrics.String(), `"hello.2xx":{"count":1}`) {
		t.Errorf("GET /status/metrics = %q, %v", metrics.String(), err)
	}
	if err := get(t.Context(), srv.URL+"/nothing", io.Discard); err == nil {
		t.Error("GET /nothing: no error")
	}
}

// A request that was begun before the service is told to stop is answered.
func TestStopsGracefully(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begun, finish := make(chan struct{}), make(chan struct{})
	slow := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-finish
		io.WriteString(w, "done")
	})
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, l, slow, io.Discard) }()

	var out strings.Builder
	answered := make(chan error, 1)
	go func() { answered <- get(t.Context(), "http://"+l.Addr().String(), &out) }()
	<-begun
	stop()
	close(finish)
	if err := <-answered; err != nil || out.String() != "done" {
		t.Errorf("the request that was begun got %q, %v", out.String(), err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
