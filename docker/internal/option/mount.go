package option

import (
	"fmt"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/go-units"
)

// mounted reads the value of --mount.
func mounted(value string, _ *container.Config, h *container.HostConfig) error {
	m := mount.Mount{Type: mount.TypeVolume}
	for field := range strings.SplitSeq(value, ",") {
		k, v, _ := strings.Cut(field, "=")
		switch k {
		case "type":
			m.Type = mount.Type(v)
		case "source", "src":
			m.Source = v
		case "target", "destination", "dst":
			m.Target = v
		case "readonly", "ro":
			m.ReadOnly = v != "false" && v != "0"
		case "bind-propagation":
			m.BindOptions = &mount.BindOptions{Propagation: mount.Propagation(v)}
		case "tmpfs-size":
			n, err := units.RAMInBytes(v)
			if err != nil {
				return err
			}
			m.TmpfsOptions = &mount.TmpfsOptions{SizeBytes: n}
		default:
			return fmt.Errorf("unknown field %q", k)
		}
	}
	if m.Target == "" {
		return fmt.Errorf("target is missing")
	}
	h.Mounts = append(h.Mounts, m)
	return nil
}
