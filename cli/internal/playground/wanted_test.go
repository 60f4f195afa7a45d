//go:build linux

package playground

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// A mistake in a file closes no port that was open, and gives it to nobody else.
func TestForwardsOutliveMistakes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(service, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, service), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, service, "smartstack.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := &Playground{Address: "127.0.0.1"}
	var had []Forward
	served := map[int]bool{}
	want := func(step string, want ...string) {
		t.Helper()
		tree, err := soaconfig.Load(t.Context(), dir, soaconfig.Options{Clusters: []string{Cluster}})
		if err != nil {
			t.Fatal(err)
		}
		had = p.wantedForwards(tree, had, func(f Forward) bool { return served[f.Port] })
		var got []string
		for _, f := range p.proxiesOf(slices.Clone(had)) {
			got = append(got, fmt.Sprintf("%s:%d", f.What, f.Port))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", step, got, want)
		}
	}
	write("web", "main: {proxy_port: 20001}\nadmin: {proxy_port: 20002}\n")
	write("zoo", "main: {proxy_port: 20003}\n")
	want("at first", "web.admin:20002", "web.main:20001", "zoo.main:20003")
	write("web", "main: {proxy_port: 20001, mode: htpp}\nadmin: {proxy_port: 20002}\n")
	want("one namespace is broken", "web.admin:20002", "web.main:20001", "zoo.main:20003")
	write("web", "main: {proxy_port: 'x\n")
	want("the file is unreadable", "web.admin:20002", "web.main:20001", "zoo.main:20003")
	write("web", "[]\n")
	want("the file is a list", "web.admin:20002", "web.main:20001", "zoo.main:20003")
	write("abc", "main: {proxy_port: 20001}\n")
	want("another service asks for its port", "web.admin:20002", "web.main:20001", "zoo.main:20003")
	write("web", "main: {proxy_port: 20001}\nadmin: {proxy_port: 20002}\n")
	want("both ask for it", "web.admin:20002", "web.main:20001", "zoo.main:20003")
	write("web", "main: {proxy_port: 20005}\n")
	want("it moves, and the other one gets it", "abc.main:20001", "web.main:20005", "zoo.main:20003")
	served = map[int]bool{20001: true, 20003: true, 20005: true}
	if err := os.Remove(filepath.Join(dir, "zoo", "smartstack.yaml")); err != nil {
		t.Fatal(err)
	}
	want("a file is gone, and the agent serves on", "abc.main:20001", "web.main:20005", "zoo.main:20003")
	if err := os.RemoveAll(filepath.Join(dir, "zoo")); err != nil {
		t.Fatal(err)
	}
	write("ape", "main: {proxy_port: 20003}\n")
	want("all of it is gone, and another service asks for the port", "abc.main:20001", "web.main:20005", "zoo.main:20003")
	served[20003] = false
	want("the agent does not serve it any more", "abc.main:20001", "ape.main:20003", "web.main:20005")
	write("abc", "other: {proxy_port: 20006}\n")
	want("a namespace went, and its file is there", "abc.other:20006", "ape.main:20003", "web.main:20005")
}
