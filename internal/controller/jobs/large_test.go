package jobs_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// TestTenantJobLarge: one that has so many parameters and tags that the cache leaves them out runs with all of them, also after
// it has waited.
func TestTenantJobLarge(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{Jobs: &v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(1))}})
	template := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		for i := range 32 {
			o.Spec.Parameters = append(o.Spec.Parameters, v1alpha1.Parameter{Name: fmt.Sprintf("p%d", i), Env: fmt.Sprintf("P%d", i)})
		}
	})
	first := NewTenantJob(t, tenant, template)
	AwaitRunningPod(t, first)
	value := strings.Repeat("x", 4096)
	tj := NewRun(t, tenant, template, func(o *v1alpha1.TenantJob) {
		o.Labels, o.Spec.Parameters = map[string]string{}, map[string]v1alpha1.ParameterValue{}
		for i := range 32 {
			o.Labels[fmt.Sprintf("tag.tenantry.dev/t%d", i)] = "x"
			o.Spec.Parameters[fmt.Sprintf("p%d", i)] = v1alpha1.ParameterValue(value)
		}
	})
	AwaitStatus(t, tj, Unknown, v1alpha1.ReasonQueued, "maxConcurrent")
	Finish(t, first, corev1.PodSucceeded)
	pod := AwaitRunningPod(t, tj)
	g := gomega.NewWithT(t)
	for i := range 32 {
		g.Expect(pod.Spec.Containers[0].Env).To(gomega.ContainElement(corev1.EnvVar{Name: fmt.Sprintf("P%d", i), Value: value}))
		g.Expect(pod.Labels).To(gomega.HaveKeyWithValue(fmt.Sprintf("tag.tenantry.dev/t%d", i), "x"))
	}
	EndPod(t, pod, corev1.PodSucceeded)
	AwaitOutcome(t, tj, v1alpha1.ReasonCompleted)
	g.Expect(Get(t, g, tj).Spec.Parameters).To(gomega.HaveLen(32))
	g.Expect(tj.Annotations).To(gomega.BeEmpty())
}
