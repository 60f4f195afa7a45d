package paasta_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/gopaasta/paasta"

// wiring brings the trees together and may import all of them.
const wiring = "paasta/cmd/paasta"

// mayImport says which of our trees, the top-level folders, each of them may
// import. What is not listed is not allowed.
var mayImport = map[string][]string{
	"paasta":      {"paasta"},
	"cli":         {"cli", "docker", "paasta", "soa-configs"},
	"deployd":     {"deployd", "paasta"},
	"smartstack":  {"smartstack", "paasta"},
	"docker":      {"docker", "paasta"},
	"soa-configs": {}, // embeds the examples
}

// ownedBy says which packages, with those below them, may import a third-party
// module. Modules that are not listed are free.
var ownedBy = map[string][]string{
	"github.com/spf13/cobra":                {"cli"},
	"charm.land/lipgloss":                   {"cli"},
	"github.com/spf13/viper":                {"paasta/sysconfig"},
	"go.yaml.in/yaml":                       {"paasta/soaconfig"},
	"github.com/santhosh-tekuri/jsonschema": {"paasta/soaconfig"},
	"github.com/go-zookeeper/zk":            {"paasta/zk"},
	"github.com/dlclark/regexp2":            {"paasta/pattern"},
	"github.com/go-git/go-git":              {"paasta/git"},
	"github.com/gambol99/go-marathon":       {"paasta/marathon"},
	"github.com/docker":                     {"docker"},
	"github.com/vishvananda/netlink":        {"smartstack/internal"},
	"github.com/mdlayher/netlink":           {"smartstack/internal"},
	"github.com/google/nftables":            {"smartstack/internal"},
	"github.com/florianl/go-nfqueue":        {"smartstack/internal"},
	"github.com/coreos/go-iptables":         {"smartstack/internal"},
	module + "/paasta/paastatest":           {"paasta/zk/zktest", "docker/dockertest"},
	"github.com/stretchr/testify":           nil,
	"github.com/pkg/errors":                 nil,
}

// pure lists the packages that decide and do not act. They import nothing that
// does.
var pure = []string{"paasta", "paasta/deployments", "deployd/internal/bounce"}

var impure = []string{"net", "net/http", "os", "os/exec", "log/slog", "context", module + "/paasta/zk"}

type goPackage struct {
	ImportPath string
	Imports    []string
}

// packages asks go about every package of ours.
func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("go list knows only %d packages", len(all))
	}
	return all
}

// below tells whether path is dir or lies in it.
func below(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func TestImports(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		own := strings.TrimPrefix(p.ImportPath, module+"/")
		if own == wiring {
			continue
		}
		tree, _, _ := strings.Cut(own, "/")
		may, known := mayImport[tree]
		if !known {
			t.Errorf("%s: %s is none of our trees", own, tree)
		}
		for _, i := range p.Imports {
			if inside, ok := strings.CutPrefix(i, module+"/"); ok {
				other, _, _ := strings.Cut(inside, "/")
				if !slices.Contains(may, other) {
					t.Errorf("%s imports %s: %s may not import %s", own, inside, tree, other)
				}
			}
			for library, owners := range ownedBy {
				if below(i, library) && !below(own, strings.TrimPrefix(library, module+"/")) &&
					!slices.ContainsFunc(owners, func(o string) bool { return below(own, o) }) {
					t.Errorf("%s imports %s, which belongs to %v", own, i, owners)
				}
			}
			if slices.Contains(pure, own) && slices.ContainsFunc(impure, func(x string) bool { return below(i, x) && !below(i, "net/netip") && !below(i, "net/url") }) {
				t.Errorf("%s is pure and imports %s", own, i)
			}
		}
	}
}
