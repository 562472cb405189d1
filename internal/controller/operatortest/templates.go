package operatortest

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// PodSpec is what the pods of a template get.
func PodSpec(o *v1alpha1.TenantJobTemplate) *corev1.PodSpec {
	return &o.Spec.JobTemplate.Spec.Template.Spec
}

// AtMostPerTenant limits how many TenantJobs of a template run at once for a tenant.
func AtMostPerTenant(n int32) func(*v1alpha1.TenantJobTemplate) {
	return func(o *v1alpha1.TenantJobTemplate) { o.Spec.MaxConcurrentPerTenant = &n }
}
