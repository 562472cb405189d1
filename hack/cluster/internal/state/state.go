// Package state is what a cluster has on the machine's disk while it runs: one folder, and beside it a lock that the
// cluster's supervisor holds. The lock, not a process id, says whether a cluster is up, since the kernel always releases it
// when the supervisor ends.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"
)

// ErrUp is returned by Lock while another process runs the cluster.
var ErrUp = errors.New("the cluster is up, coming up or going down")

var validName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$`)

// Cluster is the name of a cluster and the folder with its state.
type Cluster struct {
	Name string
	Dir  string
}

// Info is what is stored about a cluster that is up.
type Info struct {
	// Supervisor is the process id of the supervisor. To end it ends the cluster.
	Supervisor int
	// Init is pid 1 of the cluster's namespaces, as seen from outside of them.
	Init int `json:",omitempty"`
	// Ready is set when the cluster can be used.
	Ready bool
	// Port is the API server's port, on 127.0.0.1 inside and outside of the cluster's namespaces.
	Port int
	// Path is the search path for the cluster's programs.
	Path string
	// Cgroups are the cgroup folders to remove at the end.
	Cgroups []string
}

// Find returns the cluster of that name.
func Find(parent, name string) (Cluster, error) {
	if !validName.MatchString(name) {
		return Cluster{}, fmt.Errorf("%q can't be a cluster's name: at most 32 lower case letters, digits and dashes", name)
	}
	parent, err := filepath.Abs(parent)
	if err != nil {
		return Cluster{}, err
	}
	return Cluster{Name: name, Dir: filepath.Join(parent, name)}, nil
}

// Kubeconfig is valid inside and outside of the cluster's namespaces.
func (c Cluster) Kubeconfig() string { return filepath.Join(c.Dir, "kubeconfig") }

// Logs has one file per component.
func (c Cluster) Logs() string { return filepath.Join(c.Dir, "logs") }

func (c Cluster) infoFile() string { return filepath.Join(c.Dir, "cluster.json") }
func (c Cluster) lockFile() string { return c.Dir + ".lock" }

// Lock takes the cluster's lock, or returns ErrUp. Unlock removes the lock's file. So Lock may have locked a file that was
// just removed; then it tries again.
func (c Cluster) Lock() (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(c.Dir), 0o755); err != nil {
		return nil, err
	}
	for {
		file, err := os.OpenFile(c.lockFile(), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			file.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, ErrUp
			}
			return nil, fmt.Errorf("locking %s: %w", c.lockFile(), err)
		}
		locked, err := file.Stat()
		if err != nil {
			file.Close()
			return nil, err
		}
		if found, err := os.Stat(c.lockFile()); err == nil && os.SameFile(locked, found) {
			return file, nil
		}
		file.Close()
	}
}

// Unlock removes the lock's file and releases the lock.
func (c Cluster) Unlock(lock *os.File) {
	os.Remove(c.lockFile())
	lock.Close()
}

// Up says whether a supervisor runs.
func (c Cluster) Up() (bool, error) {
	if _, err := os.Stat(c.lockFile()); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	lock, err := c.Lock()
	if errors.Is(err, ErrUp) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	c.Unlock(lock)
	return false, nil
}

// Load returns what is stored. It is no error if nothing is.
func (c Cluster) Load() (Info, error) {
	var info Info
	data, err := os.ReadFile(c.infoFile())
	if errors.Is(err, fs.ErrNotExist) {
		return info, nil
	}
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(data, &info); err != nil {
		return info, fmt.Errorf("decoding %s: %w", c.infoFile(), err)
	}
	return info, nil
}

// Save replaces what is stored, atomically.
func (c Cluster) Save(info Info) error {
	data, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", c.infoFile(), err)
	}
	if err := os.WriteFile(c.infoFile()+".new", data, 0o644); err != nil {
		return err
	}
	return os.Rename(c.infoFile()+".new", c.infoFile())
}

// Create creates the folder. The caller holds the lock, so no cluster runs. Create removes an old cluster's folder, and
// fails if the folder has other content.
func (c Cluster) Create() error {
	if err := c.Remove(); err != nil {
		return err
	}
	return os.MkdirAll(c.Logs(), 0o755)
}

// Remove removes the folder, if it is a cluster's.
func (c Cluster) Remove() error {
	if _, err := os.Stat(c.infoFile()); err == nil {
		if err := os.RemoveAll(c.Dir); err != nil {
			return fmt.Errorf("removing the state of %s: %w", c.Name, err)
		}
		return nil
	}
	if _, err := os.Stat(c.Logs()); err == nil {
		// Create was interrupted. os.Remove refuses a folder that is not empty.
		if err := os.Remove(c.Logs()); err != nil {
			return fmt.Errorf("%s has something that is no cluster's: %w", c.Dir, err)
		}
	}
	if err := os.Remove(c.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s has something that is no cluster's: %w", c.Dir, err)
	}
	return nil
}
