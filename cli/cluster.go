package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gopaasta/paasta/paasta/api"
	"github.com/gopaasta/paasta/paasta/command"
)

// API returns a client for the API of a cluster.
func (env *Env) API(cluster string) (*api.Client, error) {
	c, err := env.Config()
	if err != nil {
		return nil, err
	}
	url, ok := c.APIEndpoints[cluster]
	if !ok {
		known := ""
		if len(c.APIEndpoints) > 0 {
			known = " (known: " + strings.Join(slices.Sorted(maps.Keys(c.APIEndpoints)), ", ") + ")"
		}
		return nil, command.WithHint(fmt.Errorf("no API endpoint for cluster %q in the system config%s", cluster, known),
			"add api_endpoints."+cluster+" to the system config, or point PAASTA_SYSTEM_CONFIG_DIR at the right one")
	}
	return api.NewClient(api.ClientOptions{URL: url, Token: c.APIToken, CA: c.APICA, Cert: c.APICert, Key: c.APIKey})
}
