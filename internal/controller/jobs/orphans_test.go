package jobs_test

import (
	"testing"

	"github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// TestTenantJobOrphaned: a Job whose TenantJob is deleted without it, or that loses its owner, is stopped, and its slot goes to the
// next. One that was made again under the same name starts then.
func TestTenantJobOrphaned(t *testing.T) {
	t.Parallel()
	for name, orphan := range map[string]func(t *testing.T, tj *v1alpha1.TenantJob){
		"deleted with --cascade=orphan": func(t *testing.T, tj *v1alpha1.TenantJob) {
			t.Helper()
			Remove(t, tj, client.PropagationPolicy(metav1.DeletePropagationOrphan))
		},
		"its owner reference is removed": func(t *testing.T, tj *v1alpha1.TenantJob) {
			t.Helper()
			Patch(t, JobOf(tj), func(j *batchv1.Job) { j.OwnerReferences = nil })
			Remove(t, tj)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant, template := NewReadyTenant(t, AtMost(1)), NewReadyTemplate(t, nil)
			first := NewTenantJob(t, tenant, template)
			AwaitRunningPod(t, first)
			orphaned := Get(t, gomega.NewWithT(t), JobOf(first))
			orphan(t, first)
			AwaitGone(t, first)
			again := NewRun(t, tenant, template, func(tj *v1alpha1.TenantJob) { tj.Name = first.Name })
			Eventually(t, func(g gomega.Gomega) {
				g.Expect(Get(t, g, JobOf(again)).UID).NotTo(gomega.Equal(orphaned.UID))
			})
			Finish(t, again, corev1.PodSucceeded)
			AwaitOutcome(t, again, v1alpha1.ReasonCompleted)
		})
	}
}

// TestTenantJobForeignJobIsLeft: a Job that only looks like one of a tenant's is not stopped.
func TestTenantJobForeignJobIsLeft(t *testing.T) {
	t.Parallel()
	tenant, template := NewReadyTenant(t, v1alpha1.TenantSpec{}), NewReadyTemplate(t, nil)
	run := NewTenantJob(t, tenant, template)
	AwaitRunningPod(t, run)
	foreign := Get(t, gomega.NewWithT(t), JobOf(run)).DeepCopy()
	elsewhere := NewNamespace(t, nil)
	foreign = Create(t, &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: elsewhere.Name, Name: "looks-like-it", Labels: foreign.Labels, Annotations: foreign.Annotations},
		Spec:       batchv1.JobSpec{Suspend: new(true), Template: corev1.PodTemplateSpec{Spec: *PodSpec(template)}},
	})
	// By then the operator has seen it.
	Finish(t, run, corev1.PodSucceeded)
	AwaitOutcome(t, run, v1alpha1.ReasonCompleted)
	gomega.NewWithT(t).Expect(Get(t, gomega.NewWithT(t), foreign).DeletionTimestamp).To(gomega.BeNil())
}
