package examples

import (
	"os/exec"
	"testing"
)

// What is written is a module that builds and passes its tests with nothing but
// the standard library.
func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 2 { // writing again changes nothing
		if err := Write("hello", dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"vet", "./..."}, {"test", "./..."}} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(cmd.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("go %s: %v\n%s", args[0], err, out)
		}
	}
	if err := Write("goodbye", t.TempDir()); err == nil {
		t.Error("an example that is not there: no error")
	}
}
