package smartstack

import (
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"

	"github.com/gopaasta/paasta/paasta"
	"github.com/gopaasta/paasta/paasta/httpserver"
	"github.com/gopaasta/paasta/paasta/soaconfig"
	"github.com/gopaasta/paasta/paasta/sysconfig"
	"github.com/gopaasta/paasta/smartstack/internal/address"
	"github.com/gopaasta/paasta/smartstack/internal/nerve"
)

// newNerve returns the half of the agent that registers local services; nil
// when it is switched off or there is nowhere to register.
func newNerve(o Options) *nerve.Nerve {
	if !o.Config.Smartstack.Nerve || o.Keeper == nil {
		return nil
	}
	return nerve.New(nerve.Options{
		Dir:       o.Config.Smartstack.ServicesDir,
		DrainDir:  drainDir(o.Config),
		Hostname:  o.Config.Hostname,
		Address:   ownAddress(o.Config.Smartstack.Announce, address.Ours()),
		Here:      o.Config.Location,
		Locations: paasta.Locations{Types: o.Config.LocationTypes, Parents: o.Config.LocationParents},
		LastGood:  filepath.Join(o.Config.Smartstack.StateDir, "services.json"),
		Keeper:    o.Keeper,
		Log:       o.Log,
	})
}

func drainDir(c sysconfig.Config) string { return filepath.Join(c.Smartstack.StateDir, "drain") }

// ownAddress is where others reach services of this host: the host of the
// announced URL if that is an address for others, else the first of ours, IPv4
// before IPv6; "" when there is none.
func ownAddress(announce string, ours []string) string {
	if u, err := url.Parse(announce); err == nil {
		if a, err := netip.ParseAddr(u.Hostname()); err == nil && !a.IsLoopback() && !a.IsUnspecified() {
			return a.String()
		}
	}
	var six string
	for _, text := range ours {
		ip := net.ParseIP(text)
		switch {
		case ip == nil || ip.IsLinkLocalUnicast():
		case ip.To4() != nil:
			return text
		case six == "":
			six = text
		}
	}
	return six
}

// localServices answers what the nerve half knows.
func localServices(n *nerve.Nerve) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		services, byFile := n.Status()
		answer := LocalServices{Services: services, Broken: []string{}}
		if answer.Services == nil {
			answer.Services = []nerve.Status{}
		}
		for _, file := range slices.Sorted(maps.Keys(byFile)) {
			for _, p := range byFile[file] {
				if p.Class == soaconfig.Broken {
					answer.Broken = append(answer.Broken, p.String())
				} else {
					answer.Wrong = append(answer.Wrong, p.String())
				}
			}
		}
		httpserver.WriteJSON(w, answer)
	})
}

// LocalServices is the answer to GET /v1/services of an agent.
type LocalServices struct {
	Services []nerve.Status `json:"services"`
	Broken   []string       `json:"broken"`          // why files are no use, with places
	Wrong    []string       `json:"wrong,omitempty"` // mistakes that stop nothing, with places
}
