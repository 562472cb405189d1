package tenants_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

const foreignFinalizer = "example.com/hold"

func holdObject[T client.Object](t *testing.T, obj T) T {
	t.Helper()
	return Patch(t, obj, func(o T) { o.SetFinalizers(append(o.GetFinalizers(), foreignFinalizer)) })
}

func letGoOf[T client.Object](t *testing.T, obj T) {
	t.Helper()
	Patch(t, obj, func(o T) { o.SetFinalizers(nil) })
}

// TestTenantNamesWhatAFinalizerHolds: somebody else's finalizer is named with its object, whatever that is.
func TestTenantNamesWhatAFinalizerHolds(t *testing.T) {
	t.Parallel()
	held := func(kind, name string) string {
		return kind + " " + name + " (held by finalizer " + foreignFinalizer + ")"
	}

	t.Run("a pod, suspended and then deleted", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
		run := NewTenantJob(t, tenant, NewTemplate(t, nil))
		pod := holdObject(t, AwaitRunningPod(t, run))
		Patch(t, tenant, Suspend)
		AwaitOutcome(t, run, v1alpha1.ReasonStoppedBySuspension)
		AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, Unknown, v1alpha1.ReasonStoppingJobs, held("Pod", pod.Name))
		EndPod(t, pod, corev1.PodFailed) // The kubelet has stopped its containers.
		AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, Unknown, v1alpha1.ReasonStoppingJobs, held("Pod", pod.Name))
		Patch(t, tenant, Resume)
		AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, IsFalse, v1alpha1.ReasonActive, "")
		Remove(t, tenant)
		AwaitCondition(t, tenant, v1alpha1.ConditionReady, IsFalse, v1alpha1.ReasonStoppingJobs, held("Pod", pod.Name))
		AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, Unknown, v1alpha1.ReasonStoppingJobs, held("Pod", pod.Name))
		letGoOf(t, pod)
		AwaitGone(t, tenant)
	})
	t.Run("a pod that has ended", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
		run := NewTenantJob(t, tenant, NewTemplate(t, nil))
		pod := holdObject(t, AwaitRunningPod(t, run))
		EndPod(t, pod, corev1.PodSucceeded)
		AwaitOutcome(t, run, v1alpha1.ReasonCompleted)
		Remove(t, tenant)
		for condition, status := range map[string]metav1.ConditionStatus{v1alpha1.ConditionReady: IsFalse, v1alpha1.ConditionSuspended: Unknown} {
			AwaitCondition(t, tenant, condition, status, v1alpha1.ReasonDeletingNamespace, held("Pod", pod.Name))
		}
		letGoOf(t, pod)
		AwaitGone(t, tenant)
	})
	t.Run("a Job", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
		run := NewTenantJob(t, tenant, NewTemplate(t, nil))
		AwaitRunningPod(t, run)
		job := holdObject(t, JobOf(run))
		Patch(t, tenant, Suspend)
		AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, Unknown, v1alpha1.ReasonStoppingJobs, held("Job", job.Name))
		letGoOf(t, job)
		AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, IsTrue, v1alpha1.ReasonSuspended, "")
	})
	t.Run("a TenantJob", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
		run := holdObject(t, NewTenantJob(t, tenant, NewTemplate(t, nil)))
		AwaitRunningPod(t, run)
		Remove(t, tenant)
		for condition, status := range map[string]metav1.ConditionStatus{v1alpha1.ConditionReady: IsFalse, v1alpha1.ConditionSuspended: Unknown} {
			AwaitCondition(t, tenant, condition, status, v1alpha1.ReasonDeletingNamespace, run.Name+" (held by finalizer "+foreignFinalizer+")")
		}
		letGoOf(t, run)
		AwaitGone(t, tenant)
	})
	t.Run("what holds the namespace", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
		pod := barePod(tenant, "finished", nil)
		pod.Finalizers = []string{foreignFinalizer}
		awaitRunning(t, Create(t, pod))
		EndPod(t, pod, corev1.PodSucceeded)
		Remove(t, tenant)
		AwaitCondition(t, tenant, v1alpha1.ConditionReady, IsFalse, v1alpha1.ReasonDeletingNamespace, held("Pod", pod.Name))
		AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, Unknown, v1alpha1.ReasonDeletingNamespace, held("Pod", pod.Name))
		letGoOf(t, pod)
		AwaitGone(t, tenant)
	})
}
