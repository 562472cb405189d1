package postgrestest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is whom the server runs as. PostgreSQL refuses to run as root.
type account struct {
	// uid and gid of another user. Zero means whoever runs the tests.
	uid, gid int
}

// unprivileged returns the account of a user who may do nothing, where the tests run as root.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return &account{}, nil
	}
	var failed error
	for _, name := range []string{"postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		uid, err := strconv.Atoi(found.Uid)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.Atoi(found.Gid)
		return &account{uid: uid, gid: gid}, err
	}
	return nil, fmt.Errorf("finding an unprivileged user for PostgreSQL: %w", failed)
}

// runs has a command run as this user, in a process group of its own, so that Ctrl-C reaches only the tests.
func (a *account) runs(c *exec.Cmd, dir string) {
	c.Dir = dir
	c.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "HOME=" + dir}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a.uid != 0 {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
}

// own gives a file, or a folder and everything in it, to the user.
func (a *account) own(path string) error {
	if a.uid == 0 {
		return nil
	}
	return filepath.WalkDir(path, func(file string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(file, a.uid, a.gid)
	})
}

// reachable returns a folder of programs that the user can run: the given one, or else the copy of the installation that it makes.
// The cache of root is in a folder that nobody else may enter.
func (a *account) reachable(bin, installation string) (string, error) {
	if a.uid == 0 {
		return bin, nil
	}
	for dir := filepath.Clean(bin); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return "", err
		}
		if info.Mode().Perm()&0o001 == 0 {
			return filepath.Join(installation, filepath.Base(bin)), os.CopyFS(installation, os.DirFS(filepath.Dir(bin)))
		}
		if dir == filepath.Dir(dir) {
			return bin, nil
		}
	}
}
