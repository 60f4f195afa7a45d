package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/localrun"
	"github.com/gopaasta/paasta/paasta/paastatest"
)

// A container of a playground's engine is in the playground's network; its port
// is handed through to this machine's.
func TestReachThePlayground(t *testing.T) {
	paastatest.NeedRoot(t)
	ip, busybox := paastatest.Need(t, "ip"), paastatest.Need(t, "busybox")
	dir := t.TempDir()
	sum := sha256.Sum256([]byte(dir))
	name := "paasta-" + hex.EncodeToString(sum[:3])
	text, err := json.Marshal(map[string]string{"dir": dir, "name": name})
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"playground.json": string(text), "page": "from inside"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"netns", "add", name}, {"-n", name, "link", "set", "lo", "up"}} {
		if out, err := exec.Command(ip, args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %q: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command(ip, "netns", "delete", name).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	inside := exec.Command(ip, "netns", "exec", name, busybox, "httpd", "-f", "-p", "127.0.0.1:8888", "-h", dir)
	if err := inside.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inside.Process.Kill(); inside.Wait() })

	env, _, _ := testEnv()
	port, err := localrun.FreePort(0)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := reachFrom(env, "unix:///run/"+name+"/docker.sock", port); err != nil || r.dial != nil {
		t.Errorf("without the playground's settings: %v", err)
	}
	t.Setenv("PAASTA_PLAYGROUND", dir)
	if r, err := reachFrom(env, "unix:///run/docker.sock", port); err != nil || r.dial != nil {
		t.Errorf("another engine: %v", err)
	}
	r, err := reachFrom(env, "unix:///run/"+name+"/docker.sock", port)
	if err != nil {
		t.Fatal(err)
	}
	r.forward("127.0.0.1:8888")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		body, err := page(fmt.Sprintf("http://127.0.0.1:%d/page", port))
		if err == nil && body == "from inside" {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("the page is %q, %v", body, err)
			break
		}
	}
	r.close()
	if _, err := page(fmt.Sprintf("http://127.0.0.1:%d/page", port)); err == nil {
		t.Error("it is still handed through")
	}
}

func page(url string) (string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}
