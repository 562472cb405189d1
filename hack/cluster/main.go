// Command cluster runs a real one-node Kubernetes in namespaces of its own. hack/cluster.sh builds everything and calls it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/tenantry/tenantry/hack/cluster/internal/node"
	"github.com/tenantry/tenantry/hack/cluster/internal/state"
	"github.com/tenantry/tenantry/hack/cluster/internal/supervisor"
)

func init() {
	// The kernel kills the cluster's init when the thread that started it ends (Pdeathsig). So that has to be the main
	// thread, which ends with the process.
	runtime.LockOSThread()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		var ended *exec.ExitError
		if errors.As(err, &ended) && ended.ExitCode() > 0 {
			os.Exit(ended.ExitCode())
		}
		os.Exit(1)
	}
}

func run() error {
	// The processes that stay must not inherit unknown file descriptors: a reader at the other end of such a pipe would
	// wait for them. Old kernels do not support this call, so there they inherit them.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)

	program, err := os.Executable()
	if err != nil {
		return err
	}
	name := flag.String("name", "tenantry", "the cluster's name")
	dir := flag.String("dir", "", "the folder that clusters keep their state in")
	folders := node.Folders{Tools: filepath.Dir(program)}
	flag.StringVar(&folders.ControlPlane, "controlplane", "", "the folder with the control plane's programs")
	flag.StringVar(&folders.Node, "node", "", "the folder with the node's programs")
	flag.Parse()

	if *dir == "" {
		return errors.New("-dir is required")
	}
	cluster, err := state.Find(*dir, *name)
	if err != nil {
		return err
	}
	// The processes that stay run this same program. They run in /, so that they do not keep the caller's folder in use.
	// They do not get the caller's environment: the API server would send its webhook requests to a proxy for the internet.
	command := func(verb string) *exec.Cmd {
		cmd := exec.Command(program, "-name", cluster.Name, "-dir", filepath.Dir(cluster.Dir),
			"-controlplane", folders.ControlPlane, "-node", folders.Node, verb)
		cmd.Dir = "/"
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + cluster.Dir}
		return cmd
	}

	if flag.NArg() == 0 {
		return errors.New("a verb is required")
	}
	switch verb, args := flag.Arg(0), flag.Args()[1:]; verb {
	case "up":
		return up(cluster, folders, command)
	case "down":
		return supervisor.Down(cluster)
	case "exec":
		return execute(cluster, args)
	case "load":
		return load(cluster, args)
	case "image":
		return makeImage(args)
	case "kubeconfig":
		return printKubeconfig(cluster)
	case "status":
		return printStatus(cluster)
	case "supervise":
		return supervisor.Supervise(cluster, folders, command)
	case "init":
		return supervisor.Init(command, args)
	case "node":
		return supervisor.Node(cluster, folders, args)
	default:
		return fmt.Errorf("unknown verb %q", verb)
	}
}
