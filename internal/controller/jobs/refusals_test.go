package jobs_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// TestTenantJobLabelsRefused: a policy that refuses the operator's labels on one tenant's TenantJobs costs few requests, is said
// in their status, and holds up nobody else.
func TestTenantJobLabelsRefused(t *testing.T) {
	refused, other, template := NewReadyTenant(t, v1alpha1.TenantSpec{}), NewReadyTenant(t, v1alpha1.TenantSpec{}), NewReadyTemplate(t, nil)
	FinishAll(t, other)
	WithoutOperator(t)
	var patches atomic.Int32
	var denies atomic.Bool
	denies.Store(true)
	a := &OtherOperator{Through: func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if denies.Load() && r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/"+refused.NamespaceName()+"/tenantjobs/") && !strings.HasSuffix(r.URL.Path, "/status") {
			patches.Add(1)
			return Answer(apierrors.NewForbidden(schema.GroupResource{Resource: "tenantjobs"}, "x", errors.New("a policy wants no labels"))), nil
		}
		return next.RoundTrip(r)
	}}
	a.Start(t)
	waits := NewTenantJob(t, refused, template)
	AwaitStatus(t, waits, Unknown, v1alpha1.ReasonQueued, "the API server refuses the labels of the TenantJob: ")
	for range 10 {
		AwaitOutcome(t, NewTenantJob(t, other, template), v1alpha1.ReasonCompleted)
	}
	// After two seconds, four, eight: a loop without a back-off makes hundreds in a second.
	gomega.NewWithT(t).Expect(patches.Load()).To(gomega.BeNumerically("<=", 20))
	denies.Store(false)
	Finish(t, waits, corev1.PodSucceeded)
	AwaitOutcome(t, waits, v1alpha1.ReasonCompleted)
}
