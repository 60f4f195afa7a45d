package environment_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/docker/testdeps/environment"
)

func testUp(t *testing.T, w *world) {
	w.service("users", 20011, "db: {image: 'example/tools:1', port: 3306, args: [nc, -ll, -p, '3306', -e, echo, db of users]}\n")
	w.service("orders", 20012, "db: {image: 'example/tools:1', port: 3306, args: [nc, -ll, -p, '3306', -e, echo, db of orders]}\nusers: {service: users}\n")
	w.service("quotes", 20013, "")
	w.service("web", 20014, "users: {service: users}\norders: {service: orders}\nstore: {image: 'example/tools:1', port: 7000, args: [nc, -ll, -p, '7000', -e, echo, stored]}\n")
	var changes []string
	o := w.options("web")
	o.Report = func(c environment.Change) { changes = append(changes, c.Dependency+" "+c.State) }
	x := w.up(t, o)

	t.Run("each is started once, after what it needs", func(t *testing.T) {
		var names []string
		for _, d := range x.Dependencies {
			names = append(names, d.Name)
		}
		if got, want := strings.Join(names, " "), "orders orders.db store users users.db"; got != want {
			t.Errorf("dependencies are %s, want %s", got, want)
		}
		for _, pair := range [][2]string{{"users.db ready", "users starting"}, {"users ready", "orders starting"}, {"orders.db ready", "orders starting"}} {
			if a, b := slices.Index(changes, pair[0]), slices.Index(changes, pair[1]); a < 0 || b < 0 || a > b {
				t.Errorf("%s is not before %s in %q", pair[0], pair[1], changes)
			}
		}
	})
	t.Run("reached from the host", func(t *testing.T) {
		vars := map[string]string{}
		for _, kv := range x.Variables() {
			k, v, _ := strings.Cut(kv, "=")
			vars[k] = v
		}
		if vars["USERS_HOST"] != "127.0.0.1" || vars["STORE_URL"] != "tcp://127.0.0.1:"+vars["STORE_PORT"] {
			t.Errorf("variables are %v", vars)
		}
		resp, err := http.Get(vars["USERS_URL"] + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		for _, want := range []string{"DB_HOST=db", "DB_PORT=3306", "PAASTA_SERVICE=users", "PAASTA_DEPLOY_GROUP=test.main"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("the environment of users lacks %s: %s", want, text)
			}
		}
	})
	t.Run("reached inside by name", func(t *testing.T) {
		code, out := w.inside(t, x, `wget -qO- http://users:8888/status && echo "users answers"; nc store 7000 </dev/null; echo $ORDERS_URL; nc -w 2 users.db 3306 </dev/null`)
		for _, want := range []string{"users answers", "stored", "http://orders:8888", "db of users"} {
			if !strings.Contains(out, want) {
				t.Errorf("exit code %d, and the output lacks %q:\n%s", code, want, out)
			}
		}
	})
	t.Run("reached inside at the production address", func(t *testing.T) {
		_, out := w.inside(t, x, `wget -qO- http://169.254.255.254:20011/`)
		if !strings.Contains(out, "PAASTA_SERVICE=users") {
			t.Errorf("at port 20011 answers %s", out)
		}
	})
	t.Run("what is not declared is refused by name", func(t *testing.T) {
		_, out := w.inside(t, x, `printf 'GET / HTTP/1.0\r\n\r\n' | nc 169.254.255.254 20013; nc -w 2 169.254.255.254 4711 </dev/null || echo "4711 is refused"`)
		for _, want := range []string{"503", "quotes.main", "/web/test-dependencies.yaml does not declare", "4711 is refused"} {
			if !strings.Contains(out, want) {
				t.Errorf("the output lacks %q:\n%s", want, out)
			}
		}
		refused, err := x.Refused(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if len(refused) != 2 || refused[0].Port != 4711 || refused[1].Namespace != "quotes.main" || refused[1].Client != "web" {
			t.Errorf("refused are %+v", refused)
		}
	})
}
