package controller_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/onsi/gomega"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// TestHangingTenant: while nothing that is written in the namespaces of two tenants is answered, another tenant's TenantJob starts.
func TestHangingTenant(t *testing.T) {
	template := NewReadyTemplate(t, nil)
	tenants := NewReadyTenants(t, 3)
	healthy, broken := tenants[0], tenants[1:]
	WithoutOperator(t)
	for _, tenant := range broken {
		for i := range 10 {
			tj := &v1alpha1.TenantJob{ObjectMeta: Within(tenant, fmt.Sprintf("hangs-%d", i)), Spec: v1alpha1.TenantJobSpec{
				TenantRef: v1alpha1.TenantReference{Name: tenant.Name}, TemplateRef: v1alpha1.LabelReference{Name: template.Name},
				Cancel: new(true), // Its outcome is written at once.
			}}
			Create(t, tj)
		}
	}
	release := make(chan struct{})
	var hanging atomic.Int32
	(&OtherOperator{Through: func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		for _, tenant := range broken {
			if r.Method != http.MethodGet && strings.Contains(r.URL.Path, "/namespaces/"+tenant.NamespaceName()+"/tenantjobs") {
				hanging.Add(1)
				defer hanging.Add(-1)
				select {
				case <-release:
				case <-r.Context().Done():
					return nil, r.Context().Err()
				}
			}
		}
		return next.RoundTrip(r)
	}}).Start(t)
	t.Cleanup(func() { close(release) })
	Eventually(t, func(g gomega.Gomega) { g.Expect(hanging.Load()).To(gomega.BeNumerically(">=", 2)) })
	tj := NewTenantJob(t, healthy, template)
	Eventually(t, func(g gomega.Gomega) { Get(t, g, JobOf(tj)) })
}
