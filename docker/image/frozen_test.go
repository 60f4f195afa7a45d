package image

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/dockertest"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

// An engine that freezes in the middle of a push is told as such, long before
// it would have been too slow.
func TestPushFreezes(t *testing.T) {
	if !paastatest.InNamespace(t) {
		return
	}
	docker := dockertest.Start(t)
	var once sync.Once
	over := make(chan struct{})
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") { // it looks which layers are there
			once.Do(docker.Freeze)
			<-over
		}
	}))
	t.Cleanup(registry.Close)
	t.Cleanup(func() { // before that
		docker.Thaw()
		close(over)
	})
	ref := strings.TrimPrefix(registry.URL, "http://") + "/services-hello:paasta-1"
	docker.BuildFiles(ref, map[string][]byte{"file": []byte("content")}, "FROM scratch", "COPY file /file")
	t.Setenv("DOCKER_HOST", docker.Host)
	engine, err := Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	engine.client.Patience = 2 * time.Second
	if err := engine.Push(t.Context(), ref, Credentials{}, func(Progress) {}); !errors.Is(err, ErrSilent) || !strings.Contains(err.Error(), "push "+ref) {
		t.Errorf("the push ends with %v", err)
	}
}
