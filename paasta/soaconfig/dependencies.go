package soaconfig

import (
	"net/netip"
	"strconv"
	"strings"
)

// A Dependency is one line of dependencies.yaml.
type Dependency struct {
	WellKnown  string `soa:"well-known"`
	Smartstack string `soa:"smartstack"`
	CIDR       string `soa:"cidr"`
	Port       string `soa:"port"` // "", "443", "1024:65535"
}

// readDependencies reads dependencies.yaml; nil if it is absent or broken as a
// whole.
func (s *Service) readDependencies(d document) (map[string][]Dependency, Problems) {
	root, problems := readObject(d, dependenciesShape)
	if root == nil {
		return nil, problems
	}
	all := map[string][]Dependency{}
	c := &checker{problems: problems, class: Wrong}
	for _, f := range root.fields {
		all[f.key.text] = []Dependency{}
		for _, item := range f.value.items {
			var dep Dependency
			decode(item, &dep)
			given := 0
			for _, key := range []string{"well-known", "smartstack", "cidr"} {
				if item.has(key) {
					given++
				}
			}
			if given != 1 {
				c.at(item, "wants exactly one of well-known, smartstack and cidr", f.key.text)
			}
			if dep.CIDR != "" {
				if _, err := netip.ParsePrefix(dep.CIDR); err != nil {
					c.at(item.get("cidr"), "is "+quote(dep.CIDR)+", want a network such as 10.0.0.0/8", f.key.text, "cidr")
				}
			}
			first, last, _ := strings.Cut(dep.Port, ":")
			low, _ := strconv.Atoi(first) // "" and what the pattern allows
			high, _ := strconv.Atoi(last)
			if low > 65535 || high > 65535 || last != "" && high < low {
				c.at(item.get("port"), "is "+dep.Port+", want a port or FIRST:LAST", f.key.text, "port")
			}
			if dep.Smartstack != "" {
				s.refers(dep.Smartstack, item.get("smartstack").problem(Broken, f.key.text+".smartstack", ""))
			}
			all[f.key.text] = append(all[f.key.text], dep)
		}
	}
	return all, c.problems
}
