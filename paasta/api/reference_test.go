package api

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the reference")

const referenceHead = `# HTTP

<!-- Written from paasta/api/openapi.yaml and its test (go test ./paasta/api -update). Do not edit. -->

Three daemons speak HTTP. People and programs ask the API; the pages of deployd and of agents are for operators, for
monitoring, and for each other.

## paasta api

On ` + "`api.listen`" + ` (127.0.0.1:5054). Beyond loopback every request needs TLS, and a token (` + "`Authorization: Bearer …`" + `) or a client
certificate. On loopback nothing is asked, but for a ` + "`Host`" + ` that is an address or localhost. Answers are JSON unless the table says otherwise; one
that is not 2xx is ` + "`{\"message\": …, \"hint\": …}`" + `. ` + "`GET /openapi.yaml`" + ` describes every answer.

`

const referenceTail = `
## paasta deployd

On ` + "`deployd.listen`" + ` (127.0.0.1:5055). It only answers; nothing can be changed here. The leader's address is the data of the
first node below ` + "`/paasta/<cluster>/leader`" + `, so on a cluster with several masters let it listen where the API reaches it.

| | |
|---|---|
| ` + "`GET /v1/instances`" + ` | How every instance is: state of its bounce, latest steps, tasks, and what it waits for. 503 when another one leads |
| ` + "`GET /v1/instances/{service}`" + ` | The same of a service |
| ` + "`GET /v1/instances/{service}/{instance}`" + ` | The same of an instance |
| ` + "`GET /healthz`" + ` | Whether it leads, has ZooKeeper, reads soa-configs, and what it holds back. 503 without ZooKeeper |
| ` + "`GET /metrics`" + ` | Metrics, for Prometheus |

## paasta smartstack

On ` + "`smartstack.listen`" + ` (127.0.0.1:3213). It only answers. Masters ask agents whether a backend is up and whether connections
are left, so on a cluster it listens where masters reach it (` + "`smartstack.listen`, `smartstack.announce`" + `).

| | |
|---|---|
| ` + "`GET /v1/backends/{registration}`" + ` | The backends of a registration in this HAProxy. With ` + "`after=GENERATION`" + ` and ` + "`wait=5s`" + ` it answers when something has changed |
| ` + "`GET /v1/connections?host=IP&port=N`" + ` | How many connections a task of this host has |
| ` + "`GET /v1/services`" + ` | The services of this host that the nerve half checks |
| ` + "`GET /status`" + ` | All that the agent knows of itself: registrations, problems, HAProxy, reloads |
| ` + "`GET /healthz`" + ` | 503 when HAProxy should run and does not; says whether there is a ZooKeeper session |
| ` + "`GET /v1/metrics`" + ` | What it counted of requests, which ` + "`paasta metrics`" + ` puts together |
| ` + "`GET /metrics`, `GET /metrics.json`" + ` | Metrics, for Prometheus and as Dropwizard JSON |

HAProxy's own page, with CSV at ` + "`/;csv`" + `, is on ` + "`smartstack.stats_listen`" + ` (127.0.0.1:3212), with the originals' names: a proxy is
called like its registration, a server ` + "`<name>_<ip>:<port>`" + `.
`

// TestReferenceIsFresh writes docs/reference/http-api.md (go test -update).
func TestReferenceIsFresh(t *testing.T) {
	doc := loadDocument(t)
	var b bytes.Buffer
	b.WriteString(referenceHead)
	b.WriteString("| | | in the query |\n|---|---|---|\n")
	for _, path := range doc.Paths.InMatchingOrder() {
		item := doc.Paths.Value(path)
		operations := item.Operations()
		for _, method := range slices.Sorted(maps.Keys(operations)) {
			o := operations[method]
			fmt.Fprintf(&b, "| `%s %s` | %s | %s |\n", method, path, o.Summary, query(o))
		}
	}
	b.WriteString(referenceTail)

	const file = "../../docs/reference/http-api.md"
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("%s is stale; run go test ./paasta/api -update (-want +got):\n%s", file, diff)
	}
}

func query(o *openapi3.Operation) string {
	var names []string
	for _, p := range o.Parameters {
		if p.Value.In == "query" {
			names = append(names, "`"+p.Value.Name+"`")
		}
	}
	return strings.Join(names, ", ")
}
