package marathon_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/gopaasta/paasta/paasta/marathon"
)

// A kill with scale lowers the app's size, so it is made once: another member
// gets it only when it certainly did not reach the first.
func TestAKillIsNotMadeTwice(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for _, tc := range []struct {
		name  string
		first http.HandlerFunc // nil: it does not listen
		kills int
	}{
		{"the first member is not there", nil, 1},
		{"the first member dies before it answers", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0},
		{"the first member waited too long for its leader", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url := gone.URL
			if tc.first != nil {
				first := httptest.NewServer(tc.first)
				t.Cleanup(first.Close)
				url = first.URL
			}
			var kills atomic.Int32
			second := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost && r.URL.Path == "/v2/tasks/delete" {
					kills.Add(1)
				}
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(`{}`))
			}))
			t.Cleanup(second.Close)
			c, err := marathon.New(marathon.Options{URLs: []string{url, second.URL}})
			if err != nil {
				t.Fatal(err)
			}
			err = c.KillTasks(t.Context(), []string{"web.1"}, true, true)
			if got := int(kills.Load()); got != tc.kills || (err == nil) != (tc.kills == 1) {
				t.Errorf("the second member was asked to kill %d times, want %d; KillTasks: %v", got, tc.kills, err)
			}
		})
	}
}
