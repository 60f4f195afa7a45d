package httpserver

import (
	"bufio"
	"cmp"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
)

// IsOwnHost tells whether the Host of a request is an address, localhost or one
// of names. A web page whose own name was made to resolve to this host (DNS
// rebinding) would otherwise read, with a person's browser, what only those may
// who reach this host. No browser leaves Host out.
func IsOwnHost(r *http.Request, names ...string) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	return host == "" || strings.EqualFold(host, "localhost") || net.ParseIP(host) != nil ||
		slices.ContainsFunc(names, func(name string) bool { return name != "" && strings.EqualFold(host, strings.TrimSuffix(name, ".")) })
}

// OwnHostOnly returns a handler that answers only what is meant for this host: see
// IsOwnHost.
func OwnHostOnly(h http.Handler, names ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !IsOwnHost(r, names...) {
			hint := "ask by address"
			if known := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "" }); len(known) > 0 {
				hint += ", or as " + strings.Join(known, ", ")
			}
			http.Error(w, fmt.Sprintf("this request was meant for host %q, and this is another: %s", r.Host, hint), http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// HostNames are what others may call the host with a name: that, and with each domain
// in which this host's resolver looks names up.
func HostNames(hostname string) []string { return hostNames(hostname, "/etc/resolv.conf") }

func hostNames(hostname, resolver string) []string {
	if hostname == "" {
		return nil
	}
	all := []string{hostname}
	f, err := os.Open(resolver)
	if err != nil {
		return all // no resolver, no domains
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || words[0] != "search" && words[0] != "domain" {
			continue
		}
		for _, domain := range words[1:] {
			if domain = strings.Trim(domain, "."); domain != "" && !strings.HasPrefix(domain, "#") {
				all = append(all, hostname+"."+domain)
			}
		}
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
	return slices.Compact(all)
}
