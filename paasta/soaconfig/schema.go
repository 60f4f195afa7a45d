package soaconfig

import (
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/paasta/spelling"
)

//go:embed schema/*.schema.json
var schemas embed.FS

// schemaFiles are the kinds of files, by the name of their schema.
var schemaFiles = []struct {
	name   string
	title  string
	shape  *shape
	names  *pattern // of entries; nil for a file that is one object
	anchor bool     // entries that begin with "_" are there to be merged from
}{
	{"marathon", "marathon-<cluster>.yaml: how a service runs in one cluster, one key an instance", instanceShape, instanceName, true},
	{"smartstack", "smartstack.yaml: how the service is found, one key a namespace", namespaceShape, namespaceName, true},
	{"deploy", "deploy.yaml: the way of a change to production", deployShape, nil, false},
	{"service", "service.yaml: the service itself, and defaults for its instances", serviceShape, nil, false},
	{"monitoring", "monitoring.yaml: who is told when something is wrong", monitoringObject, nil, false},
	{"adhoc", "adhoc-<cluster>.yaml: how it runs by hand, one key an instance", adhocShape, instanceName, true},
	{"dependencies", "dependencies.yaml: what it calls, for the outbound firewall", dependenciesShape, nil, false},
	{"test-dependencies", "test-dependencies.yaml: what its tests need, one key a dependency", testDependencyShape, testDependencyName, true},
}

// Schemas lists the names that Schema knows.
func Schemas() []string {
	var names []string
	for _, f := range schemaFiles {
		names = append(names, f.name)
	}
	return names
}

// Schema returns the JSON Schema (draft 7, which editors know) of a kind of
// file: marathon, smartstack, deploy, …
func Schema(name string) ([]byte, error) {
	if !slices.Contains(Schemas(), name) {
		text := fmt.Sprintf("no schema %q (known: %s)", name, strings.Join(Schemas(), ", "))
		text += spelling.Suggest(name, Schemas())
		return nil, fmt.Errorf("%s", text)
	}
	return schemas.ReadFile(path.Join("schema", name+".schema.json"))
}
