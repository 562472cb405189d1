package bench

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// process is a controller in a process of its own, so that its memory and its requests can be measured.
type process struct {
	command *exec.Cmd
	metrics endpoint
}

// buildManager returns the path of the operator's binary.
func buildManager(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "manager")
	if out, err := exec.Command("go", "build", "-o", path, "../../cmd").CombinedOutput(); err != nil {
		b.Fatalf("building the manager: %v\n%s", err, out)
	}
	return path
}

// startManager runs the operator until stop is called. The flags are added to those of all benchmarks.
func startManager(b *testing.B, binary, kubeconfig string, flags ...string) *process {
	b.Helper()
	address := freeAddress(b)
	command := exec.Command(binary, append([]string{"--metrics-bind-address=" + address, "--metrics-secure=false",
		"--health-probe-bind-address=0", "--zap-log-level=error"}, flags...)...)
	command.Env = append(os.Environ(), "KUBECONFIG="+asOperator(b, kubeconfig))
	return start(b, command, "http://"+address+"/metrics")
}

// startCronJobs runs only the built-in CronJob controller, until stop is called. A Job controller would be slower than
// everything else, and so the benchmark would measure that.
func startCronJobs(b *testing.B, kubeconfig string, flags ...string) *process {
	b.Helper()
	address := freeAddress(b)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		b.Fatal(err)
	}
	command := exec.Command(filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kube-controller-manager"), append([]string{
		"--controllers=cronjob-controller", "--kubeconfig=" + kubeconfig, "--leader-elect=false", "--v=0",
		"--bind-address=127.0.0.1", "--secure-port=" + port, "--cert-dir=" + b.TempDir(),
		"--authentication-skip-lookup", "--authorization-always-allow-paths=/metrics"}, flags...)...)
	return start(b, command, "https://"+address+"/metrics")
}

func start(b *testing.B, command *exec.Cmd, metrics string) *process {
	b.Helper()
	p := &process{command: command, metrics: endpoint{scraper, metrics}}
	log, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	p.command.Stderr = log
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		b.Fatalf("starting %s: %v", command.Path, err)
	}
	b.Cleanup(func() {
		p.stop()
		_ = log.Close()
		if b.Failed() {
			fmt.Print(complaints(log.Name()))
		}
	})
	return p
}

// complaints returns the last lines of a log, without the information and warnings of the built-in controllers.
func complaints(log string) string {
	text, _ := os.ReadFile(log)
	lines := slices.Collect(strings.Lines(string(text)))
	lines = slices.DeleteFunc(lines, func(line string) bool { return line[0] == 'I' || line[0] == 'W' })
	return strings.Join(lines[max(0, len(lines)-40):], "")
}

func (p *process) stop() {
	if p.command.ProcessState != nil {
		return
	}
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

// residentMiB is the memory that the process holds.
func (p *process) residentMiB(b *testing.B) float64 {
	return p.sum(b, "process_resident_memory_bytes") / (1 << 20)
}

// heapMiB is the size of the process's heap in use.
func (p *process) heapMiB(b *testing.B) float64 {
	return p.sum(b, "go_memstats_heap_inuse_bytes") / (1 << 20)
}

// forgetPeak resets peakMiB.
func (p *process) forgetPeak(b *testing.B) {
	b.Helper()
	if err := os.WriteFile(p.proc("clear_refs"), []byte("5"), 0o200); err != nil {
		b.Fatalf("resetting the peak of the memory: %v", err)
	}
}

// peakMiB is the most memory that the process has held since forgetPeak.
func (p *process) peakMiB(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile(p.proc("status"))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kib / (1 << 10)
}

func (p *process) proc(file string) string {
	return fmt.Sprintf("/proc/%d/%s", p.command.Process.Pid, file)
}

// requests counts the requests of the process to the API server, by method.
func (p *process) requests(b *testing.B) map[string]float64 {
	byMethod := map[string]float64{}
	for series, value := range p.metrics.scrape(b) {
		if strings.HasPrefix(series, "rest_client_requests_total{") {
			byMethod[label(series, "method")] += value
		}
	}
	return byMethod
}

// idle returns true if no request waits in a work queue and no worker is active.
func (p *process) idle(b *testing.B) bool {
	return p.sum(b, "workqueue_depth") == 0 && p.sum(b, "controller_runtime_active_workers") == 0
}

// done returns true if the operator has no TenantJob and no credential of a run left.
func (p *process) done(b *testing.B) bool {
	for series, value := range p.metrics.scrape(b) {
		name, _, _ := strings.Cut(series, "{")
		switch name {
		case "tenantry_queue_waiting_tenantjobs", "tenantry_queue_running_tenantjobs", "tenantry_credentials_live", "tenantry_credentials_revoking":
			if value > 0 {
				return false
			}
		}
	}
	return true
}

// settle waits until the operator is idle ten times in a row.
func (p *process) settle(b *testing.B) {
	b.Helper()
	inARow := 0
	waitFor(b, "the manager to be idle", func() bool {
		if p.sum(b, "controller_runtime_max_concurrent_reconciles") > 0 && p.idle(b) {
			inARow++
		} else {
			inARow = 0
		}
		return inARow == 10
	})
}

// quiet waits until the process has written almost nothing for as long as it may defer a write. Reads never stop, since the
// operator verifies a tenant every second. While jobs run it also updates the counts of ten tenants a second.
func (p *process) quiet(b *testing.B) {
	b.Helper()
	const pause, trickle = 5 * time.Second, 60
	last, since := writes(p.requests(b)), time.Now()
	waitFor(b, "the writes to end", func() bool {
		if time.Since(since) < pause {
			return false
		}
		before := last
		last, since = writes(p.requests(b)), time.Now()
		return last-before <= trickle
	})
}

// sum adds up a metric over its series.
func (p *process) sum(b *testing.B, name string) float64 {
	var sum float64
	for series, value := range p.metrics.scrape(b) {
		if series == name || strings.HasPrefix(series, name+"{") {
			sum += value
		}
	}
	return sum
}

func freeAddress(b *testing.B) string {
	b.Helper()
	listener, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// waitFor polls until the state is reached. The deadline only ends a run that is broken.
func waitFor(b *testing.B, what string, there func() bool) {
	b.Helper()
	for deadline := time.Now().Add(30 * time.Minute); !there(); {
		if time.Now().After(deadline) {
			b.Fatalf("waiting for %s: it took too long", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
