package supervisor

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tenantry/tenantry/hack/cluster/internal/node"
	"github.com/tenantry/tenantry/hack/cluster/internal/state"
)

// Init is the first process of the cluster's namespaces. It starts the node as a separate process and waits for any child,
// so that it also reaps the orphans that containerd leaves. The arguments are the node's.
func Init(command Command, args []string) error {
	// From here on no mount is visible outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	child := command("node")
	child.Args = append(child.Args, args...)
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.ExtraFiles = []*os.File{os.NewFile(initListener, "listener"), os.NewFile(initProgress, "progress")}
	if err := child.Start(); err != nil {
		return fmt.Errorf("starting the node: %w", err)
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("waiting for children: %w", err)
		}
		if pid == child.Process.Pid {
			return fmt.Errorf("the node ended: status %d", status)
		}
	}
}

// Node runs the node. Its argument is the API server's port.
func Node(cluster state.Cluster, folders node.Folders, args []string) error {
	progress := os.NewFile(initProgress, "progress")
	port, err := strconv.Atoi(strings.Join(args, " "))
	if err != nil {
		return tell(progress, fmt.Errorf("reading the API server's port: %w", err))
	}
	listener, err := net.FileListener(os.NewFile(initListener, "listener"))
	if err != nil {
		return tell(progress, fmt.Errorf("using the listener: %w", err))
	}
	n := &node.Node{Cluster: cluster, Folders: folders, Port: port, Listener: listener, Progress: progress}
	err = n.Run(func() error {
		_, err := fmt.Fprintln(progress, readyLine)
		return err
	})
	return tell(progress, err)
}
