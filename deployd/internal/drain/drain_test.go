package drain

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/soaconfig"
)

func address(t *testing.T, server *httptest.Server) (string, int) {
	t.Helper()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return u.Hostname(), port
}

func TestHacheck(t *testing.T) {
	t.Parallel()
	down := map[string]time.Time{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Path
		switch since, is := down[name]; {
		case r.Method == http.MethodPost && r.FormValue("status") == "down":
			if _, err := strconv.Atoi(r.FormValue("expiration")); err != nil {
				t.Errorf("expiration %q", r.FormValue("expiration"))
			}
			down[name] = time.Now()
		case r.Method == http.MethodPost:
			delete(down, name)
		case is:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, "Service %s in down state since %.3f: Drained by Paasta", name, float64(since.UnixMilli())/1000)
		}
	}))
	t.Cleanup(server.Close)
	host, port := address(t, server)
	h := Hacheck{Port: port, Delay: 10 * time.Second, Expiration: time.Minute}
	target := Target{Host: host, Port: 31000, Registrations: []string{"web.main", "web.all"}}
	state := func(wantDraining, wantSafe bool) {
		t.Helper()
		draining, safe, err := h.State(t.Context(), target)
		if err != nil || draining != wantDraining || safe != wantSafe {
			t.Errorf("draining %v safe %v, %v; want %v %v", draining, safe, err, wantDraining, wantSafe)
		}
	}
	state(false, false)
	if err := h.Start(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if len(down) != 2 || down["/spool/web.main/31000/status"].IsZero() {
		t.Errorf("down: %v", down)
	}
	state(true, false)
	h.Delay = 0 // means none
	state(true, true)
	h.Delay = 10 * time.Second
	for name := range down {
		down[name] = time.Now().Add(-11 * time.Second)
	}
	state(true, true)
	if err := h.Stop(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	state(false, false)
}

func FuzzParseSpool(f *testing.F) {
	f.Add("Service web.main in down state since 1450.25 until 1500: why")
	f.Add("Service x in up state")
	f.Add("in state since ..")
	f.Fuzz(func(t *testing.T, text string) {
		if down, _, err := parseSpool("u", "503", text); err == nil && down && !strings.Contains(text, "down") {
			t.Errorf("%q is down", text)
		}
	})
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	var calls []string
	status := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls = append(calls, r.Method+" "+r.URL.String())
		w.WriteHeader(max(status[r.URL.Path], 200))
	}))
	t.Cleanup(server.Close)
	host, port := address(t, server)
	h := HTTP{URLs: map[string]soaconfig.DrainURL{
		"drain":           {URLFormat: "http://{host}:{port}/drain?ns={nerve_ns}&i={service}.{instance}", Method: "POST"},
		"stop_draining":   {URLFormat: "http://{host}:{port}/stop"},
		"is_draining":     {URLFormat: "http://{host}:{port}/is", SuccessCodes: "503"},
		"is_safe_to_kill": {URLFormat: "http://{host}:{port}/safe", SuccessCodes: "200-399, 500"},
	}}
	target := Target{Host: host, Port: port, Service: "web", Instance: "main", Registrations: []string{"web.main"}}
	if err := h.Start(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if want := "POST /drain?ns=web.main&i=web.main"; len(calls) != 1 || calls[0] != want {
		t.Errorf("calls %v, want %s", calls, want)
	}
	status["/is"], status["/safe"] = 503, 500
	if draining, safe, err := h.State(t.Context(), target); !draining || !safe || err != nil {
		t.Errorf("draining %v safe %v %v", draining, safe, err)
	}
	status["/is"], status["/safe"] = 200, 404
	if draining, safe, err := h.State(t.Context(), target); draining || safe || err != nil {
		t.Errorf("draining %v safe %v %v", draining, safe, err)
	}
	status["/stop"] = 500
	if err := h.Stop(t.Context(), target); err == nil {
		t.Error("a refused stop_draining is no error")
	}
	if _, err := success("2xx", 200); err == nil {
		t.Error("2xx is no range of codes")
	}
}
