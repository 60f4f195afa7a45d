package soaconfig

import (
	"testing"
)

// The example tree is what people copy from.
func TestExampleTreeIsSound(t *testing.T) {
	tree, err := Load(t.Context(), "../../soa-configs", Options{Clusters: []string{"playground"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Problems.Err(); err != nil {
		t.Error(err)
	}
	hello := tree.Services["hello"].Instances["playground"].Valid["main"]
	if hello.Size != 3 || hello.CPUs != 0.1 || hello.MemMB != 64 || hello.DeployGroup != "playground.main" || hello.ContainerPort != 8888 {
		t.Errorf("hello.main: %+v", hello)
	}
	if port := tree.Services["hello"].Namespaces.Valid["main"].ProxyPort; port == nil || *port != 20001 {
		t.Errorf("hello.main's port: %v", port)
	}
}
