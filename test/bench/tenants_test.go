// Package bench holds the benchmarks that need an API server. `make bench` runs them.
package bench

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// BenchmarkTenants makes tenants, restarts the operator, and reports what that costs: requests, memory, time. Their number
// is TENANTRY_BENCH_TENANTS, by default 10000.
func BenchmarkTenants(b *testing.B) {
	n := 10000
	if text := os.Getenv("TENANTRY_BENCH_TENANTS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			b.Fatalf("TENANTRY_BENCH_TENANTS must be a number: %v", err)
		}
	}
	kubeconfig, c := startControlPlane(b)
	binary := buildManager(b)

	m := startManager(b, binary, kubeconfig)
	settle(b, m)
	empty := m.residentMiB(b)

	before, began := m.requests(b), time.Now()
	makeTenants(b, c, n)
	made := time.Since(began)
	waitFor(b, "all tenants to be ready", func() bool { return ready(b, c) == n })
	readyAfter := time.Since(began)
	settle(b, m)
	making := since(before, m.requests(b))
	afterMaking := m.residentMiB(b)
	m.stop()

	began = time.Now()
	m = startManager(b, binary, kubeconfig)
	settle(b, m)
	restarted := time.Since(began)
	restart := m.requests(b)
	resident, heap := m.residentMiB(b), m.heapMiB(b)

	writes := restart["POST"] + restart["PUT"] + restart["PATCH"] + restart["DELETE"]
	b.ReportMetric(resident, "MiB")
	b.ReportMetric(writes, "writes/restart")
	b.ReportMetric(total(making)/float64(n), "requests/tenant")
	table(b, fmt.Sprintf("%d tenants", n), [][2]string{
		{"made, by 32 clients", made.Round(time.Second).String()},
		{"all ready after", readyAfter.Round(time.Second).String()},
		{"requests per tenant until ready", perTenant(making, n)},
		{"memory of the manager without tenants", mib(empty)},
		{"memory right after making them all", mib(afterMaking)},
		{"memory after a restart", mib(resident) + ", of which heap " + mib(heap)},
		{"restart: synced and idle after", restarted.Round(100 * time.Millisecond).String()},
		{"restart: requests", list(restart)},
		{"restart: writes", strconv.FormatFloat(writes, 'f', 0, 64)},
	})
}

// startControlPlane returns the kubeconfig and a client of an API server with the CRDs.
func startControlPlane(b *testing.B) (string, client.Client) {
	b.Helper()
	environment := &envtest.Environment{CRDDirectoryPaths: []string{"../../config/crd/bases"}, ErrorIfCRDPathMissing: true}
	config, err := environment.Start()
	if err != nil {
		b.Fatalf("starting the control plane (run `make bench`): %v", err)
	}
	b.Cleanup(func() { _ = environment.Stop() })
	kubeconfig := filepath.Join(b.TempDir(), "kubeconfig")
	if err := os.WriteFile(kubeconfig, environment.KubeConfig, 0o600); err != nil {
		b.Fatal(err)
	}
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	config.QPS, config.Burst = -1, -1
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		b.Fatal(err)
	}
	return kubeconfig, c
}

func makeTenants(b *testing.B, c client.Client, n int) {
	b.Helper()
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			for i := range numbers {
				tenant := &v1alpha1.Tenant{
					ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("t%05d", i), Labels: map[string]string{"tier": "gold"}},
					Spec: v1alpha1.TenantSpec{
						ExternalID: fmt.Sprintf("customer-%d", i),
						Attributes: map[string]v1alpha1.AttributeValue{"plan": "gold"},
						Members:    []v1alpha1.TenantMember{{Role: v1alpha1.RoleDispatcher, Subject: v1alpha1.MemberSubject{Kind: v1alpha1.SubjectGroup, Name: fmt.Sprintf("team-%d", i)}}},
					},
				}
				if err := c.Create(context.Background(), tenant); err != nil {
					b.Errorf("creating Tenant %s: %v", tenant.Name, err)
				}
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	workers.Wait()
}

// ready counts the tenants that are Ready, a page at a time.
func ready(b *testing.B, c client.Client) int {
	count := 0
	list := v1alpha1.TenantList{}
	for {
		if err := c.List(b.Context(), &list, client.Limit(1000), client.Continue(list.Continue)); err != nil {
			b.Fatal(err)
		}
		for i := range list.Items {
			if meta.IsStatusConditionTrue(list.Items[i].Status.Conditions, v1alpha1.ConditionReady) {
				count++
			}
		}
		if list.Continue == "" {
			return count
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// settle waits until the operator has nothing to do, ten times in a row.
func settle(b *testing.B, m *manager) {
	b.Helper()
	inARow := 0
	waitFor(b, "the manager to be idle", func() bool {
		if m.sum(b, "controller_runtime_max_concurrent_reconciles") > 0 && m.idle(b) {
			inARow++
		} else {
			inARow = 0
		}
		return inARow == 10
	})
}

func since(before, after map[string]float64) map[string]float64 {
	difference := map[string]float64{}
	for method, count := range after {
		difference[method] = count - before[method]
	}
	return difference
}

func total(requests map[string]float64) float64 {
	var sum float64
	for _, count := range requests {
		sum += count
	}
	return sum
}

func list(requests map[string]float64) string {
	var parts []string
	for _, method := range slices.Sorted(maps.Keys(requests)) {
		parts = append(parts, fmt.Sprintf("%s %.0f", method, requests[method]))
	}
	return strings.Join(parts, ", ")
}

func perTenant(requests map[string]float64, n int) string {
	var parts []string
	for _, method := range slices.Sorted(maps.Keys(requests)) {
		parts = append(parts, fmt.Sprintf("%s %.1f", method, requests[method]/float64(n)))
	}
	return strings.Join(parts, ", ")
}

func mib(n float64) string { return fmt.Sprintf("%.0f MiB", n) }
