package accesslog

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestEndpoints(t *testing.T) {
	t.Parallel()
	e := newEndpoints()
	e.setTemplates([]string{"/users/{id}", "/users/me", "/", "/files/{name}/{part}"})
	for _, c := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/users/alice", 200, "GET /users/{id}"},
		{"GET", "/users/me", 200, "GET /users/me"},
		{"PUT", "/users/12", 500, "PUT /users/{id}"},
		{"GET", "/users/12?x=/users/me", 404, "GET /users/{id}"}, // a template needs no teaching
		{"GET", "/", 200, "GET /"},
		{"GET", "/files/a/b", 200, "GET /files/{name}/{part}"},
		{"GET", "/users/", 200, "GET /users/"},
		{"BREW", "/pots/1", 200, "OTHER /pots/{id}"},
		{"GET", "/pots/1", 404, "other"},
		{"GET", "/orders/2024-01-02/lines/77", 200, "GET /orders/{id}/lines/{id}"},
		{"GET", "/api/v2/oauth2/deadbeefcafe1", 200, "GET /api/v2/oauth2/{id}"},
		{"GET", "/api/v2/a%20b", 301, "GET /api/v2/{id}"},
		{"GET", "/3f2504e0-4f89-11d3-9a0c-0305e82c3301", 200, "GET /{id}"},
		{"GET", "http://web/abs?x", 200, "GET /abs"},
		{"GET", "http://web", 200, "other"},
		{"OPTIONS", "*", 200, "other"},
		{"GET", "", 200, "other"},
		{"GET", "/a/b/c/d/e/f/g/h/i/j", 200, "GET /a/b/c/d/e/f/g/h/{rest}"},
		{"GET", "/a/b/c/d/e/f/g/h/x", 200, "GET /a/b/c/d/e/f/g/h/{rest}"},
	} {
		for range 2 { // the second time it is known
			if got := e.of([]byte(c.method), []byte(c.path), c.status, epoch); got.name != c.want {
				t.Errorf("%s %s: %q, want %q", c.method, c.path, got.name, c.want)
			}
		}
	}
}

func TestManyWordsAreParameters(t *testing.T) {
	t.Parallel()
	e := newEndpoints()
	for i := range 100 {
		e.of([]byte("GET"), []byte("/city/"+strings.Repeat("x", i%20)+string(rune('a'+i%26))), 200, epoch)
	}
	if got := e.of([]byte("GET"), []byte("/city/new"), 200, epoch); got.name != "GET /city/{id}" {
		t.Errorf("after many: %q", got.name)
	}
	e.forget(epoch.Add(2 * endpointLife))
	if e.count != 0 || len(e.known) != 0 {
		t.Errorf("after two days of silence %d are known", len(e.known))
	}
	e.of([]byte("GET"), []byte("/city/new"), 200, epoch)
	e.forget(epoch.Add(time.Hour))
	if got := e.of([]byte("GET"), []byte("/city/new"), 404, epoch); got.name != "GET /city/new" {
		t.Errorf("after an hour: %q", got.name)
	}
}

// Whatever is asked for, there are never more endpoints than there may be, and
// asking once more gives the same one.
func TestEndpointsAreBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := newEndpoints()
		e.setTemplates(rapid.SliceOfN(rapid.StringMatching(`(/([a-c]|\{x\})){1,3}`), 0, 5).Draw(t, "templates"))
		word := rapid.OneOf(rapid.StringMatching(`[a-z]{0,3}`), rapid.StringMatching(`[0-9a-f%-]{1,12}`), rapid.String())
		names := map[string]bool{}
		for range rapid.IntRange(1, 300).Draw(t, "requests") {
			method := rapid.SampledFrom([]string{"GET", "POST", "", "x"}).Draw(t, "method")
			path := "/" + strings.Join(rapid.SliceOfN(word, 0, 10).Draw(t, "words"), "/")
			got := e.of([]byte(method), []byte(path), 200, epoch)
			if again := e.of([]byte(method), []byte(path), 200, epoch); again != got {
				t.Fatalf("%s %q: %q, then %q", method, path, got.name, again.name)
			}
			names[got.name] = true
		}
		if e.count > maxEndpoints || len(names) > maxEndpoints+1+5*len(methods) {
			t.Errorf("%d endpoints are known, %d had names", e.count, len(names))
		}
	})
}

func BenchmarkEndpoints(b *testing.B) {
	e := newEndpoints()
	e.setTemplates([]string{"/users/{id}", "/users/{id}/orders/{order}"})
	var paths [][]byte
	for i := range 1000 {
		paths = append(paths, []byte(fmt.Sprintf("/users/%d/orders/%d", i, i)), []byte(fmt.Sprintf("/api/v1/things/%d", i)))
	}
	b.ReportAllocs()
	for i := range b.N {
		e.of([]byte("GET"), paths[i%len(paths)], 200, epoch)
	}
}
