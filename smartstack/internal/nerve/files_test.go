package nerve

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestFilesAreReadWhenTheyChange(t *testing.T) {
	t.Parallel()
	f := files{dir: filepath.Join(t.TempDir(), "services.d")}
	want := func(port int, why string) {
		t.Helper()
		services, broken, err := f.read()
		if err != nil || len(broken) > 0 || services["web.main"].Port != port {
			t.Fatalf("%s: port %d, want %d; broken %v, %v", why, services["web.main"].Port, port, broken, err)
		}
	}
	want(0, "no directory yet")
	if err := os.Mkdir(f.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(f.dir, "web.main.yaml")
	at := time.Now().Add(-time.Hour)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write("port: 1001\n")
	want(1001, "a new file")
	write("port: 1002\n")
	want(1001, "a file that looks as it did")
	f.forget()
	want(1002, "after an event")
	write("port: 10003\n")
	want(10003, "another size")
	at = at.Add(time.Second)
	write("port: 10004\n")
	want(10004, "another time")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	want(0, "no file any more")
}
