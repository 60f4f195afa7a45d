package marathon_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/marathon"
)

func TestTaskLogs(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/paasta/tasks/", func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/web_main.t1/logs") {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"message": "Task 'web_main.t2' does not exist"}`)
			return
		}
		fmt.Fprintf(w, `{"timestamp": "2026-01-02T03:04:05.678Z", "stream": "stdout", "message": "%s"}`+"\n", r.URL.RawQuery)
		fmt.Fprintln(w, `{"timestamp": "2026-01-02T03:04:06Z", "stream": "stderr", "message": "oops"}`)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	c, err := marathon.New(marathon.Options{URLs: []string{server.URL}})
	if err != nil {
		t.Fatal(err)
	}
	for follow, query := range map[bool]string{false: "lines=7", true: "lines=7&follow=true"} {
		var got []string
		err := c.TaskLogs(t.Context(), "web_main.t1", 7, follow, func(stream string, at time.Time, text string) error {
			got = append(got, stream+" "+at.Format(time.TimeOnly)+" "+text)
			return nil
		})
		want := "stdout 03:04:05 " + query + "|stderr 03:04:06 oops"
		if err != nil || strings.Join(got, "|") != want {
			t.Errorf("follow %v: %q, %v, want %q", follow, got, err, want)
		}
	}
	enough := errors.New("enough")
	for task, want := range map[string]error{"web_main.t1": enough, "web_main.t2": marathon.ErrNotFound} {
		if err := c.TaskLogs(t.Context(), task, 7, false, func(string, time.Time, string) error { return enough }); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", task, err, want)
		}
	}

	// Marathon on Mesos has no such path.
	for version, says := range map[string]http.HandlerFunc{
		"1.4": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(w, `{"message":"URI not found: %s"}`, r.URL.Path)
		},
		"1.7": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, `{"message":"URI not found"}`, http.StatusInternalServerError)
		},
		"a proxy's own": http.NotFound,
	} {
		real := httptest.NewServer(says)
		t.Cleanup(real.Close)
		if c, err = marathon.New(marathon.Options{URLs: []string{real.URL}}); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Ended(t.Context(), paasta.InstanceID{Service: "web", Instance: "main"}); got != nil || err != nil {
			t.Errorf("Marathon %s: ended %v, %v", version, got, err)
		}
		for _, follow := range []bool{false, true} {
			if err := c.TaskLogs(t.Context(), "web_main.t1", 7, follow, nil); !errors.Is(err, marathon.ErrNoOutput) || errors.Is(err, marathon.ErrNotFound) {
				t.Errorf("Marathon %s: %v", version, err)
			}
		}
	}
}
