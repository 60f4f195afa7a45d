package httpserver

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestOwnHostOnly(t *testing.T) {
	t.Parallel()
	h := OwnHostOnly(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }), "host1", "host1.example.com", "")
	for host, want := range map[string]int{
		"127.0.0.1:3213":            200,
		"127.0.0.1":                 200,
		"10.1.2.3:3213":             200,
		"[::1]:3213":                200,
		"[::1]":                     200,
		"[fe80::1]:80":              200,
		"localhost:3213":            200,
		"LOCALHOST":                 200,
		"host1":                     200,
		"HOST1:3213":                200,
		"host1.:3213":               200,
		"host1.example.com:3213":    200,
		"":                          200, // no browser
		"evil.example":              403,
		"evil.example:3213":         403,
		"host1.evil.example":        403,
		"localhost.evil.example":    403,
		"127.0.0.1.evil.example":    403,
		"127.0.0.1.nip.io:3213":     403,
		"xhost1":                    403,
		"evil.example:3213:80":      403,
		"evil.example\x1b[31m":      403,
		"0x7f000001":                403,
		"2130706433":                403,
		"host1.example.com.evil.tk": 403,
	} {
		r := httptest.NewRequest(http.MethodGet, "/status", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want || w.Code == 403 && (!strings.Contains(w.Body.String(), "ask by address, or as host1, host1.example.com\n") || strings.Contains(w.Body.String(), "\x1b")) {
			t.Errorf("%q: %d %q, want %d", host, w.Code, w.Body, want)
		}
	}
}

func TestHostNames(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 10.0.0.1\n# search no.example\nsearch example.com. prod.example.com\ndomain example.com\noptions ndots:1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, want := hostNames("host1", file), []string{"host1", "host1.example.com", "host1.prod.example.com"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := hostNames("host1", file+"x"); !slices.Equal(got, []string{"host1"}) {
		t.Errorf("%q without a resolver", got)
	}
	if got := hostNames("", file); got != nil {
		t.Errorf("%q without a name", got)
	}
}
