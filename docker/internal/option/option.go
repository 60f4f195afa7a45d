// Package option reads the options of "docker run" that soa-configs and
// Marathon definitions carry as pairs of key and value, into what a Docker
// Engine is asked for.
package option

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"
	"github.com/docker/go-units"

	"github.com/docker/docker/api/types/blkiodev"
)

// Apply applies one option, without its dashes, to what the Engine is asked for.
// It is an error when the option is unknown, cannot be read, or would take the
// container out of our hands.
func Apply(key, value string, c *container.Config, h *container.HostConfig) error {
	if slices.Contains(refused, key) {
		return fmt.Errorf("--%s is not possible: paasta itself decides that", key)
	}
	set, ok := options[key]
	if !ok {
		return fmt.Errorf("unknown option --%s of docker run", key)
	}
	if err := set(value, c, h); err != nil {
		return fmt.Errorf("--%s=%s: %w", key, value, err)
	}
	return nil
}

// refused are options that would take a container out of our hands.
var refused = []string{"name", "rm", "restart", "detach", "d", "cidfile", "publish", "p", "publish-all", "P", "label-file", "env-file", "interactive", "i", "attach", "a", "pull", "sig-proxy", "detach-keys"}

type setter = func(value string, c *container.Config, h *container.HostConfig) error

var options map[string]setter

func init() { // in init, since the aliases refer to the map
	options = map[string]setter{
		"add-host":           list(func(_ *container.Config, h *container.HostConfig) *[]string { return &h.ExtraHosts }),
		"blkio-weight":       blkioWeight,
		"cap-add":            list(func(_ *container.Config, h *container.HostConfig) *[]string { return (*[]string)(&h.CapAdd) }),
		"cap-drop":           list(func(_ *container.Config, h *container.HostConfig) *[]string { return (*[]string)(&h.CapDrop) }),
		"cgroup-parent":      text(func(_ *container.Config, h *container.HostConfig) *string { return &h.CgroupParent }),
		"cgroupns":           text(func(_ *container.Config, h *container.HostConfig) *string { return (*string)(&h.CgroupnsMode) }),
		"cpu-period":         number(func(h *container.HostConfig) *int64 { return &h.CPUPeriod }),
		"cpu-quota":          number(func(h *container.HostConfig) *int64 { return &h.CPUQuota }),
		"cpu-rt-period":      number(func(h *container.HostConfig) *int64 { return &h.CPURealtimePeriod }),
		"cpu-rt-runtime":     number(func(h *container.HostConfig) *int64 { return &h.CPURealtimeRuntime }),
		"cpu-shares":         number(func(h *container.HostConfig) *int64 { return &h.CPUShares }),
		"cpus":               cpus,
		"cpuset-cpus":        text(func(_ *container.Config, h *container.HostConfig) *string { return &h.CpusetCpus }),
		"cpuset-mems":        text(func(_ *container.Config, h *container.HostConfig) *string { return &h.CpusetMems }),
		"device":             device,
		"device-cgroup-rule": list(func(_ *container.Config, h *container.HostConfig) *[]string { return &h.DeviceCgroupRules }),
		"device-read-bps":    throttle(func(h *container.HostConfig) *[]*blkiodev.ThrottleDevice { return &h.BlkioDeviceReadBps }),
		"device-write-bps":   throttle(func(h *container.HostConfig) *[]*blkiodev.ThrottleDevice { return &h.BlkioDeviceWriteBps }),
		"dns":                list(func(_ *container.Config, h *container.HostConfig) *[]string { return &h.DNS }),
		"dns-opt":            list(func(_ *container.Config, h *container.HostConfig) *[]string { return &h.DNSOptions }),
		"dns-option":         list(func(_ *container.Config, h *container.HostConfig) *[]string { return &h.DNSOptions }),
		"dns-search":         list(func(_ *container.Config, h *container.HostConfig) *[]string { return &h.DNSSearch }),
		"domainname":         text(func(c *container.Config, _ *container.HostConfig) *string { return &c.Domainname }),
		"entrypoint":         entrypoint,
		"env":                list(func(c *container.Config, _ *container.HostConfig) *[]string { return &c.Env }),
		"expose":             expose,
		"group-add":          list(func(_ *container.Config, h *container.HostConfig) *[]string { return &h.GroupAdd }),
		"hostname":           text(func(c *container.Config, _ *container.HostConfig) *string { return &c.Hostname }),
		"init":               boolean(func(_ *container.Config, h *container.HostConfig, b bool) { h.Init = &b }),
		"ipc":                text(func(_ *container.Config, h *container.HostConfig) *string { return (*string)(&h.IpcMode) }),
		"isolation":          text(func(_ *container.Config, h *container.HostConfig) *string { return (*string)(&h.Isolation) }),
		"kernel-memory":      size(func(h *container.HostConfig) *int64 { return &h.KernelMemory }),
		"label":              label,
		"link":               list(func(_ *container.Config, h *container.HostConfig) *[]string { return &h.Links }),
		"log-driver":         logDriver,
		"log-opt":            logOption,
		"memory":             size(func(h *container.HostConfig) *int64 { return &h.Memory }),
		"memory-reservation": size(func(h *container.HostConfig) *int64 { return &h.MemoryReservation }),
		"memory-swap":        size(func(h *container.HostConfig) *int64 { return &h.MemorySwap }),
		"memory-swappiness":  swappiness,
		"mount":              mounted,
		"network":            text(func(_ *container.Config, h *container.HostConfig) *string { return (*string)(&h.NetworkMode) }),
		"no-healthcheck": boolean(func(c *container.Config, _ *container.HostConfig, b bool) {
			if b {
				c.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}}
			}
		}),
		"oom-kill-disable": boolean(func(_ *container.Config, h *container.HostConfig, b bool) { h.OomKillDisable = &b }),
		"oom-score-adj":    oomScore,
		"pid":              text(func(_ *container.Config, h *container.HostConfig) *string { return (*string)(&h.PidMode) }),
		"pids-limit":       pidsLimit,
		"privileged":       boolean(func(_ *container.Config, h *container.HostConfig, b bool) { h.Privileged = b }),
		"read-only":        boolean(func(_ *container.Config, h *container.HostConfig, b bool) { h.ReadonlyRootfs = b }),
		"runtime":          text(func(_ *container.Config, h *container.HostConfig) *string { return &h.Runtime }),
		"security-opt":     list(func(_ *container.Config, h *container.HostConfig) *[]string { return &h.SecurityOpt }),
		"shm-size":         size(func(h *container.HostConfig) *int64 { return &h.ShmSize }),
		"stop-signal":      text(func(c *container.Config, _ *container.HostConfig) *string { return &c.StopSignal }),
		"stop-timeout":     stopTimeout,
		"storage-opt":      pair(func(h *container.HostConfig) *map[string]string { return &h.StorageOpt }),
		"sysctl":           pair(func(h *container.HostConfig) *map[string]string { return &h.Sysctls }),
		"tmpfs":            tmpfs,
		"tty":              boolean(func(c *container.Config, _ *container.HostConfig, b bool) { c.Tty = b }),
		"ulimit":           ulimit,
		"user":             text(func(c *container.Config, _ *container.HostConfig) *string { return &c.User }),
		"userns":           text(func(_ *container.Config, h *container.HostConfig) *string { return (*string)(&h.UsernsMode) }),
		"uts":              text(func(_ *container.Config, h *container.HostConfig) *string { return (*string)(&h.UTSMode) }),
		"volume":           list(func(_ *container.Config, h *container.HostConfig) *[]string { return &h.Binds }),
		"volume-driver":    text(func(_ *container.Config, h *container.HostConfig) *string { return &h.VolumeDriver }),
		"volumes-from":     list(func(_ *container.Config, h *container.HostConfig) *[]string { return &h.VolumesFrom }),
		"workdir":          text(func(c *container.Config, _ *container.HostConfig) *string { return &c.WorkingDir }),
	}
	for short, long := range map[string]string{
		"c": "cpu-shares", "e": "env", "h": "hostname", "l": "label", "m": "memory", "net": "network", "t": "tty", "u": "user",
		"v": "volume", "w": "workdir",
	} {
		options[short] = options[long]
	}
}

func text(field func(*container.Config, *container.HostConfig) *string) setter {
	return func(value string, c *container.Config, h *container.HostConfig) error {
		*field(c, h) = value
		return nil
	}
}

func list(field func(*container.Config, *container.HostConfig) *[]string) setter {
	return func(value string, c *container.Config, h *container.HostConfig) error {
		f := field(c, h)
		*f = append(*f, value)
		return nil
	}
}

func boolean(set func(*container.Config, *container.HostConfig, bool)) setter {
	return func(value string, c *container.Config, h *container.HostConfig) error {
		b := true
		if value != "" {
			var err error
			if b, err = strconv.ParseBool(value); err != nil {
				return fmt.Errorf("want true or false")
			}
		}
		set(c, h, b)
		return nil
	}
}

func number(field func(*container.HostConfig) *int64) setter {
	return func(value string, _ *container.Config, h *container.HostConfig) error {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("want a whole number")
		}
		*field(h) = n
		return nil
	}
}

func size(field func(*container.HostConfig) *int64) setter {
	return func(value string, _ *container.Config, h *container.HostConfig) error {
		if value == "-1" {
			*field(h) = -1
			return nil
		}
		n, err := units.RAMInBytes(value)
		if err != nil {
			return fmt.Errorf("want a size such as 512m")
		}
		*field(h) = n
		return nil
	}
}

func pair(field func(*container.HostConfig) *map[string]string) setter {
	return func(value string, _ *container.Config, h *container.HostConfig) error {
		k, v, ok := strings.Cut(value, "=")
		if !ok {
			return fmt.Errorf("want KEY=VALUE")
		}
		f := field(h)
		if *f == nil {
			*f = map[string]string{}
		}
		(*f)[k] = v
		return nil
	}
}

func blkioWeight(value string, _ *container.Config, h *container.HostConfig) error {
	n, err := strconv.ParseUint(value, 10, 16)
	h.BlkioWeight = uint16(n)
	return err
}

func throttle(field func(*container.HostConfig) *[]*blkiodev.ThrottleDevice) setter {
	return func(value string, _ *container.Config, h *container.HostConfig) error {
		path, rate, ok := strings.Cut(value, ":")
		n, err := units.RAMInBytes(rate)
		if !ok || err != nil {
			return fmt.Errorf("want DEVICE:RATE such as /dev/sda:1mb")
		}
		f := field(h)
		*f = append(*f, &blkiodev.ThrottleDevice{Path: path, Rate: uint64(n)})
		return nil
	}
}

func cpus(value string, _ *container.Config, h *container.HostConfig) error {
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || f < 0 {
		return fmt.Errorf("want a number of CPUs")
	}
	h.NanoCPUs = int64(f * 1e9)
	return nil
}

func device(value string, _ *container.Config, h *container.HostConfig) error {
	parts := strings.Split(value, ":")
	d := container.DeviceMapping{PathOnHost: parts[0], PathInContainer: parts[0], CgroupPermissions: "rwm"}
	switch len(parts) {
	case 1:
	case 2:
		if strings.Trim(parts[1], "rwm") == "" {
			d.CgroupPermissions = parts[1]
		} else {
			d.PathInContainer = parts[1]
		}
	case 3:
		d.PathInContainer, d.CgroupPermissions = parts[1], parts[2]
	default:
		return fmt.Errorf("want HOST[:CONTAINER[:PERMISSIONS]]")
	}
	h.Devices = append(h.Devices, d)
	return nil
}

func entrypoint(value string, c *container.Config, _ *container.HostConfig) error {
	if len(c.Entrypoint) == 0 { // a cmd has its own
		c.Entrypoint = []string{value}
	}
	return nil
}

func expose(value string, c *container.Config, _ *container.HostConfig) error {
	ports, _, err := nat.ParsePortSpecs([]string{value})
	if err != nil {
		return err
	}
	if c.ExposedPorts == nil {
		c.ExposedPorts = nat.PortSet{}
	}
	for p := range ports {
		c.ExposedPorts[p] = struct{}{}
	}
	return nil
}

// TaskLabel is the label of a container that holds the id of its task, as Mesos
// has it.
const TaskLabel = "MESOS_TASK_ID"

func label(value string, c *container.Config, _ *container.HostConfig) error {
	k, v, _ := strings.Cut(value, "=")
	switch k {
	case "":
		return fmt.Errorf("want KEY=VALUE")
	case TaskLabel, "paasta.marathon", "paasta.marathon.app", "paasta.marathon.version":
		return fmt.Errorf("that label is our own")
	}
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	c.Labels[k] = v
	return nil
}

func logDriver(value string, _ *container.Config, h *container.HostConfig) error {
	if value != h.LogConfig.Type {
		h.LogConfig.Config = nil
	}
	h.LogConfig.Type = value
	return nil
}

func logOption(value string, c *container.Config, h *container.HostConfig) error {
	return pair(func(h *container.HostConfig) *map[string]string { return &h.LogConfig.Config })(value, c, h)
}

func swappiness(value string, _ *container.Config, h *container.HostConfig) error {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < -1 || n > 100 {
		return fmt.Errorf("want 0 to 100, or -1")
	}
	h.MemorySwappiness = &n
	return nil
}

func oomScore(value string, _ *container.Config, h *container.HostConfig) error {
	n, err := strconv.Atoi(value)
	h.OomScoreAdj = n
	return err
}

func pidsLimit(value string, _ *container.Config, h *container.HostConfig) error {
	n, err := strconv.ParseInt(value, 10, 64)
	h.PidsLimit = &n
	return err
}

func stopTimeout(value string, c *container.Config, _ *container.HostConfig) error {
	n, err := strconv.Atoi(value)
	c.StopTimeout = &n
	return err
}

func tmpfs(value string, _ *container.Config, h *container.HostConfig) error {
	path, opts, _ := strings.Cut(value, ":")
	if h.Tmpfs == nil {
		h.Tmpfs = map[string]string{}
	}
	h.Tmpfs[path] = opts
	return nil
}

func ulimit(value string, _ *container.Config, h *container.HostConfig) error {
	u, err := units.ParseUlimit(value)
	if err != nil {
		return err
	}
	h.Ulimits = append(h.Ulimits, u)
	return nil
}
