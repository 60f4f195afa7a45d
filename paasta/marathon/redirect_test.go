package marathon_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/marathon/marathontest"
	"github.com/gopaasta/paasta/paasta/marathon"
)

func client(t *testing.T, urls ...string) *marathon.Client {
	t.Helper()
	c, err := marathon.New(marathon.Options{URLs: urls, User: "paasta", Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// attaches waits until c reads the event stream of m, again and again if times
// is more than one.
func attaches(t *testing.T, c *marathon.Client, within time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	attached := false
	if err := c.Events(ctx, func(marathon.Event) {}, func() { attached = true; cancel() }); err != nil || !attached {
		t.Errorf("the event stream was not attached within %v: %v", within, err)
	}
}

func TestAStandbyRedirects(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		all  bool
		urls func(leader *marathontest.Server, standby *httptest.Server) []string
	}{
		{"to a configured member", true, func(l *marathontest.Server, s *httptest.Server) []string {
			return []string{s.URL, strings.Replace(l.Leader(), "localhost", "LOCALHOST", 1)}
		}},
		{"to the leader that it names", false, func(_ *marathontest.Server, s *httptest.Server) []string { return []string{s.URL} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := marathontest.Start(t)
			m.Auth("paasta", "secret")
			c := client(t, tc.urls(m, m.Standby(t, tc.all))...)
			attaches(t, c, 10*time.Second) // the first call: nobody has named a leader yet
			if err := c.Create(t.Context(), definition("web.main.git1.config1", 2)); err != nil {
				t.Fatal(err) // a POST stays one, with its body
			}
			tasks := m.Tasks("web.main.git1.config1")
			if len(tasks) != 2 {
				t.Fatalf("%d tasks, want 2", len(tasks))
			}
			if err := c.KillTasks(t.Context(), []string{tasks[0].ID}, true, true); err != nil {
				t.Error(err)
			}
			if size := m.Size("web.main.git1.config1"); size != 1 {
				t.Errorf("size %d after one kill with scale, want 1", size)
			}
			attaches(t, c, 10*time.Second)
		})
	}
}

// A standby's redirect is followed to Marathon only: credentials go nowhere else.
func TestARedirectElsewhereIsNotFollowed(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(elsewhere.Close)
	for name, location := range map[string]string{
		"another host": elsewhere.URL + "/v2/apps", "no host": "//", "another scheme": "ftp://m1/v2/apps", "none": "",
	} {
		t.Run(name, func(t *testing.T) {
			standby := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Marathon-Leader", "http://leader:8080")
				w.Header().Set("Location", location)
				w.WriteHeader(http.StatusFound)
			}))
			t.Cleanup(standby.Close)
			m := marathontest.Start(t)
			m.Auth("paasta", "secret")
			if _, err := client(t, standby.URL, m.URL).Apps(t.Context()); err != nil {
				t.Errorf("the next member was not asked: %v", err)
			}
			_, err := client(t, standby.URL).Apps(t.Context())
			if err == nil || !strings.Contains(err.Error(), "redirect not followed") {
				t.Errorf("only the standby: %v", err)
			}
		})
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("a host that is no Marathon of ours was asked %d times", n)
	}
}

func TestMembersThatHaveNoAnswer(t *testing.T) {
	t.Parallel()
	leader := marathontest.Start(t) // takes nobody's password
	leader.Auth("paasta", "another")
	for name, first := range map[string]http.HandlerFunc{
		"502":                  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"503":                  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"a redirect to itself": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.RequestURI, http.StatusFound) },
		"401 after a redirect": leader.Standby(t, true).Config.Handler.ServeHTTP,
		"a leader that has ended": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Marathon-Leader", "http://127.0.0.1:1")
			http.Redirect(w, r, "http://127.0.0.1:1"+r.RequestURI, http.StatusTemporaryRedirect)
		},
		"403 after a redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("again") {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			http.Redirect(w, r, "?again", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			member := httptest.NewServer(first)
			t.Cleanup(member.Close)
			m := marathontest.Start(t)
			m.Auth("paasta", "secret")
			c := client(t, member.URL, m.URL)
			attaches(t, c, 10*time.Second)
			c = client(t, member.URL, m.URL)
			var answer *marathon.StatusError
			if err := c.Scale(t.Context(), "nothere", 1, false); !errors.As(err, &answer) || answer.Code != http.StatusUnprocessableEntity {
				t.Errorf("the second member was not asked: %v", err)
			}
		})
	}
	if _, err := client(t, leader.Standby(t, true).URL).Apps(t.Context()); err == nil || !strings.Contains(err.Error(), "401 Unauthorized") {
		t.Errorf("with nobody left the reason is not said: %v", err)
	}
}

// While a leader is elected every member answers 503. A POST that no leader got
// is made when there is one, once; the stream comes back by itself.
func TestAnElection(t *testing.T) {
	t.Parallel()
	m := marathontest.Start(t)
	m.Auth("paasta", "secret")
	c := client(t, m.Standby(t, false).URL, m.URL)
	attached := make(chan bool, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Events(ctx, func(marathon.Event) {}, func() { attached <- true }) }()
	defer func() { cancel(); <-done }()
	wait := func(what string) {
		t.Helper()
		select {
		case <-attached:
		case <-time.After(15 * time.Second):
			t.Fatalf("the event stream was not attached %s", what)
		}
	}
	wait("at first")
	m.Elect(5 * time.Second)
	if _, err := c.Apps(t.Context()); err == nil || !strings.Contains(err.Error(), "Could not determine the current leader") {
		t.Errorf("during the election: %v", err)
	}
	wait("after the election")
	if _, err := c.Apps(t.Context()); err != nil {
		t.Errorf("after the election: %v", err)
	}
}

// A standby that has found no leader has not passed a POST on, so the next
// member gets it.
func TestAPostThatNoLeaderGotIsMade(t *testing.T) {
	t.Parallel()
	for _, said := range []string{"Could not determine the current leader", "Detected proxying loop.", "Connection to leader refused."} {
		standby := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, said, http.StatusBadGateway)
		}))
		t.Cleanup(standby.Close)
		m := marathontest.Start(t)
		if err := client(t, standby.URL, m.URL).Create(t.Context(), definition("web", 1)); err != nil || len(m.Posted()) != 1 {
			t.Errorf("%s: %v, made %v", said, err, m.Posted())
		}
	}
}

func definition(id string, size int) marathon.Definition {
	return marathon.Definition{
		ID: id, Instances: size, CPUs: 0.1, Mem: 32, BackoffFactor: 2,
		Container: marathon.Container{Type: "DOCKER", Docker: marathon.Docker{Image: "x", Network: "BRIDGE"}, Volumes: []marathon.Volume{}},
	}
}
