package haproxy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTable(t *testing.T) {
	t.Parallel()
	var rows table
	if err := rows.head([]byte("# svname,pxname,new,status,weight,iid,last_chk,scur,")); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]Row{
		`a,web.main,,UP,10,3,,2,`:               {Proxy: "web.main", Server: "a", Status: "UP", Weight: 10, ProxyID: 3, Sessions: 2},
		`a,web.main,,UP 1/2,,,"says ""x, y""",`: {Proxy: "web.main", Server: "a", Status: "UP 1/2", LastCheck: `says "x, y"`},
		`a,web.main`:                            {Proxy: "web.main", Server: "a"},
		`a`:                                     {Server: "a"},
		`a,web.main,"`:                          {Proxy: "web.main", Server: "a"},
	} {
		got, ok := rows.row([]byte(line))
		if diff := cmp.Diff(want, got); diff != "" || ok != (want.Proxy != "") {
			t.Errorf("%s: %v (-want +got):\n%s", line, ok, diff)
		}
	}
	if err := new(table).head([]byte("# pxname,svname")); err == nil {
		t.Error("a table without status was accepted")
	}
}
