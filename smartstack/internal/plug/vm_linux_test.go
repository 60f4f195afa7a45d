package plug

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopaasta/paasta/paasta/paastatest"
)

const (
	insideVM = "PAASTA_TEST_VM"
	vmExit   = "paasta-vm-exit="
)

// vmModules are what the virtual machine needs to see the host's files, in the
// order in which they are inserted. The rest is loaded by modprobe.
var vmModules = []string{
	"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci",
	"netfs", "fscache", "9pnet", "9pnet_virtio", "9p", "overlay",
}

// inDebiansKernel runs the test once more under Debian's kernel, which has what
// the machine's own may lack, and there returns true; outside it returns false
// once that run has ended. The virtual machine sees the host's files, below a
// memory file system that takes its writes, so this very binary runs in it.
// The kernel is downloaded and unpacked into the user's cache, not installed.
func inDebiansKernel(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideVM) == t.Name() {
		return true
	}
	paastatest.NeedRoot(t) // to read the host's files as root would
	qemu := paastatest.Need(t, "qemu-system-x86_64")
	kernel := unpackedKernel(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	initramfs := filepath.Join(t.TempDir(), "initramfs")
	inner := fmt.Sprintf("cd '%s' && %s='%s' CI=true '%s' -test.run '^%s$' -test.v -test.timeout 270s -test.bench '^BenchmarkLoopback$' -test.benchtime 5000x",
		dir, insideVM, t.Name(), self, t.Name())
	if err := os.WriteFile(initramfs, initramfsOf(t, kernel, inner), 0o600); err != nil {
		t.Fatal(err)
	}
	image, err := filepath.Glob(filepath.Join(kernel, "boot/vmlinuz-*"))
	if err != nil || len(image) != 1 {
		t.Fatalf("no kernel image in %s: %v", kernel, err)
	}
	// -icount makes the machine's clock a count of its instructions: however
	// little of the processor it gets, inside no time passes meanwhile, and no
	// bound of the plug is reached because the host is busy.
	cmd := exec.CommandContext(ctx, qemu,
		"-accel", "tcg,thread=single", "-icount", "shift=1,sleep=on", "-rtc", "clock=vm", "-cpu", "max", "-smp", "1", "-m", "1024",
		"-nodefaults", "-no-reboot", "-nographic", "-serial", "stdio",
		"-kernel", image[0], "-initrd", initramfs, "-append", "console=ttyS0 quiet panic=-1",
		"-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap")
	out, err := cmd.CombinedOutput()
	text := strings.ReplaceAll(string(out), "\r", "")
	if err != nil || !strings.Contains(text, vmExit+"0\n") {
		t.Errorf("in the virtual machine: %v %v\n%s", err, ctx.Err(), text)
	} else {
		t.Logf("in the virtual machine:\n%s", text)
	}
	return false
}

// unpackedKernel returns a folder with boot/vmlinuz-* and lib/modules of
// Debian's current kernel.
func unpackedKernel(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache = filepath.Join(cache, "paasta", "kernel")
	name := kernelPackage(t, cache)
	dir := filepath.Join(cache, name)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	// Into a folder of its own first: two test runs may do this at once.
	tmp, err := os.MkdirTemp(cache, "unpack-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	run(t, tmp, "apt-get", "download", name)
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != 1 {
		t.Fatalf("apt-get download %s left %q, %v", name, debs, err)
	}
	root := filepath.Join(tmp, "root")
	run(t, tmp, "dpkg-deb", "-x", debs[0], root)
	if _, err := os.Stat(filepath.Join(root, "lib")); err != nil { // packages for Debian 13 no longer ship it
		if err := os.Symlink("usr/lib", filepath.Join(root, "lib")); err != nil {
			t.Fatal(err)
		}
	}
	run(t, tmp, "depmod", "-b", root, strings.TrimSuffix(strings.TrimPrefix(name, "linux-image-"), "-unsigned"))
	if err := os.Rename(root, dir); err != nil {
		if _, there := os.Stat(dir); there != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// kernelPackage asks apt which kernel is Debian's current one. Without an
// answer, one that was unpacked earlier will do.
func kernelPackage(t *testing.T, cache string) string {
	t.Helper()
	paastatest.Need(t, "apt-get")
	paastatest.Need(t, "dpkg-deb")
	paastatest.Need(t, "depmod")
	out, err := exec.Command("apt-cache", "depends", "linux-image-amd64").Output()
	if err == nil {
		for line := range strings.Lines(string(out)) {
			if _, name, ok := strings.Cut(line, "Depends: "); ok {
				return strings.TrimSpace(name)
			}
		}
	}
	have, _ := filepath.Glob(filepath.Join(cache, "linux-image-*"))
	if len(have) == 0 {
		paastatest.Missing(t, "apt knows no linux-image-amd64 (apt-get update fetches its lists): %v", err)
	}
	return filepath.Base(have[0])
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// initramfsOf returns a compressed archive with busybox, the modules and an
// init that runs a command in the host's root.
func initramfsOf(t *testing.T, kernel, command string) []byte {
	t.Helper()
	busybox, err := os.ReadFile(paastatest.Need(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(busybox, []byte("/lib64/ld-linux")) {
		paastatest.Missing(t, "busybox is not the static one (package busybox-static)")
	}
	var a cpio
	for _, dir := range []string{"bin", "sbin", "proc", "sys", "dev", "host", "rw", "new", "mods"} {
		a.add(dir, 0o40755, nil)
	}
	a.add("bin/busybox", 0o100755, busybox)
	modules := modulePaths(t, kernel)
	for i, name := range vmModules {
		path, ok := modules[name]
		if !ok {
			continue // built into the kernel
		}
		text, err := os.ReadFile(path)
		if strings.HasSuffix(path, ".xz") {
			text, err = exec.Command("busybox", "xzcat", path).Output()
		}
		if err != nil {
			t.Fatalf("read module %s: %v", path, err)
		}
		a.add(fmt.Sprintf("mods/%02d-%s.ko", i, name), 0o100644, text)
	}
	// The kernel asks for modules in its first root, this one.
	a.add("sbin/modprobe", 0o100755, []byte("#!/bin/busybox sh\nexec /bin/busybox chroot /new /sbin/modprobe \"$@\"\n"))
	a.add("init", 0o100755, []byte(`#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
for m in /mods/*; do $b insmod $m; done
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=524288,cache=loose host /host &&
$b mount -t tmpfs tmpfs /rw &&
$b mkdir /rw/up /rw/work &&
$b mount -t overlay -o lowerdir=/host,upperdir=/rw/up,workdir=/rw/work overlay /new
for d in proc sys dev; do $b mount --move /$d /new/$d; done
$b chroot /new /bin/mount -t tmpfs tmpfs /run
$b mkdir -p /new/run/lock
$b chroot /new /bin/mkdir -p /usr/lib/modules
$b chroot /new /bin/mount --bind '`+kernel+`/lib/modules' /usr/lib/modules
$b chroot /new /sbin/ip link set lo up
PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root $b chroot /new /bin/sh -c "`+strings.ReplaceAll(command, `"`, `\"`)+`" 2>&1
echo "`+vmExit+`$?"
$b poweroff -f
`))
	return a.gzip(t)
}

// modulePaths finds the module files by module name.
func modulePaths(t *testing.T, kernel string) map[string]string {
	t.Helper()
	paths := map[string]string{}
	err := filepath.WalkDir(filepath.Join(kernel, "lib/modules"), func(path string, _ fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(strings.TrimSuffix(path, ".xz"), ".ko"); err == nil && ok {
			paths[strings.ReplaceAll(filepath.Base(name), "-", "_")] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// cpio is an archive in the "newc" form that the kernel unpacks.
type cpio struct {
	b     bytes.Buffer
	files int
}

func (c *cpio) add(name string, mode int, text []byte) {
	c.files++
	fmt.Fprintf(&c.b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.files, mode, 0, 0, 1, 0, len(text), 0, 0, 0, 0, len(name)+1, 0, name)
	c.pad()
	c.b.Write(text)
	c.pad()
}

func (c *cpio) pad() {
	for c.b.Len()%4 != 0 {
		c.b.WriteByte(0)
	}
}

func (c *cpio) gzip(t *testing.T) []byte {
	t.Helper()
	c.add("TRAILER!!!", 0, nil)
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(z)
	if _, err := w.Write(c.b.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
