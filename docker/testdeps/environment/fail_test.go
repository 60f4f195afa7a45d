package environment_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/testdeps/environment"
	"github.com/gopaasta/paasta/paasta/command"
	"github.com/gopaasta/paasta/paasta/paastatest"
	"github.com/gopaasta/paasta/paasta/soaconfig"
)

// What goes wrong says which dependency, why, and what to do, and leaves nothing.
func testFailures(t *testing.T, w *world) {
	w.service("users", 20011, "")
	w.service("unmarked", 20012, "")
	w.write("unmarked/deployments.json", `{"v1": {}, "v2": {"deployments": {"test.canary": {"docker_image": "a:b", "git_sha": "`+sha+`"}}, "controls": {}}}`)
	w.service("unpushed", 20013, "")
	w.write("unpushed/deployments.json", `{"v1": {}, "v2": {"deployments": {"test.main": {"docker_image": "", "git_sha": "`+sha+`"}}, "controls": {}}}`)
	w.service("shell", 20016, "")
	w.write("shell/deployments.json", `{"v1": {}, "v2": {"deployments": {"test.main": {"docker_image": "`+shell+`", "git_sha": "`+sha+`"}}, "controls": {}}}`)
	w.service("sick", 20014, "", "  env: {DELAY: 1h}\n")
	w.service("ahead", 20015, "sick: {service: sick, ready: {timeout_s: 4}}\n")
	tests := map[string]struct {
		deps string
		is   []string
		hint string
	}{
		"ends at once": {
			"db: {image: 'example/tools:1', args: [sh, -c, 'echo no license >&2; exit 3'], ready: {log: started}}\n",
			[]string{"db: it ended with exit code 3", "The last that db logged:", "| no license"},
			"",
		},
		"never ready by HTTP": {
			"db: {image: 'example/tools:1', port: 80, args: [sh, -c, 'echo waiting; httpd -f -h /; sleep 100'], ready: {http: /nothing, timeout_s: 4}}\n",
			[]string{"db: not ready within 4s: GET /nothing answers 404", "| waiting"},
			"",
		},
		"never ready by TCP": {
			"db: {image: 'example/tools:1', port: 80, args: [sleep, '100'], ready: {tcp: true, timeout_s: 4}}\n",
			[]string{"db: not ready within 4s: ", "connection refused"},
			"",
		},
		"never ready by command": {
			"db: {image: 'example/tools:1', args: [sleep, '100'], ready: {cmd: 'echo not yet; exit 4', timeout_s: 15}}\n",
			[]string{`db: not ready within 15s: "echo not yet; exit 4" exits with 4: not yet`},
			"",
		},
		"never ready by log": {
			"db: {image: 'example/tools:1', args: [sh, -c, 'echo almost; sleep 100'], ready: {log: '^ready$', timeout_s: 4}}\n",
			[]string{`db: not ready within 4s: no line of its log matches "^ready$"`, "| almost"},
			"",
		},
		"killed for memory": {
			"hog: {service: shell, cmd: exec tail /dev/zero}\n",
			[]string{"hog: it ended with exit code 137 (signal 9): it was killed because it wanted more memory than its mem in soa-configs"},
			"",
		},
		"loses a process for memory and ends well": {
			"hog: {service: shell, cmd: tail /dev/zero; exit 0}\n",
			[]string{"hog: it ended with exit code 0; one of its processes was killed at the memory limit"},
			"",
		},
		"another's dependency is never ready": {
			"ahead: {service: ahead}\n",
			[]string{"ahead.sick: not ready within 4s: ", "connection refused"},
			"",
		},
		"no such image": {
			"db: {image: '127.0.0.1:1/example/nothing:7'}\n",
			[]string{"db: the engine has no image 127.0.0.1:1/example/nothing:7, and the registry 127.0.0.1:1 gives none of the tag 7: ", "connection refused"},
			"docker pull 127.0.0.1:1/example/nothing:7",
		},
		"not pushed": {
			"a: {service: unpushed}\n",
			[]string{"a: the engine has no image 127.0.0.1:1/services-unpushed:paasta-" + sha, "(commit 12345678, marked for test.main)"},
			"push it",
		},
		"not marked": {
			"a: {service: unmarked}\n",
			[]string{"a: nothing is marked for deployment to test.main of unmarked", "marked are only test.canary"},
			"paasta mark-for-deployment -s unmarked -l test.main -c COMMIT",
		},
		"no fixture": {
			"db: {image: 'example/tools:1', files: {schema.sql: /schema.sql}}\n",
			[]string{"db: its fixture schema.sql is not in "},
			"put the file beside ",
		},
		"no checkout": {
			"a: {service: users, build: ../users}\n",
			[]string{"a: build users in", "/users"},
			"",
		},
		"a build fails": {
			"a: {service: users, build: .}\n",
			[]string{"a: build users in", "make cook-image: exit status 2", "| nothing to cook"},
			"",
		},
		"ends while others come up": {
			"a: {image: 'example/tools:1', args: [sh, -c, 'echo over; sleep 1']}\nb: {image: 'example/tools:1', args: [sh, -c, 'sleep 6; echo up; sleep 100'], ready: {log: up}}\n",
			[]string{"a: it ended with exit code 0", "| over"},
			"",
		},
		"no command": {
			"db: {image: 'example/tools:1', args: [frobnicate]}\n",
			[]string{"db: start its container: ", "frobnicate"},
			"",
		},
	}
	t.Run("of a dependency", func(t *testing.T) {
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel() // they wait, for the most part
				w := w.copy(t)
				w.service("web", 20010, test.deps)
				if err := os.WriteFile(filepath.Join(w.dir, "Makefile"), []byte("cook-image:\n\t@echo nothing to cook; exit 1\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				x, err := w.e.Up(ctx, w.options("web"))
				if err == nil {
					w.down(t, x)
					t.Fatal("it came up")
				}
				if _, ok := errors.AsType[*environment.Failure](err); !ok {
					t.Errorf("%v is no Failure", err)
				}
				for _, want := range test.is {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("the error lacks %q:\n%v", want, err)
					}
				}
				var hinted command.HintedError
				if errors.As(err, &hinted); !strings.Contains(hinted.Hint, test.hint) {
					t.Errorf("the hint is %q, want %q", hinted.Hint, test.hint)
				}
				if left, err := w.e.List(t.Context(), environment.Selection{Dir: w.dir}); err != nil || len(left) != 0 {
					t.Errorf("left behind: %v, %v", left, err)
				}
			})
		}
	})
	t.Run("told to stop", func(t *testing.T) {
		w.service("web", 20010, "db: {image: 'example/tools:1', args: [sleep, '100'], ready: {log: never}}\nusers: {service: users}\n")
		ctx, cancel := context.WithCancel(t.Context())
		o := w.options("web")
		o.Report = func(c environment.Change) {
			if c.Dependency == "users" && c.State == "ready" {
				cancel()
			}
		}
		if _, err := w.e.Up(ctx, o); !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
		if left := w.engine.Containers(); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
		if found, err := w.e.List(t.Context(), environment.Selection{}); err != nil || len(found) != 0 {
			t.Errorf("found %v, %v", found, err)
		}
	})
	t.Run("soa-configs are wrong", func(t *testing.T) {
		w.write("web/test-dependencies.yaml", "db: {imgae: x}\n")
		_, err := w.e.Up(t.Context(), w.options("web"))
		var problems soaconfig.Problems
		if !errors.As(err, &problems) || !strings.Contains(err.Error(), "test-dependencies.yaml:1:6: db.imgae") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("no engine", func(t *testing.T) {
		_, err := environment.Dial(t.Context(), "unix://"+filepath.Join(t.TempDir(), "none.sock"))
		var hinted command.HintedError
		if err == nil || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint, "DOCKER_HOST") {
			t.Errorf("error is %v, its hint %q", err, hinted.Hint)
		}
	})
}

// A disk that is really full is told as such, and leaves nothing: of containers,
// or with a fixture that is too large.
func testFullDisk(t *testing.T, w *world) {
	w.service("users", 20011, "")
	w.service("web", 20010, "users: {service: users}\n")
	w.service("large", 20010, "db: {image: 'example/tools:1', files: {dump: /dump}}\n")
	dump := filepath.Join(w.dir, "dump")
	if err := errors.Join(os.WriteFile(dump, nil, 0o644), os.Truncate(dump, 300<<20)); err != nil {
		t.Fatal(err)
	}
	for service, is := range map[string]string{"web": "", "large": "db: copy its fixtures: "} {
		free := func() {}
		if service == "web" {
			free = w.engine.FullDisk()
		}
		_, err := w.e.Up(t.Context(), w.options(service))
		free()
		var hinted command.HintedError
		if err == nil || !strings.Contains(err.Error(), is) || !strings.Contains(err.Error(), "no space left on device") || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint, "docker system prune") {
			t.Errorf("%s: error is %v, its hint %q", service, err, hinted.Hint)
		}
		nothingLeft(t, w)
	}
}

// All ports that the engine may choose from are other programs'.
func testPortsTaken(t *testing.T, w *world) {
	for port := range numPorts {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", firstPort+port))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	w.service("users", 20011, "")
	w.service("web", 20010, "users: {service: users}\n")
	_, err := w.e.Up(t.Context(), w.options("web"))
	var hinted command.HintedError
	if err == nil || !strings.Contains(err.Error(), "users: start its container: ") || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint, "the same again") {
		t.Errorf("error is %v, its hint %q", err, hinted.Hint)
	}
}

// A checkout that is built here, a fixture, and a path that is kept in memory.
func testDeclarations(t *testing.T, w *world) {
	if err := os.WriteFile(filepath.Join(w.dir, "seed.txt"), []byte("seeded\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	paastatest.Need(t, "make")
	makefile := "cook-image:\n\tprintf 'FROM " + registry + "/" + probe + "\\nENV BUILT=here\\n' | docker build --tag $(DOCKER_TAG) -\n"
	if err := os.WriteFile(filepath.Join(w.dir, "Makefile"), []byte(makefile), 0o644); err != nil {
		t.Fatal(err)
	}
	w.service("users", 20011, "")
	// Of a service whose repository is not here, fixtures are in soa-configs.
	w.service("orders", 20012, "db: {image: 'example/tools:1', port: 80, files: {fixtures: /www}, args: [httpd, -f, -h, /www], ready: {http: /orders.txt}}\n")
	w.write("orders/fixtures/orders.txt", "ordered\n")
	w.service("web", 20010, "orders: {service: orders}\nusers: {service: users, build: .}\ndb: {image: 'example/tools:1', port: 80, volumes: [/data], files: {seed.txt: /www/seed.txt}, args: [sh, -c, 'touch /data/x && exec httpd -f -h /www'], ready: {http: /seed.txt, cmd: 'test -e /data/x'}}\n")
	x := w.up(t, w.options("web"))
	if _, out := w.inside(t, x, "wget -qO- $DB_URL/seed.txt"); out != "seeded\n" {
		t.Errorf("the fixture is %q", out)
	}
	if _, out := w.inside(t, x, "wget -qO- http://orders.db/orders.txt"); out != "ordered\n" {
		t.Errorf("the fixture of the other service is %q", out)
	}
	if _, out := w.inside(t, x, "wget -qO- http://users:8888/"); !strings.Contains(out, "BUILT=here") || !strings.Contains(out, "PAASTA_SERVICE=users") {
		t.Errorf("users is not what was built here: %s", out)
	}
}
