// Package bench holds the benchmarks that need an API server. `make bench` runs them.
package bench

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// BenchmarkTenants creates tenants, restarts the operator, and reports what that costs: requests, memory, time. The number
// of tenants is TENANTRY_BENCH_TENANTS, by default 10000.
func BenchmarkTenants(b *testing.B) {
	n := numbers(b, "TENANTRY_BENCH_TENANTS", 10000)[0]
	kubeconfig, c, _ := startControlPlane(b)
	binary := buildManager(b)
	flags := []string{"--kube-api-qps=2000", "--kube-api-burst=4000", "--max-concurrent-reconciles=32"}

	m := startManager(b, binary, kubeconfig, flags...)
	m.settle(b)
	empty := m.residentMiB(b)

	before, began := m.requests(b), time.Now()
	makeTenants(b, c, 0, n)
	made := time.Since(began)
	waitFor(b, "all tenants to be ready", func() bool { return ready(b, c) == n })
	readyAfter := time.Since(began)
	m.settle(b)
	making := since(before, m.requests(b))
	afterMaking := m.residentMiB(b)
	m.stop()

	began = time.Now()
	m = startManager(b, binary, kubeconfig, flags...)
	m.settle(b)
	restarted := time.Since(began)
	restart := m.requests(b)
	resident, heap := m.residentMiB(b), m.heapMiB(b)

	b.ReportMetric(resident, "MiB")
	b.ReportMetric(writes(restart), "writes/restart")
	b.ReportMetric(total(making)/float64(n), "requests/tenant")
	table([]string{fmt.Sprintf("%d tenants", n), ""}, [][]string{
		{"made, by 32 clients", made.Round(time.Second).String()},
		{"all ready after", readyAfter.Round(time.Second).String()},
		{"requests per tenant until ready", per(making, n)},
		{"memory of the manager without tenants", mib(empty)},
		{"memory right after making them all", mib(afterMaking)},
		{"memory after a restart", mib(resident) + ", of which heap " + mib(heap)},
		{"restart: synced and idle after", restarted.Round(100 * time.Millisecond).String()},
		{"restart: requests", list(restart)},
		{"restart: writes", strconv.FormatFloat(writes(restart), 'f', 0, 64)},
	})
}

// tenantName is the name of the i-th tenant.
func tenantName(i int) string { return fmt.Sprintf("t%05d", i) }

// makeTenants creates the tenants from..to-1, each with the credentials.
func makeTenants(b *testing.B, c client.Client, from, to int, credentials ...v1alpha1.TenantCredential) {
	b.Helper()
	inParallel(b, from, to, func(i int) error {
		tenant := &v1alpha1.Tenant{
			ObjectMeta: metav1.ObjectMeta{Name: tenantName(i), Labels: map[string]string{"tier": "gold"}},
			Spec: v1alpha1.TenantSpec{
				ExternalID:  fmt.Sprintf("customer-%d", i),
				Attributes:  map[string]v1alpha1.AttributeValue{"plan": "gold"},
				Credentials: credentials,
				Members:     []v1alpha1.TenantMember{{Role: v1alpha1.RoleDispatcher, Subject: v1alpha1.MemberSubject{Kind: v1alpha1.SubjectGroup, Name: fmt.Sprintf("team-%d", i)}}},
			},
		}
		if err := c.Create(context.Background(), tenant); err != nil {
			return fmt.Errorf("creating Tenant %s: %w", tenant.Name, err)
		}
		return nil
	})
}

// ready counts the tenants that are Ready, page by page.
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
