package bench

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// manager is the operator as a process of its own, so that its memory is its own.
type manager struct {
	command *exec.Cmd
	metrics string
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

// startManager runs the operator until stop.
func startManager(b *testing.B, binary, kubeconfig string) *manager {
	b.Helper()
	address := freeAddress(b)
	m := &manager{metrics: "http://" + address + "/metrics"}
	m.command = exec.Command(binary, "--metrics-bind-address="+address, "--metrics-secure=false", "--health-probe-bind-address=0",
		"--kube-api-qps=2000", "--kube-api-burst=4000", "--max-concurrent-reconciles=32", "--zap-log-level=error")
	m.command.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	m.command.Stderr = os.Stderr
	m.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.command.Start(); err != nil {
		b.Fatalf("starting the manager: %v", err)
	}
	b.Cleanup(m.stop)
	return m
}

func (m *manager) stop() {
	if m.command.ProcessState != nil {
		return
	}
	_ = m.command.Process.Kill()
	_ = m.command.Wait()
}

// residentMiB is the memory that the operator's process holds.
func (m *manager) residentMiB(b *testing.B) float64 {
	return m.sum(b, "process_resident_memory_bytes") / (1 << 20)
}

// heapMiB is what is live on the operator's heap.
func (m *manager) heapMiB(b *testing.B) float64 {
	return m.sum(b, "go_memstats_heap_inuse_bytes") / (1 << 20)
}

// requests counts what the operator has asked of the API server, by method.
func (m *manager) requests(b *testing.B) map[string]float64 {
	byMethod := map[string]float64{}
	for series, value := range m.scrape(b) {
		if strings.HasPrefix(series, "rest_client_requests_total{") {
			byMethod[label(series, "method")] += value
		}
	}
	return byMethod
}

// idle says whether nothing is waiting and nothing is being worked on.
func (m *manager) idle(b *testing.B) bool {
	return m.sum(b, "workqueue_depth") == 0 && m.sum(b, "controller_runtime_active_workers") == 0
}

// sum adds up a metric over its series.
func (m *manager) sum(b *testing.B, name string) float64 {
	var sum float64
	for series, value := range m.scrape(b) {
		if series == name || strings.HasPrefix(series, name+"{") {
			sum += value
		}
	}
	return sum
}

func (m *manager) scrape(b *testing.B) map[string]float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.metrics, nil)
	if err != nil {
		b.Fatal(err)
	}
	var response *http.Response
	waitFor(b, "the manager's metrics", func() bool {
		response, err = http.DefaultClient.Do(request)
		return err == nil
	})
	defer response.Body.Close()
	series := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, text, found := strings.Cut(lines.Text(), "} ")
		if found {
			name += "}"
		} else {
			name, text, _ = strings.Cut(lines.Text(), " ")
		}
		if value, err := strconv.ParseFloat(text, 64); err == nil {
			series[name] = value
		}
	}
	return series
}

func label(series, name string) string {
	_, rest, _ := strings.Cut(series, name+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
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

// waitFor polls until the state is there. The deadline is only there so that a broken run ends.
func waitFor(b *testing.B, what string, there func() bool) {
	b.Helper()
	for deadline := time.Now().Add(30 * time.Minute); !there(); {
		if time.Now().After(deadline) {
			b.Fatalf("waiting for %s: it took too long", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// table prints figures as the docs have them.
func table(b *testing.B, head string, rows [][2]string) {
	b.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "\n| %s | |\n|---|---|\n", head)
	for _, row := range rows {
		fmt.Fprintf(&text, "| %s | %s |\n", row[0], row[1])
	}
	// Not b.Log, which cuts what is long.
	fmt.Println(text.String())
}
