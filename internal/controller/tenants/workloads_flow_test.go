package tenants_test

import (
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// In the phases before Enforce a Tenant says which workloads in its namespace are no runs, and when there are none any more.
func TestWorkloadsConform(t *testing.T) {
	Verifying(t)
	for _, phase := range []v1alpha1.Enforcement{v1alpha1.EnforcementAudit, v1alpha1.EnforcementWarn} {
		t.Run(string(phase), func(t *testing.T) {
			tenant := NewReadyTenant(t, v1alpha1.TenantSpec{Enforcement: phase})
			AwaitCondition(t, tenant, v1alpha1.ConditionWorkloadsConform, metav1.ConditionTrue, v1alpha1.ReasonConform, "all workloads in the namespace are runs of the tenant")
			run := NewTenantJob(t, tenant, NewReadyTemplate(t, nil))
			pod := AwaitRunningPod(t, run)
			spec := corev1.PodTemplateSpec{Spec: pod.Spec}
			spec.Spec.ServiceAccountName, spec.Spec.NodeName = "", ""
			nightly := Create(t, &batchv1.CronJob{ObjectMeta: Within(tenant, "nightly"), Spec: batchv1.CronJobSpec{
				Schedule: "@yearly", Suspend: new(true), JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: spec}},
			}})
			imported := Create(t, &batchv1.Job{ObjectMeta: Within(tenant, "import"), Spec: batchv1.JobSpec{Suspend: new(true), Template: spec}})
			AwaitCondition(t, tenant, v1alpha1.ConditionWorkloadsConform, metav1.ConditionFalse, v1alpha1.ReasonForeignWorkloads, "CronJob nightly (by tenants.test), Job import (by tenants.test); in the phase Enforce")
			Patch(t, tenant, func(o *v1alpha1.Tenant) { o.Spec.Enforcement = v1alpha1.EnforcementEnforce })
			AwaitCondition(t, tenant, v1alpha1.ConditionWorkloadsConform, metav1.ConditionFalse, v1alpha1.ReasonForeignWorkloads, "they are from before the phase Enforce")
			Remove(t, nightly)
			Remove(t, imported)
			AwaitCondition(t, tenant, v1alpha1.ConditionWorkloadsConform, metav1.ConditionTrue, v1alpha1.ReasonConform, "")
		})
	}
}
