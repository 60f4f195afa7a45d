// Package dashboard renders the pages that paasta api shows to browsers. It
// only renders: what is on a page is handed in, and a page loads nothing from
// elsewhere.
package dashboard

import (
	"embed"
	"html/template"
	"io"
	"time"
)

//go:embed *.html
var files embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"short": func(sha string) string { return sha[:min(8, len(sha))] },
	"clock": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
}).ParseFS(files, "*.html"))

// A Services is the page of all services of a cluster.
type Services struct {
	Cluster string
	At      time.Time // when it was read
	Every   int       // seconds until the page reloads itself
	Rows    []Row
	Notes   []string // what could not be asked
}

// NotOK counts the rows that are not as they should be.
func (s Services) NotOK() int { return s.count(func(r Row) bool { return r.Deployed && !r.OK }) }

// NotDeployed counts the rows of which nobody has asked for anything yet.
func (s Services) NotDeployed() int { return s.count(func(r Row) bool { return !r.Deployed }) }

// Deployed counts the others.
func (s Services) Deployed() int { return len(s.Rows) - s.NotDeployed() }

func (s Services) count(is func(Row) bool) int {
	n := 0
	for _, r := range s.Rows {
		if is(r) {
			n++
		}
	}
	return n
}

// A Row is one instance.
type Row struct {
	Service, Instance          string
	GitSHA                     string // that should run
	Status                     string // deploy status
	Running, Healthy, Expected int
	Bounce, Why                string
	Deployed                   bool // somebody has marked a commit for it, or it runs, or that is unknown
	OK                         bool // false also while it is not deployed
}

// RenderServices writes the page as HTML.
func RenderServices(w io.Writer, s Services) error {
	return pages.ExecuteTemplate(w, "services.html", s)
}
