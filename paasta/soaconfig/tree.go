package soaconfig

import "context"

// Options say what a tree is read against.
type Options struct {
	// Clusters are the known clusters; a file for another one is a problem. Nil
	// takes the clusters from the file names.
	Clusters []string
}

// A Tree is one reading of a soa-configs directory: immutable, safe to share.
type Tree struct {
	Dir      string
	Services map[string]*Service
	Problems Problems // of all services, and across them (two with one proxy_port)
}

// Load reads the directory. It fails only when dir itself cannot be read; what
// is wrong inside is in Problems, and the sound rest is usable.
func Load(ctx context.Context, dir string, o Options) (*Tree, error) {
	panic("to be written")
}

// LoadService reads one service of dir. It is an error if there is no such
// directory; problems inside are in the Service.
func LoadService(dir, service string, o Options) (*Service, error) {
	panic("to be written")
}

// Names lists the services of dir, sorted, without reading their files.
func Names(dir string) ([]string, error) {
	panic("to be written")
}

// A Watcher reloads a tree when its files change (fsnotify, a hint) and every
// resync; services that did not change keep their *Service pointer.
type Watcher struct {
	Dir     string
	Options Options
}

// Run calls changed with each new tree, first with the initial one, until ctx
// ends. names lists the services that changed, appeared or disappeared. When
// the directory cannot be read, failed is called and the last tree stands.
func (w *Watcher) Run(ctx context.Context, changed func(t *Tree, names []string), failed func(error)) error {
	panic("to be written")
}
