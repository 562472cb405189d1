// Package supervisor starts and ends clusters. There are three processes: `up`, which runs until the cluster is ready; the
// supervisor, which stays; and the init process of the cluster's namespaces, which the kernel kills when the supervisor
// ends. Whichever of them is killed, the kernel ends the cluster's processes and removes its mounts and networks with its
// init.
package supervisor

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenantry/tenantry/hack/cluster/internal/cgroup"
	"github.com/tenantry/tenantry/hack/cluster/internal/node"
	"github.com/tenantry/tenantry/hack/cluster/internal/state"
)

// File descriptors that the processes inherit from each other.
const (
	supervisorProgress = 3 // the supervisor writes lines for the user to it
	supervisorLeash    = 4 // a read returns end of file when `up` has ended

	initListener = 3 // listens outside of the namespaces
	initProgress = 4 // the node writes lines for the user to it, and readyLine
)

const readyLine = "READY"

// errNoStart is returned when the reason is printed already.
var errNoStart = errors.New("the cluster did not come up")

// Command builds the command for one of this program's internal verbs.
type Command func(verb string) *exec.Cmd

// Up starts a cluster and returns when it is ready. It returns state.ErrUp if the cluster is up already. If this process
// ends first, the cluster ends, too.
func Up(cluster state.Cluster, command Command) error {
	up, err := cluster.Up()
	if err != nil {
		return err
	}
	if up {
		return state.ErrUp
	}

	progress, progressWriter, err := os.Pipe()
	if err != nil {
		return err
	}
	leashReader, leash, err := os.Pipe()
	if err != nil {
		return err
	}
	supervisor := command("supervise")
	supervisor.ExtraFiles = []*os.File{progressWriter, leashReader}
	supervisor.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	if err := supervisor.Start(); err != nil {
		return fmt.Errorf("starting the supervisor: %w", err)
	}
	progressWriter.Close()
	leashReader.Close()
	go func() {
		<-interrupted
		leash.Close()
	}()

	// The copy ends when the supervisor closes its end: the cluster is up, or has ended.
	if _, err := io.Copy(os.Stdout, progress); err != nil {
		return fmt.Errorf("following the start: %w", err)
	}
	info, err := cluster.Load()
	if err != nil {
		return err
	}
	if !info.Ready {
		return errNoStart
	}
	return nil
}

// Supervise runs a cluster until a signal stops it, and then removes its state.
func Supervise(cluster state.Cluster, folders node.Folders, command Command) error {
	progress := os.NewFile(supervisorProgress, "progress")
	leash := os.NewFile(supervisorLeash, "leash")
	lock, err := cluster.Lock()
	if err != nil {
		return tell(progress, err)
	}
	defer cluster.Unlock(lock)
	if err := sweep(cluster); err != nil {
		return tell(progress, err)
	}

	s := &supervisor{cluster: cluster, folders: folders, command: command, progress: progress}
	released := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, leash)
		close(released)
	}()
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, unix.SIGINT, unix.SIGTERM)

	if err := s.run(released, stopped); err != nil {
		// The logs stay until the next up or down.
		err = fmt.Errorf("%w; its logs are in %s", err, cluster.Logs())
		return tell(progress, errors.Join(err, cgroup.Remove(s.info.Cgroups)))
	}
	return sweep(cluster)
}

type supervisor struct {
	cluster  state.Cluster
	folders  node.Folders
	command  Command
	progress *os.File
	info     state.Info
	log      *os.File // the node's output
}

// run returns when the cluster has ended. If a signal or the end of `up` ended it, the error is nil.
func (s *supervisor) run(released <-chan struct{}, stopped <-chan os.Signal) error {
	if err := s.cluster.Create(); err != nil {
		return err
	}
	var err error
	if s.log, err = os.Create(filepath.Join(s.cluster.Logs(), "node.log")); err != nil {
		return err
	}
	defer s.log.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening for the API server: %w", err)
	}
	defer listener.Close()
	hierarchies, err := cgroup.Find()
	if err != nil {
		return err
	}
	// A cluster of the same name may keep its state in another folder, so the name alone is not enough.
	group := hierarchies.Group(fmt.Sprintf("tenantry-%s-%d", s.cluster.Name, os.Getpid()))
	s.info = state.Info{
		Supervisor: os.Getpid(),
		Port:       listener.Addr().(*net.TCPAddr).Port,
		Path:       s.folders.Path(),
		Cgroups:    group.Dirs(),
	}
	// Saved before the cgroups are created, so that a later `down` finds them in any case.
	if err := s.cluster.Save(s.info); err != nil {
		return err
	}
	init, lines, err := s.startInit(listener, group)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = init.Wait()
		close(ended)
	}()
	defer func() {
		_ = init.Process.Kill()
		<-ended // when init has ended, so have all processes of its namespaces
	}()

	s.info.Init = init.Process.Pid
	if err := s.cluster.Save(s.info); err != nil {
		return err
	}
	return s.follow(lines, released, stopped)
}

// follow reads the node's lines until the cluster is to end.
func (s *supervisor) follow(lines <-chan string, released <-chan struct{}, stopped <-chan os.Signal) error {
	for {
		select {
		case line, open := <-lines:
			switch {
			case !open:
				// All processes that could write lines have ended.
				return errors.New("the cluster ended by itself")
			case line == readyLine:
				if err := s.ready(); err != nil {
					return err
				}
				released = nil
			default:
				s.note(line)
			}
		case <-released:
			fmt.Fprintln(s.progress, "Interrupted")
			return nil
		case <-stopped:
			return nil
		}
	}
}

// note writes a line of the node to the log and, until the cluster is ready, to the user.
func (s *supervisor) note(line string) {
	fmt.Fprintln(s.log, line)
	if !s.info.Ready {
		fmt.Fprintln(s.progress, line)
	}
}

func (s *supervisor) ready() error {
	s.info.Ready = true
	if err := s.cluster.Save(s.info); err != nil {
		return err
	}
	return s.progress.Close()
}

// startInit starts the first process of new namespaces, in the cgroup.
func (s *supervisor) startInit(listener net.Listener, group *cgroup.Group) (*exec.Cmd, <-chan string, error) {
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		return nil, nil, err
	}
	defer socket.Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer writer.Close()
	init := s.command("init")
	init.Args = append(init.Args, strconv.Itoa(s.info.Port))
	init.Stdout, init.Stderr = s.log, s.log
	init.ExtraFiles = []*os.File{socket, writer}
	init.SysProcAttr = &unix.SysProcAttr{
		Setsid: true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS |
			unix.CLONE_NEWCGROUP,
		Pdeathsig: unix.SIGKILL,
	}
	// The root of a new cgroup namespace is the current cgroup of the process. The supervisor leaves that cgroup again,
	// since only an empty cgroup can be removed.
	if err := group.Create(); err != nil {
		return nil, nil, err
	}
	if err := group.Join(); err != nil {
		return nil, nil, errors.Join(err, group.Leave())
	}
	err = init.Start()
	if err := errors.Join(err, group.Leave()); err != nil {
		return nil, nil, fmt.Errorf("starting the init process: %w", err)
	}

	lines := make(chan string)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(reader); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	return init, lines, nil
}

// Down ends a cluster. If it has ended otherwise, Down removes what is left of it.
func Down(cluster state.Cluster) error {
	signalled := 0
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		lock, err := cluster.Lock()
		if err == nil {
			defer cluster.Unlock(lock)
			return sweep(cluster)
		}
		if !errors.Is(err, state.ErrUp) {
			return err
		}
		info, err := cluster.Load()
		if err != nil {
			return err
		}
		// The process that holds the lock has written its id, or will do so soon.
		if info.Supervisor != 0 && info.Supervisor != signalled {
			if err := unix.Kill(info.Supervisor, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("stopping the supervisor: %w", err)
			}
			signalled = info.Supervisor
		}
		if time.Since(began) > 30*time.Second {
			return fmt.Errorf("the supervisor of cluster %s, process %d, does not end", cluster.Name, info.Supervisor)
		}
	}
}

// sweep removes what is left of a cluster that no longer runs. The caller holds the lock.
func sweep(cluster state.Cluster) error {
	info, err := cluster.Load()
	if err != nil {
		return err
	}
	return errors.Join(cgroup.Remove(info.Cgroups), cluster.Remove())
}

func tell(w io.Writer, err error) error {
	fmt.Fprintln(w, err)
	return err
}
