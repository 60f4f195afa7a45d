package core

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var notInName = regexp.MustCompile(`[^A-Za-z0-9_]+`)

// Env returns the environment of a task: what it is, where it is, then what the
// app says. prefix comes before the names of the second kind. Since PaaSTA wants
// "MARATHON_" there, lest PORT shadow one of the service's own, and everybody
// else's apps want none, apps without PaaSTA's label get both.
func Env(t *Task, prefix string) map[string]string {
	a := t.App
	env := map[string]string{
		"MESOS_TASK_ID":              t.ID,
		"MARATHON_APP_ID":            a.ID,
		"MARATHON_APP_VERSION":       t.Version,
		"MARATHON_APP_RESOURCE_CPUS": double(a.CPUs),
		"MARATHON_APP_RESOURCE_MEM":  double(a.Mem),
		"MARATHON_APP_RESOURCE_DISK": double(a.Disk),
		"MARATHON_APP_RESOURCE_GPUS": strconv.Itoa(a.GPUs),
	}
	if a.Container != nil && a.Container.Type == "DOCKER" {
		env["MARATHON_APP_DOCKER_IMAGE"] = a.Image()
	}
	var labels []string
	for _, key := range slices.Sorted(maps.Keys(a.Labels)) {
		if len(key) < 493 && len(a.Labels[key]) < 512 {
			name := notInName.ReplaceAllString(strings.ToUpper(key), "_")
			labels = append(labels, name)
			env["MARATHON_APP_LABEL_"+name] = a.Labels[key]
		}
	}
	env["MARATHON_APP_LABELS"] = strings.Join(labels, " ")
	where := portEnv(t)
	where["HOST"] = t.Host
	for name, value := range where {
		env[prefix+name] = value
		if _, ours := a.Labels["paasta_service"]; !ours {
			env[name] = value
		}
	}
	maps.Copy(env, a.Env)
	return env
}

func portEnv(t *Task) map[string]string {
	env := map[string]string{}
	var all []string
	port := func(i, declared, host, otherwise int, name string) {
		effective := host
		if effective == 0 {
			effective = otherwise
		} else {
			all = append(all, strconv.Itoa(host))
		}
		if effective == 0 {
			return
		}
		text := strconv.Itoa(effective)
		env["PORT"+strconv.Itoa(i)] = text
		if declared == 0 {
			declared = effective
		}
		env["PORT_"+strconv.Itoa(declared)] = text
		if name != "" {
			env["PORT_"+strings.ToUpper(name)] = text
		}
	}
	for i, m := range t.App.Mappings() {
		port(i, m.ContainerPort, t.Slots[i], m.ContainerPort, m.Name)
	}
	for i, p := range t.App.Ports() {
		port(i, p.Port, t.Slots[i], 0, p.Name)
	}
	if len(all) > 0 {
		env["PORT"], env["PORTS"] = all[0], strings.Join(all, ",")
	}
	return env
}

// double writes a number as Java does: always with a fraction.
func double(f float64) string {
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
