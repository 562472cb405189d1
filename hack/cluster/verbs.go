package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tenantry/tenantry/hack/cluster/internal/image"
	"github.com/tenantry/tenantry/hack/cluster/internal/node"
	"github.com/tenantry/tenantry/hack/cluster/internal/state"
	"github.com/tenantry/tenantry/hack/cluster/internal/supervisor"
)

// hidden are the machine's folders that the cluster does not see, because it has its own.
var hidden = []string{"/run", "/var/run", "/var/lib", "/var/log", "/sys", "/proc"}

func up(cluster state.Cluster, folders node.Folders, command supervisor.Command) error {
	for _, dir := range []string{cluster.Dir, folders.ControlPlane, folders.Node, folders.Tools} {
		for _, parent := range hidden {
			if strings.HasPrefix(dir+"/", parent+"/") {
				return fmt.Errorf("%s is not to be seen inside the cluster, which has its own %s: set XDG_CACHE_HOME and TENANTRY_CLUSTER_DIR to folders elsewhere", dir, parent)
			}
		}
	}
	if err := os.Setenv("PATH", folders.Path()); err != nil {
		return err
	}
	for _, program := range []string{"runc", "nft", "mount"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w: it was there when %s was built, which can be removed to have it built anew", err, folders.Node)
		}
	}
	is := "up"
	err := supervisor.Up(cluster, command)
	if errors.Is(err, state.ErrUp) {
		is = "already up"
		_, err = running(cluster)
	}
	if err != nil {
		return err
	}
	fmt.Printf("Cluster %s is %s: export KUBECONFIG=%s\n", cluster.Name, is, cluster.Kubeconfig())
	return nil
}

// running returns what is known about the cluster, which must be up.
func running(cluster state.Cluster) (state.Info, error) {
	up, err := cluster.Up()
	if err != nil {
		return state.Info{}, err
	}
	info, err := cluster.Load()
	if err != nil {
		return state.Info{}, err
	}
	switch {
	case !up && info.Supervisor != 0:
		return state.Info{}, fmt.Errorf("cluster %s is not up, and was not ended; its logs are in %s", cluster.Name, cluster.Logs())
	case !up:
		return state.Info{}, fmt.Errorf("cluster %s is not up", cluster.Name)
	case !info.Ready:
		return state.Info{}, fmt.Errorf("cluster %s is coming up", cluster.Name)
	}
	return info, nil
}

// enter makes a command run in the cluster's namespaces, with its programs and kubeconfig.
func enter(cluster state.Cluster, args ...string) (*exec.Cmd, error) {
	info, err := running(cluster)
	if err != nil {
		return nil, err
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	if err := os.Setenv("KUBECONFIG", cluster.Kubeconfig()); err != nil {
		return nil, err
	}
	if err := os.Setenv("PATH", info.Path+":"+os.Getenv("PATH")); err != nil {
		return nil, err
	}
	cmd := exec.Command("nsenter", append([]string{
		"--target", strconv.Itoa(info.Init), "--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--wdns=" + dir, "--",
	}, args...)...)
	return cmd, cmd.Err
}

// execute replaces this process by the command, so that signals reach it and its exit status is passed on.
func execute(cluster state.Cluster, args []string) error {
	if len(args) == 0 {
		return errors.New("exec: which command?")
	}
	cmd, err := enter(cluster, args...)
	if err != nil {
		return err
	}
	return unix.Exec(cmd.Path, cmd.Args, os.Environ())
}

func load(cluster state.Cluster, args []string) error {
	if len(args) != 1 {
		return errors.New("load: which image archive?")
	}
	// Opened outside of the cluster, since its folder may be hidden inside.
	archive, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer archive.Close()
	cmd, err := enter(cluster, append([]string{"ctr"}, node.ImportArgs...)...)
	if err != nil {
		return err
	}
	cmd.Stdin = archive
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("loading %s: %w: %s", args[0], err, out)
	}
	fmt.Printf("Loaded %s\n", args[0])
	return nil
}

func makeImage(args []string) error {
	if len(args) != 4 {
		return errors.New("image: give a static binary, a tag, the path in the image and the archive to write")
	}
	target := args[3]
	partial, err := os.CreateTemp(filepath.Dir(target), ".image-*")
	if err != nil {
		return err
	}
	defer os.Remove(partial.Name())
	defer partial.Close()
	img := image.Image{Binary: args[0], Tag: args[1], Path: args[2], User: image.Nonroot}
	if err := img.Write(partial); err != nil {
		return fmt.Errorf("making image %s: %w", img.Tag, err)
	}
	if err := partial.Chmod(0o644); err != nil {
		return err
	}
	return os.Rename(partial.Name(), target)
}

func printKubeconfig(cluster state.Cluster) error {
	if _, err := running(cluster); err != nil {
		return err
	}
	fmt.Println(cluster.Kubeconfig())
	return nil
}

func printStatus(cluster state.Cluster) error {
	info, err := running(cluster)
	if err != nil {
		return err
	}
	fmt.Printf("Cluster %s is up\nAPI server  https://127.0.0.1:%d\nkubeconfig  %s\nlogs        %s\nsupervisor  process %d\n\n",
		cluster.Name, info.Port, cluster.Kubeconfig(), cluster.Logs(), info.Supervisor)
	if err := os.Setenv("PATH", info.Path); err != nil {
		return err
	}
	kubectl := exec.Command("kubectl", "--kubeconfig", cluster.Kubeconfig(), "get", "nodes,pods", "--all-namespaces")
	kubectl.Stdout, kubectl.Stderr = os.Stdout, os.Stderr
	return kubectl.Run()
}
