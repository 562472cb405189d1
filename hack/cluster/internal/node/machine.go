package node

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tenantry/tenantry/hack/cluster/internal/cgroup"
)

// sysctls are settings of the whole machine, which the kubelet sets unless they have these values. Files with these values
// are mounted over them, so that the kubelet does not change the machine's.
var sysctls = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// mount changes what the cluster's processes see of the machine's files. All of it is in a mount namespace of its own.
func (n *Node) mount() error {
	if err := unix.Sethostname([]byte(nodeName)); err != nil {
		return fmt.Errorf("setting the hostname: %w", err)
	}
	hierarchies, err := cgroup.Find()
	if err != nil {
		return err
	}
	// /sys shows the network namespace of the process that mounts it. The new mount hides the mounts below the old one.
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mounting /sys: %w", err)
	}
	if err := hierarchies.Mount(); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting /run: %w", err)
	}
	for name, target := range map[string]string{"varlib": "/var/lib", "varlog": "/var/log"} {
		source := filepath.Join(n.Cluster.Dir, name)
		if err := os.Mkdir(source, 0o755); err != nil {
			return err
		}
		if err := bind(source, target); err != nil {
			return err
		}
	}
	if err := n.bindSysctls(); err != nil {
		return err
	}
	if err := n.bindLibraries(); err != nil {
		return err
	}
	// Pods' mounts are propagated from here.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("sharing the mounts: %w", err)
	}
	return nil
}

func (n *Node) bindSysctls() error {
	dir := filepath.Join(n.Cluster.Dir, "sysctl")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for name, value := range sysctls {
		file := filepath.Join(dir, strings.ReplaceAll(name, "/", "."))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := bind(file, filepath.Join("/proc/sys", name)); err != nil {
			return err
		}
	}
	return nil
}

// bindLibraries makes the dynamic linker find the libraries of the unpacked packages. LD_LIBRARY_PATH does not work, since
// runc executes itself again without it.
func (n *Node) bindLibraries() error {
	var dirs []string
	for _, pattern := range []string{"usr/lib/*-linux-gnu*", "lib/*-linux-gnu*"} {
		found, err := filepath.Glob(filepath.Join(n.Folders.debian(), pattern))
		if err != nil {
			return err
		}
		dirs = append(dirs, found...)
	}
	if len(dirs) == 0 {
		return nil
	}
	cache := filepath.Join(n.Cluster.Dir, "ld.so.cache")
	out, err := exec.Command("ldconfig", append([]string{"-X", "-C", cache}, dirs...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("running ldconfig: %w: %s", err, out)
	}
	return bind(cache, "/etc/ld.so.cache")
}

func bind(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding %s over %s: %w", source, target, err)
	}
	return nil
}

// setUpNetwork gives the node its address. Each pod has a veth pair of its own, so that all its packets are routed and pass
// the rules. On a bridge that would need a kernel module.
func setUpNetwork() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)

	if err := setAddress(socket, "lo:1", nodeAddress); err != nil {
		return fmt.Errorf("adding %s to the loopback interface: %w", nodeAddress, err)
	}
	for _, name := range []string{"lo", "lo:1"} {
		if err := setUp(socket, name); err != nil {
			return fmt.Errorf("setting the interface %s up: %w", name, err)
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
}

func setAddress(socket int, name, address string) error {
	for _, request := range []struct {
		code    uint
		address net.IP
	}{
		{unix.SIOCSIFADDR, net.ParseIP(address)},
		{unix.SIOCSIFNETMASK, net.IPv4bcast}, // without it the kernel takes a /8, by the class of the address
	} {
		ifreq, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := ifreq.SetInet4Addr(request.address.To4()); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(socket, request.code, ifreq); err != nil {
			return err
		}
	}
	return nil
}

func setUp(socket int, name string) error {
	ifreq, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(socket, unix.SIOCGIFFLAGS, ifreq); err != nil {
		return err
	}
	ifreq.SetUint16(ifreq.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, ifreq)
}

// reservePort keeps the kernel from using the API server's port for an outgoing connection. The port is any free port of
// the machine.
func (n *Node) reservePort() error {
	return os.WriteFile("/proc/sys/net/ipv4/ip_local_reserved_ports", []byte(strconv.Itoa(n.Port)), 0o644)
}
