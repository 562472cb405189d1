// Package cgroup gives a cluster a cgroup of its own in every hierarchy of the machine: several with version 1, below the
// cgroup that it is started from, or one with version 2, below the root. Version 2 is not tested.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const root = "/sys/fs/cgroup"

// Hierarchies are the cgroup hierarchies of the machine. With version 2 it is one, without controllers.
type Hierarchies []hierarchy

// hierarchy is one line of /proc/self/cgroup.
type hierarchy struct {
	controllers string // "cpu,cpuacct", or "name=systemd"; empty for version 2
	path        string // the cgroup of this process
}

// v2Controllers are the controllers that the kubelet needs.
var v2Controllers = []string{"cpuset", "cpu", "io", "memory", "pids"}

// Group is the cluster's cgroup.
type Group struct {
	unified bool
	homes   []string // the cgroups of this process before Join, in the order of dirs
	dirs    []string
}

// Find returns the hierarchies that are mounted. On a machine with version 1 it omits the empty hierarchy of version 2.
func Find() (Hierarchies, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(root, &stat); err != nil {
		return nil, fmt.Errorf("looking at %s: %w", root, err)
	}
	unified := stat.Type == unix.CGROUP2_SUPER_MAGIC
	var found Hierarchies
	for line := range strings.Lines(string(data)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		h := hierarchy{controllers: fields[1], path: fields[2]}
		if _, err := os.Stat(h.mountPoint()); err == nil && unified == (h.controllers == "") {
			found = append(found, h)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no cgroups are mounted at %s", root)
	}
	return found, nil
}

func (hs Hierarchies) unified() bool { return hs[0].controllers == "" }

func (h hierarchy) mountPoint() string {
	return filepath.Join(root, strings.TrimPrefix(h.controllers, "name="))
}

// Group returns the group of that name. It does not create it.
func (hs Hierarchies) Group(name string) *Group {
	group := &Group{unified: hs.unified()}
	for _, h := range hs {
		home := filepath.Join(h.mountPoint(), h.path)
		group.homes = append(group.homes, home)
		if group.unified {
			// A cgroup with processes can't delegate its controllers, unless it is the root.
			home = root
		}
		group.dirs = append(group.dirs, filepath.Join(home, name))
	}
	return group
}

// Dirs are the group's folders.
func (g *Group) Dirs() []string { return g.dirs }

// Create creates the group's folders.
func (g *Group) Create() error {
	for _, dir := range g.dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("creating a cgroup: %w", err)
		}
		if g.unified {
			return delegate(root)
		}
		if err := fillCPUSet(dir); err != nil {
			return fmt.Errorf("filling the cpuset %s: %w", dir, err)
		}
	}
	return nil
}

// fillCPUSet gives a group of version 1 the processors of its parent. A new group has none, and then no process can join
// it.
func fillCPUSet(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the hierarchy has no cpuset controller
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Join moves this process into the group. Processes that it starts from now on are in the group, too.
func (g *Group) Join() error { return move(g.dirs) }

// Leave moves only this process back to the cgroups that it came from.
func (g *Group) Leave() error { return move(g.homes) }

// Remove removes a group's folders. The group must have no processes. Processes that have just ended count for a moment, so
// Remove tries again.
func Remove(dirs []string) error {
	deadline := time.Now().Add(10 * time.Second)
	var failed error
	for _, dir := range dirs {
		var found []string
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && entry.IsDir() {
				found = append(found, path)
			}
			return err
		})
		failed = errors.Join(failed, err)
		for _, path := range slices.Backward(found) {
			failed = errors.Join(failed, removeOne(path, deadline))
		}
	}
	return failed
}

func removeOne(dir string, deadline time.Time) error {
	for {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("removing cgroup %s: %w", dir, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Mount mounts the hierarchies again, in a private mount and cgroup namespace, with the group of this process as root.
func (hs Hierarchies) Mount() error {
	if hs.unified() {
		if err := unix.Mount("cgroup2", root, "cgroup2", 0, ""); err != nil {
			return fmt.Errorf("mounting cgroup2: %w", err)
		}
		// What looks like the root here is no root, so it must have no processes to delegate its controllers.
		first := filepath.Join(root, "init")
		if err := os.Mkdir(first, 0o755); err != nil {
			return err
		}
		if err := moveAll(root, first); err != nil {
			return err
		}
		return delegate(root)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting a tmpfs for cgroups: %w", err)
	}
	for _, h := range hs {
		dir := h.mountPoint()
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		options := h.controllers
		if strings.HasPrefix(options, "name=") {
			options = "none," + options
		}
		if err := unix.Mount("cgroup", dir, "cgroup", 0, options); err != nil {
			return fmt.Errorf("mounting cgroup %s: %w", h.controllers, err)
		}
	}
	return nil
}

func delegate(dir string) error {
	enable := "+" + strings.Join(v2Controllers, " +")
	if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(enable), 0o644); err != nil {
		return fmt.Errorf("enabling the controllers of %s: %w", dir, err)
	}
	return nil
}

func move(dirs []string) error {
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return fmt.Errorf("moving into cgroup %s: %w", dir, err)
		}
	}
	return nil
}

func moveAll(from, to string) error {
	data, err := os.ReadFile(filepath.Join(from, "cgroup.procs"))
	if err != nil {
		return err
	}
	for pid := range strings.FieldsSeq(string(data)) {
		if err := os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(pid), 0o644); err != nil {
			return fmt.Errorf("moving process %s into cgroup %s: %w", pid, to, err)
		}
	}
	return nil
}
