package soaconfig

import (
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/gopaasta/paasta/paasta/spelling"
)

// Files of a service by name; those of instances have a prefix and a cluster.
const (
	serviceFile      = "service.yaml"
	smartstackFile   = "smartstack.yaml"
	deployFile       = "deploy.yaml"
	monitoringFile   = "monitoring.yaml"
	dependenciesFile = "dependencies.yaml"
	testDepsFile     = "test-dependencies.yaml"
	marathonPrefix   = "marathon-"
	adhocPrefix      = "adhoc-"
)

// readFiles are the names that someone may have misspelled.
var readFiles = []string{serviceFile, smartstackFile, deployFile, monitoringFile, dependenciesFile, testDepsFile}

// otherFiles are names and prefixes of PaaSTA's that we do not read.
var otherFiles = []string{"chronos-", "paasta_native-", "kubernetes-", "tron-", "flink-", "cassandracluster-", "data.yaml", "performance-check.yaml"}

// adhocDefaults is what an empty entry of adhoc-<cluster>.yaml means.
func adhocDefaults(name string) Instance {
	in := defaultInstance
	if name == "interactive" { // what local-run starts for a person
		in.CPUs, in.MemMB = 4, 10240
	}
	return in
}

// parseService reads all files of one service. problems elsewhere, about what
// other services have, are not its business.
func parseService(dir, name string, o Options) *Service {
	s := &Service{
		Name: name, Dir: filepath.Join(dir, name), EncryptionKey: "paasta",
		Instances: map[string]Entries[Instance]{}, Adhoc: map[string]Entries[Instance]{}, adhocAt: map[string]Problem{},
	}
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		s.unreadable(Problem{File: s.Dir, Text: reason(err)}, o.Clusters)
		return s
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	s.parse(names, o)
	s.classify()
	return s
}

// classify sorts the problems and puts the notes apart.
func (s *Service) classify() {
	all := append(s.Problems, s.Notes...)
	s.Notes = all.Of(Note).sorted()
	s.Problems = slices.DeleteFunc(all, func(p Problem) bool { return p.Class == Note }).sorted()
}

// unreadable says of every file of the service that nobody knows what is in it.
func (s *Service) unreadable(p Problem, clusters []string) {
	s.Problems = Problems{p}
	s.Unreadable = Problems{p}
	s.Namespaces.File, s.Namespaces.Unreadable = filepath.Join(s.Dir, smartstackFile), Problems{p}
	s.TestDeps.File, s.TestDeps.Unreadable = filepath.Join(s.Dir, testDepsFile), Problems{p}
	for _, c := range clusters {
		s.Instances[c] = Entries[Instance]{File: filepath.Join(s.Dir, marathonPrefix+c+".yaml"), Unreadable: Problems{p}}
	}
}

func (s *Service) parse(names []string, o Options) {
	open := func(name string) document {
		path := filepath.Join(s.Dir, name)
		if !slices.Contains(names, name) {
			return document{file: path}
		}
		return readDocument(path)
	}
	add := func(p ...Problem) { s.Problems = append(s.Problems, p...) }

	general, p := readObject(open(serviceFile), serviceShape)
	add(p...)
	defaults := instanceReader{service: s, base: defaultInstance}
	defaults.general(s, general, p)

	doc := open(monitoringFile)
	monitoring, p := readObject(doc, monitoringObject)
	if doc.exists && monitoring == nil && len(p) == 0 { // half written, as a rule
		p = Problems{{Class: Wrong, File: doc.file, Text: "is empty: write {} to say that nobody is told"}}
	}
	add(p...)
	s.Monitoring = s.Monitoring.with(monitoring, p)
	for _, root := range []*value{general, monitoring} {
		for _, key := range alertKeys {
			if root.get(key).given() {
				s.Notes = append(s.Notes, root.find(key).key.problem(Note, key, noAlerts))
			}
		}
	}

	s.Namespaces, p = s.readNamespaces(open(smartstackFile))
	add(p...)

	deploy := open(deployFile)
	var whole bool
	s.Deploy, whole, p = readDeploy(deploy)
	add(p...)
	defaults.noDeploy = !deploy.exists
	if whole {
		defaults.groups = map[string]bool{}
		for _, g := range s.Deploy.Groups() {
			defaults.groups[g] = true
		}
	}

	deps := open(dependenciesFile)
	s.Deps, p = s.readDependencies(deps)
	add(p...)
	defaults.noDeps = !deps.exists
	defaults.namespaces = s.Namespaces

	s.TestDeps, p = readEntries(open(testDepsFile), testDependencyName, testDependencyShape, func(e *entry) TestDependency {
		t := readTestDependency(e)
		if t.Service != "" {
			s.refers(t.Service, e.place("service"))
		}
		return t
	})
	add(p...)

	for _, name := range names {
		s.instances(name, open, defaults, o)
	}
	slices.Sort(s.Clusters)
	if !deploy.exists && len(s.Clusters) > 0 {
		s.Notes = append(s.Notes, Problem{Class: Note, File: deploy.file, Text: "is missing: no pipeline marks commits for the instances"})
	}
	s.unique()
}

// general takes what service.yaml says about the service, and as defaults for
// its instances.
func (r *instanceReader) general(s *Service, root *value, problems Problems) {
	if root == nil {
		// Empty is fine; unreadable means that nobody knows the defaults.
		r.broken = problems
		return
	}
	r.broken = problems.Of(Broken)
	defaults := &value{kind: object, file: root.file, line: root.line, column: root.column}
	legacy := &value{kind: object}
	for _, f := range root.fields {
		switch name := f.key.text; {
		case instanceShape.byName[name] != nil:
			defaults.add(f)
		case monitoringObject.byName[name] != nil && name != "description":
			legacy.add(f)
		}
	}
	if len(defaults.fields) > 0 {
		r.defaults = defaults
	}
	s.Monitoring = s.Monitoring.with(legacy, problems)
	decode(root, s)
	if text := optionInURL(s.GitURL); text != "" {
		p := root.find("git_url").key.problem(Broken, "git_url", text)
		s.GitURL, s.Problems, r.broken = "", append(s.Problems, p), append(r.broken, p)
	}
}

var (
	monitoringObject   = monitoringShape()
	testDependencyName = newPattern(`^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$`, "lower-case letters, digits, - and _: it becomes a host name")
)

// readNamespaces reads smartstack.yaml, and notes for the tree where ports and
// other services are named.
func (s *Service) readNamespaces(d document) (Entries[Namespace], Problems) {
	if d.root != nil && d.root.kind == object {
		for _, f := range d.root.fields {
			use := f.value.find("proxy_port")
			if use == nil || use.value.kind != integer || use.value.number < 0 || use.value.number > 65535 || strings.HasPrefix(f.key.text, "_") {
				continue
			}
			at := use.key.problem(Broken, f.key.text+".proxy_port", "")
			s.ports = append(s.ports, portUse{int(use.value.number), s.Name, f.key.text, at})
		}
	}
	return readEntries(d, namespaceName, namespaceShape, func(e *entry) Namespace {
		ns := readNamespace(s.Name, e)
		if ns.ProxiedThrough != "" {
			s.refers(ns.ProxiedThrough, e.place("proxied_through"))
		}
		for _, key := range deprecatedKeys {
			if e.value.has(key.name) {
				note := e.place(key.name)
				note.Class, note.Text = Note, "has no meaning any more: "+key.why
				s.Notes = append(s.Notes, note)
			}
		}
		return ns
	})
}

// refers notes that s names something of another service.
func (s *Service) refers(name string, at Problem) {
	s.references = append(s.references, reference{name, at})
}

// instances reads name if it is a file of instances, and says what is wrong
// with names that are nearly right.
func (s *Service) instances(name string, open func(string) document, defaults instanceReader, o Options) {
	path := filepath.Join(s.Dir, name)
	add := func(text string) { s.Problems = append(s.Problems, Problem{Class: Wrong, File: path, Text: text}) }
	base, isYAML := strings.CutSuffix(name, ".yaml")
	if short, ok := strings.CutSuffix(name, ".yml"); ok {
		if slices.Contains(readFiles, short+".yaml") || strings.HasPrefix(short, marathonPrefix) || strings.HasPrefix(short, adhocPrefix) {
			add(fmt.Sprintf("is not read: did you mean %q?", short+".yaml"))
		}
		return
	}
	if !isYAML || strings.HasPrefix(name, ".") || slices.Contains(readFiles, name) {
		return
	}
	cluster, marathon := strings.CutPrefix(base, marathonPrefix)
	adhoc := false
	if !marathon {
		cluster, adhoc = strings.CutPrefix(base, adhocPrefix)
	}
	if !marathon && !adhoc {
		near := spelling.Nearest(name, readFiles)
		for _, prefix := range otherFiles {
			if strings.HasPrefix(name, prefix) {
				near = ""
			}
		}
		for _, prefix := range []string{marathonPrefix, adhocPrefix} {
			if kind, rest, ok := strings.Cut(base, "-"); ok && kind != "" && spelling.Nearest(kind+"-", []string{prefix}) != "" {
				near = prefix + rest + ".yaml"
			}
		}
		if near != "" {
			add(fmt.Sprintf("is not read: did you mean %q?", near))
		}
		return
	}
	if o.Clusters != nil && !slices.Contains(o.Clusters, cluster) {
		text := fmt.Sprintf("is for %q, which is none of the known clusters (%s)", cluster, strings.Join(slices.Sorted(slices.Values(o.Clusters)), ", "))
		text += spelling.Suggest(cluster, o.Clusters)
		add(text)
		return
	}
	if cluster == "" {
		add("is for no cluster: want " + base + "CLUSTER.yaml")
		return
	}
	defaults.cluster = cluster
	d := open(name)
	if !d.exists {
		return // it went away while we looked
	}
	if marathon {
		all, p := readEntries(d, instanceName, instanceShape, defaults.read)
		s.Instances[cluster], s.Clusters = all, append(s.Clusters, cluster)
		s.Problems = append(s.Problems, p...)
		return
	}
	defaults.defaults = only(defaults.defaults, adhocShape)
	all, p := readEntries(d, instanceName, adhocShape, func(e *entry) Instance {
		r := defaults
		r.base = adhocDefaults(e.name)
		s.adhocAt[cluster+"/"+e.name] = e.key.problem(Broken, e.name, "is the name of an instance in "+marathonPrefix+cluster+".yaml, too")
		return r.read(e)
	})
	s.Adhoc[cluster] = all
	s.Problems = append(s.Problems, p...)
}

// optionInURL says which part of a git URL git or ssh would take for an option,
// or for a program to run; "" for none.
func optionInURL(address string) string {
	var user, host, path string
	if strings.Contains(address, "://") {
		u, err := url.Parse(address)
		if err != nil {
			return "is no URL: " + err.Error()
		}
		user, host, path = u.User.Username(), u.Hostname(), u.Path
	} else if before, after, ok := strings.Cut(address, ":"); ok && !strings.Contains(before, "/") {
		path, host = after, before
		if u, h, ok := strings.Cut(before, "@"); ok {
			user, host = u, h
		}
		if strings.HasPrefix(after, ":") {
			return "names a helper program of git"
		}
	}
	for _, part := range [][2]string{{"user", user}, {"host", host}, {"path", path}} {
		if strings.HasPrefix(part[1], "-") || strings.ContainsFunc(part[1], unicode.IsControl) {
			return "its " + part[0] + " is " + quote(part[1]) + ", which git or ssh would take for an option"
		}
	}
	return ""
}

// only returns the fields of v that shape s has.
func only(v *value, s *shape) *value {
	if v == nil {
		return nil
	}
	some := &value{kind: object, file: v.file, line: v.line, column: v.column}
	for _, f := range v.fields {
		if s.byName[f.key.text] != nil {
			some.add(f)
		}
	}
	return some
}

// unique reports adhoc instances that are called like a running one.
func (s *Service) unique() {
	for _, cluster := range slices.Sorted(maps.Keys(s.Adhoc)) {
		adhoc := s.Adhoc[cluster]
		for _, name := range slices.Sorted(maps.Keys(adhoc.Valid)) {
			if _, both, err := s.Instances[cluster].Find(name); both && err == nil {
				p := s.adhocAt[cluster+"/"+name]
				delete(adhoc.Valid, name)
				adhoc.Invalid[name] = Problems{p}
				s.Problems = append(s.Problems, p)
			}
		}
	}
}

// isService tells whether an entry of the soa-configs directory is a service:
// a directory, or a link to one, whose name does not begin with "." or "_". A
// link that leads nowhere is an error.
func isService(dir string, e fs.DirEntry) (bool, error) {
	if strings.HasPrefix(e.Name(), ".") || strings.HasPrefix(e.Name(), "_") {
		return false, nil
	}
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir(), nil
	}
	info, err := os.Stat(filepath.Join(dir, e.Name()))
	if err != nil {
		return false, err
	}
	return info.IsDir(), nil
}
