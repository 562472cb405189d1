// Package supervisor starts and ends clusters. Three processes are in it: `up`, which a person waits for; the supervisor,
// which stays; and the init process of the cluster's namespaces, which the kernel kills when the supervisor dies. Whoever
// of them is killed, and however, the kernel takes the cluster's processes, mounts and networks away with its init.
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

// What the processes inherit from each other.
const (
	supervisorProgress = 3 // the supervisor writes what a person should see
	supervisorLeash    = 4 // reads the end when `up` is gone

	initListener = 3 // listens outside of the namespaces
	initProgress = 4 // the node writes what a person should see, and readyLine
)

const readyLine = "READY"

// errNoStart is returned when the reason has been printed.
var errNoStart = errors.New("the cluster did not come up")

// Command makes the command line of this program's verbs that are not for people.
type Command func(verb string) *exec.Cmd

// Up starts a cluster and returns when it can be used, or state.ErrUp when there is nothing to start. When this process
// dies first, the cluster does, too.
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

	// It ends when the supervisor has nothing more to say: the cluster is up, or nothing is left of it.
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

// Supervise runs a cluster until it is told to stop, and removes what it left.
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
		// What is needed to find out why stays until the next up or down.
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
	log      *os.File // what the node had to say
}

// run returns when the cluster has ended: without an error, if it was told to.
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
	// The name alone may be that of another cluster, which keeps its state elsewhere.
	group := hierarchies.Group(fmt.Sprintf("tenantry-%s-%d", s.cluster.Name, os.Getpid()))
	s.info = state.Info{
		Supervisor: os.Getpid(),
		Port:       listener.Addr().(*net.TCPAddr).Port,
		Path:       s.folders.Path(),
		Cgroups:    group.Dirs(),
	}
	// Before the cgroups are made, so that a later down finds them however this goes on.
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
		<-ended // init is gone when all that it was the first of is
	}()

	s.info.Init = init.Process.Pid
	if err := s.cluster.Save(s.info); err != nil {
		return err
	}
	return s.follow(lines, released, stopped)
}

// follow listens to the node until there is a reason to end.
func (s *supervisor) follow(lines <-chan string, released <-chan struct{}, stopped <-chan os.Signal) error {
	for {
		select {
		case line, open := <-lines:
			switch {
			case !open:
				// Nobody is left to write any.
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

// note hands on what the node says, as long as somebody listens.
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
	// A new cgroup namespace has the cgroup of the moment as its root. The supervisor does not stay in it, since a
	// cgroup is removed only when it is empty.
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

// Down ends a cluster, and removes what is left of one that ended otherwise.
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
		// Who holds the lock has written its id, or is about to.
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

// sweep removes what a cluster that no longer runs left behind. The lock is held.
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
