package image

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

// Of "team", "secret:with:colons".
const htpasswd = "team:$2y$05$cjjPmhkc008fWEOuBqt3P.Z5O48lLc/oEf2yzAy4u3D7FnO7LZ0LW\n"

// startRegistry starts Debian's docker-registry and waits until it answers.
func startRegistry(t *testing.T, address, more, tls string) {
	t.Helper()
	program := paastatest.Need(t, "docker-registry")
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yaml")
	write(t, config, fmt.Sprintf("version: 0.1\nlog: {level: warn}\nstorage: {filesystem: {rootdirectory: %q}}\n%s\nhttp:\n  addr: %q\n%s", dir, more, address, tls))
	cmd := exec.Command(program, "serve", config)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("the registry said:\n%s", said.String())
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the registry does not answer: %v", err)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestPush(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	dockertest.OnEachStore(t, testPush)
}

func testPush(t *testing.T, docker *dockertest.Engine) {
	passwords := filepath.Join(t.TempDir(), "htpasswd")
	write(t, passwords, htpasswd)
	startRegistry(t, "127.0.0.1:5000", "", "")
	startRegistry(t, "127.0.0.1:5001", fmt.Sprintf("auth: {htpasswd: {realm: paasta, path: %q}}\n", passwords), "")
	t.Setenv("DOCKER_HOST", docker.Host)
	engine, err := Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	const name = "services-hello:paasta-0123456789abcdef0123456789abcdef01234567"

	for address, c := range map[string]Credentials{
		"127.0.0.1:5000": {},
		"127.0.0.1:5001": {"team", "secret:with:colons"},
	} {
		r := Registry{Address: address, Credentials: c}
		ref := address + "/" + name
		docker.BuildFiles(ref, map[string][]byte{"file": []byte(address)}, "FROM scratch", "COPY file /file")
		if has, err := engine.Has(t.Context(), ref); !has || err != nil {
			t.Fatalf("Has(%s) = %t, %v after a build", ref, has, err)
		}
		if has, err := r.Has(t.Context(), name); has || err != nil {
			t.Errorf("%s has %s: %t, %v before the push", address, name, has, err)
		}
		var seen []Progress
		if err := engine.Push(t.Context(), ref, c, func(p Progress) { seen = append(seen, p) }); err != nil {
			t.Fatal(err)
		}
		if len(seen) == 0 {
			t.Error("no progress was told")
		}
		if has, err := r.Has(t.Context(), name); !has || err != nil {
			t.Errorf("%s has %s: %t, %v after the push", address, name, has, err)
		}
	}

	for what, c := range map[string]Credentials{"none": {}, "wrong": {"team", "wrong"}} {
		_, err := Registry{Address: "127.0.0.1:5001", Credentials: c}.Has(t.Context(), name)
		if err == nil || !strings.Contains(err.Error(), "docker login 127.0.0.1:5001") {
			t.Errorf("with %s credentials: %v, want a word about docker login", what, err)
		}
		if err := engine.Push(t.Context(), "127.0.0.1:5001/"+name, c, func(Progress) {}); err == nil {
			t.Errorf("with %s credentials the push is no error", what)
		}
	}
	if has, err := engine.Has(t.Context(), "127.0.0.1:5000/services-none:x"); has || err != nil {
		t.Errorf("Has of no image = %t, %v", has, err)
	}
	if _, err := (Registry{Address: "127.0.0.1:1"}).Has(t.Context(), name); err == nil {
		t.Error("no registry, and no error")
	}
}

// A registry with TLS, which hands out tokens.
func TestRegistryWithToken(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	srv := httptest.NewTLSServer(mux)
	defer srv.Close()
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != "team" || password != "secret" || r.FormValue("scope") != "repository:services-web:pull,push" || r.FormValue("service") != "reg" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		io.WriteString(w, `{"token":"T"}`)
	})
	mux.HandleFunc("HEAD /v2/services-web/manifests/{tag}", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer T":
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+srv.URL+`/token",service="reg",scope="repository:services-web:pull,push"`)
			w.WriteHeader(http.StatusUnauthorized)
		case r.PathValue("tag") != "here":
			w.WriteHeader(http.StatusNotFound)
		}
	})
	r := Registry{Address: strings.TrimPrefix(srv.URL, "https://"), Credentials: Credentials{"team", "secret"}, HTTP: srv.Client()}
	for tag, want := range map[string]bool{"here": true, "gone": false} {
		if has, err := r.Has(t.Context(), "services-web:"+tag); has != want || err != nil {
			t.Errorf("Has(%s) = %t, %v, want %t", tag, has, err, want)
		}
	}
	r.Credentials.Password = "wrong"
	if _, err := r.Has(t.Context(), "services-web:here"); err == nil {
		t.Error("with a wrong password: no error")
	}
}

func TestFindCredentials(t *testing.T) {
	auth := base64.StdEncoding.EncodeToString([]byte("team:se:cret"))
	for name, test := range map[string]struct {
		file, text string
		want       Credentials
	}{
		"nothing there":        {"", "", Credentials{}},
		"another registry":     {".docker/config.json", `{"auths":{"other":{"auth":"` + auth + `"}}}`, Credentials{}},
		"docker login":         {".docker/config.json", `{"auths":{"reg:443":{"auth":"` + auth + `"}}}`, Credentials{"team", "se:cret"}},
		"a URL as key":         {".docker/config.json", `{"auths":{"https://reg:443/v1/":{"auth":"` + auth + `"}}}`, Credentials{"team", "se:cret"}},
		"the older file":       {".dockercfg", `{"reg:443":{"auth":"` + auth + `"}}`, Credentials{"team", "se:cret"}},
		"plain user, password": {".docker/config.json", `{"auths":{"reg:443":{"username":"u","password":"p"}}}`, Credentials{"u", "p"}},
		"a helper":             {".docker/config.json", `{"credHelpers":{"reg:443":"test"}}`, Credentials{"helped", "reg:443"}},
		"a store":              {".docker/config.json", `{"credsStore":"test"}`, Credentials{"helped", "reg:443"}},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			t.Setenv("HOME", home)
			t.Setenv("DOCKER_CONFIG", "")
			bin := t.TempDir()
			t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			helper := filepath.Join(bin, "docker-credential-test")
			write(t, helper, "#!/bin/sh\nread -r server\necho '{\"Username\":\"helped\",\"Secret\":\"'$server'\"}'\n")
			if err := os.Chmod(helper, 0o755); err != nil {
				t.Fatal(err)
			}
			if test.file != "" {
				path := filepath.Join(home, test.file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				write(t, path, test.text)
			}
			got, err := FindCredentials(t.Context(), "reg:443")
			if got != test.want || err != nil {
				t.Errorf("got %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
}

func TestParameters(t *testing.T) {
	t.Parallel()
	got := parameters(`realm="https://auth/token?a=b",service=reg , scope="repository:a:pull,push"`)
	for key, want := range map[string]string{"realm": "https://auth/token?a=b", "service": "reg", "scope": "repository:a:pull,push"} {
		if got[key] != want {
			t.Errorf("%s = %q, want %q", key, got[key], want)
		}
	}
}

func FuzzParameters(f *testing.F) {
	f.Add(`realm="a",b=c`)
	f.Add(`a="`)
	f.Fuzz(func(_ *testing.T, s string) { parameters(s) }) // neither panics nor hangs
}

func TestTarget(t *testing.T) {
	t.Parallel()
	paastatest.Need(t, "make")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "Makefile"), "DOCKER_TAG ?= none\nitest:\n\t@echo building $(DOCKER_TAG)\nbroken:\n\t@exit 7\nslow:\n\t@sleep 60\n")
	var out strings.Builder
	target := func(name string) Target { return Target{dir, name, "reg/web:1", &out, &out} }

	if err := target("itest").Make(t.Context()); err != nil || out.String() != "building reg/web:1\n" {
		t.Errorf("itest said %q, %v", out.String(), err)
	}
	var exit *exec.ExitError
	if err := target("broken").Make(t.Context()); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("broken: %v, want make's exit code 2", err)
	}
	if err := target("nothing").Make(t.Context()); !errors.Is(err, ErrNoTarget) {
		t.Errorf("nothing: %v, want ErrNoTarget", err)
	}
	if err := (Target{t.TempDir(), "itest", "", &out, &out}).Make(t.Context()); !errors.Is(err, ErrNoTarget) {
		t.Errorf("without a Makefile: %v, want ErrNoTarget", err)
	}
}
