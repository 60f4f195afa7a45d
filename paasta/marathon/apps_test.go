package marathon_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gopaasta/paasta/paasta/marathon"
)

// An app of others in a shape that cannot be read hides none of ours; one of ours
// does not pass for gone.
func TestAppsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	const ours = "web.main.git11111111.config22222222"
	for body, want := range map[string]string{
		`{"apps": [{"id": "/other", "env": {"A": {"secret": 1}}, "instances": "many"}, {"id": "/` + ours + `", "instances": 2}]}`: "",
		`{"apps": [{"id": "/` + ours + `", "instances": "many"}]}`:                                                                "read app /" + ours,
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }))
		defer s.Close()
		c, err := marathon.New(marathon.Options{URLs: []string{s.URL}})
		if err != nil {
			t.Fatal(err)
		}
		apps, err := c.Apps(t.Context())
		switch {
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, %v", body, apps, err)
		case want == "" && (err != nil || len(apps) != 1 || apps[0].ID != ours || apps[0].Size != 2):
			t.Errorf("%s: %+v, %v", body, apps, err)
		}
	}
}
