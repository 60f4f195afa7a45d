// Package testdeps gives a Go test private copies of what a service needs: what
// its test-dependencies.yaml names, in an environment that ends with the test.
//
//	func TestCheckout(t *testing.T) {
//		deps := testdeps.Start(t, "web")
//		resp, err := http.Get(deps.URL("users") + "/users/1")
//		…
//	}
//
// The command "paasta test-deps" does the same for other programs; both use the
// packages below this one.
package testdeps

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/docker/testdeps/environment"
	"github.com/gopaasta/paasta/paasta/sysconfig"
)

// Dependencies are the copies that one test has for itself.
type Dependencies struct {
	t testing.TB
	x *environment.Environment
	v map[string]string
}

// startWithin bounds Start where the test itself has no deadline.
const startWithin = 10 * time.Minute

// Start starts the test dependencies of a service and waits until they are
// ready. Soa-configs are where the system config (/etc/paasta, PAASTA_SOA_DIR)
// says, fixtures are relative to the test's directory, the engine is that of
// DOCKER_HOST. They are removed when the test ends; what a killed test leaves,
// the next Start removes. It fails the test when something does not come up.
func Start(t testing.TB, service string) *Dependencies {
	t.Helper()
	config, err := sysconfig.Load()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startWithin)
	defer cancel()
	e, err := environment.Dial(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	x, err := e.Up(ctx, environment.Options{SoaDir: config.SoaDir, Service: service, System: config, Tied: true})
	if err != nil {
		t.Fatalf("test dependencies of %s: %v", service, err)
	}
	d := &Dependencies{t, x, map[string]string{}}
	t.Cleanup(d.down)
	for _, kv := range x.Variables() {
		k, v, _ := strings.Cut(kv, "=")
		d.v[k] = v
	}
	return d
}

func (d *Dependencies) down() {
	ctx := context.Background() // the test's has ended
	if refused, err := d.x.Refused(ctx); err == nil {
		for _, r := range refused {
			d.t.Log(r)
		}
	}
	if err := d.x.Down(ctx); err != nil {
		d.t.Errorf("test dependencies of %s: %v", d.x.Service, err)
	}
}

// Address is where a dependency listens on this machine, as "host:port". The
// name is the service's own for it; a dependency that is not declared, or has
// no port, fails the test.
func (d *Dependencies) Address(name string) string {
	d.t.Helper()
	for _, dep := range d.x.Dependencies {
		for _, called := range dep.Called {
			if called == name && dep.HostPort != 0 {
				return net.JoinHostPort(d.v[environment.Prefix(name)+"_HOST"], strconv.Itoa(dep.HostPort))
			}
		}
	}
	d.t.Fatalf("%s has no test dependency %q with a port (there are: %v)", d.x.Service, name, d.Variables())
	return ""
}

// URL is the same with its scheme, http or tcp, and without a final slash.
func (d *Dependencies) URL(name string) string {
	d.t.Helper()
	d.Address(name) // fails the test when there is none
	return d.v[environment.Prefix(name)+"_URL"]
}

// Variables are KEY=VALUE for programs that the test starts: for each dependency
// NAME_HOST, NAME_PORT and NAME_URL.
func (d *Dependencies) Variables() []string { return d.x.Variables() }

// Logs returns the last lines of what a dependency logged.
func (d *Dependencies) Logs(name string, lines int) string {
	d.t.Helper()
	var b strings.Builder
	if err := d.x.Logs(d.t.Context(), name, lines, false, &b); err != nil {
		d.t.Fatal(err)
	}
	return b.String()
}
