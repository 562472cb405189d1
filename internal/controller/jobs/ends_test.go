package jobs_test

import (
	"strings"
	"testing"

	"github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// retrying is a template whose Job makes another pod when one fails.
func retrying(o *v1alpha1.TenantJobTemplate) { o.Spec.JobTemplate.Spec.BackoffLimit = new(int32(2)) }

// restarting is a template whose containers are restarted in place.
func restarting(o *v1alpha1.TenantJobTemplate) {
	retrying(o)
	PodSpec(o).RestartPolicy = corev1.RestartPolicyOnFailure
}

// crash puts a container into a pod that has exited with code 1 and was restarted some times.
func crash(t *testing.T, pod *corev1.Pod, restarts int32) {
	t.Helper()
	base := pod.DeepCopy()
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "main", RestartCount: restarts,
		State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off restarting pod " + pod.Name}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error"}},
	}}
	gomega.NewWithT(t).Expect(Admin.Status().Patch(t.Context(), pod, client.MergeFrom(base))).To(gomega.Succeed())
}

// podsOf are the pods of a TenantJob.
func podsOf(t *testing.T, g gomega.Gomega, tj *v1alpha1.TenantJob) []corev1.Pod {
	t.Helper()
	var pods corev1.PodList
	g.Expect(Admin.List(t.Context(), &pods, client.InNamespace(tj.Namespace), client.MatchingLabels{"batch.kubernetes.io/job-name": tj.Name})).To(gomega.Succeed())
	return pods.Items
}

// TestTenantJobPodIsReplacedWhenItHasEnded deletes the pod of a run, which takes its time to stop.
func TestTenantJobPodIsReplacedWhenItHasEnded(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	tj := NewTenantJob(t, tenant, NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { retrying(o); Lingering(o) }))
	first := AwaitRunningPod(t, tj)
	Remove(t, first)
	Eventually(t, func(g gomega.Gomega) { // The Job controller knows of it.
		g.Expect(Get(t, g, JobOf(tj)).Status.Terminating).To(gomega.HaveValue(gomega.BeEquivalentTo(1)))
	})
	AwaitStatus(t, tj, Unknown, v1alpha1.ReasonStarting, "its pod was deleted and is still stopping")
	g := gomega.NewWithT(t)
	g.Expect(podsOf(t, g, tj)).To(gomega.HaveLen(1))
	LetGo(t, Get(t, g, first))
	AwaitGone(t, first)
	second := AwaitRunningPod(t, tj)
	LetGo(t, second)
	EndPod(t, Get(t, g, second), corev1.PodSucceeded)
	AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
}

// TestTenantJobRestartedInPlace: what a pod said is kept when the Job controller has deleted the pod.
func TestTenantJobRestartedInPlace(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	t.Run("for long", func(t *testing.T) {
		t.Parallel()
		tj := NewTenantJob(t, tenant, NewReadyTemplate(t, restarting))
		pod := AwaitRunningPod(t, tj)
		crash(t, pod, 1)
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonRunning, "container main: CrashLoopBackOff: exited with code 1, restarted once")
		crash(t, pod, 2)
		AwaitGone(t, pod)
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonJobFailed, "backoff limit: container main: CrashLoopBackOff: exited with code 1, restarted ")
	})
	t.Run("and failed at once", func(t *testing.T) {
		t.Parallel()
		tj := NewTenantJob(t, tenant, NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { restarting(o); Lingering(o) }))
		pod := AwaitRunningPod(t, tj)
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonRunning, "")
		crash(t, pod, 2)
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonRunning, "container main: CrashLoopBackOff: exited with code 1, restarted 2 times")
		LetGo(t, pod)
		AwaitGone(t, pod)
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonJobFailed, "backoff limit: container main: CrashLoopBackOff: exited with code 1, restarted 2 times")
		gomega.NewWithT(t).Expect(tj.Status.Conditions[0].Message).NotTo(gomega.ContainSubstring(pod.Name))
	})
}

// TestTenantJobSuspendedByOthers suspends the Job of a run, and lets it go on.
func TestTenantJobSuspendedByOthers(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, AtMost(1))
	tj := NewTenantJob(t, tenant, NewReadyTemplate(t, nil))
	AwaitRunningPod(t, tj)
	AwaitStatus(t, tj, Unknown, v1alpha1.ReasonRunning, "")
	suspend := func(yes bool) {
		t.Helper()
		g := gomega.NewWithT(t)
		j := Get(t, g, JobOf(tj))
		base := j.DeepCopy()
		j.Spec.Suspend = &yes
		g.Expect(Admin.Patch(t.Context(), j, client.MergeFrom(base), client.FieldOwner("kubectl-patch"))).To(gomega.Succeed())
	}
	suspend(true)
	AwaitStatus(t, tj, Unknown, v1alpha1.ReasonStarting, "its Job is suspended by field manager kubectl-patch: it goes on when `spec.suspend` of Job "+tj.Name+" is false; it keeps its slot")
	next := NewTenantJob(t, tenant, NewReadyTemplate(t, nil))
	AwaitStatus(t, next, Unknown, v1alpha1.ReasonQueued, "runs at most 1 at once")
	suspend(false)
	AwaitRunningPod(t, tj)
	AwaitStatus(t, tj, Unknown, v1alpha1.ReasonRunning, "a pod is running")
	Finish(t, tj, corev1.PodSucceeded)
	AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
	AwaitRunningPod(t, next)
}

// TestTenantJobIndexed runs an Indexed Job: one that completes, one of which an index fails, and one whose name is too long.
func TestTenantJobIndexed(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	template := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		spec := &o.Spec.JobTemplate.Spec
		spec.CompletionMode, spec.Completions, spec.Parallelism = new(batchv1.IndexedCompletion), new(int32(3)), new(int32(3))
		spec.BackoffLimitPerIndex, spec.BackoffLimit = new(int32(0)), nil
	})
	named := func(length int) *v1alpha1.TenantJob {
		return NewRun(t, tenant, template, func(o *v1alpha1.TenantJob) { o.Name += strings.Repeat("x", length-len(o.Name)) })
	}
	completes, fails, long := named(61), named(20), named(62)
	AwaitStatus(t, long, IsFalse, v1alpha1.ReasonInvalidParameters, "`metadata.name` must have at most 61 characters")
	running := func(tj *v1alpha1.TenantJob) (all map[string]*corev1.Pod) {
		t.Helper()
		Eventually(t, func(g gomega.Gomega) {
			all = map[string]*corev1.Pod{}
			pods := podsOf(t, g, tj)
			for i := range pods {
				if pods[i].Status.Phase == corev1.PodRunning {
					all[pods[i].Annotations[batchv1.JobCompletionIndexAnnotation]] = &pods[i]
				}
			}
			g.Expect(all).To(gomega.HaveLen(3))
		})
		return all
	}
	for _, pod := range running(completes) {
		EndPod(t, pod, corev1.PodSucceeded)
	}
	AwaitStatus(t, completes, IsTrue, v1alpha1.ReasonCompleted, "")
	pods := running(fails)
	EndPod(t, pods["0"], corev1.PodSucceeded)
	EndPod(t, pods["1"], corev1.PodSucceeded)
	ExitPod(t, pods["2"], 3, "")
	AwaitStatus(t, fails, IsFalse, v1alpha1.ReasonJobFailed, "Job has failed indexes: index 2: container main exited with code 3; failed indexes: 2")
}

// TestTenantJobPodIsRefusedForTheSameReason: what the API server says of a pod that it refuses is the same for each attempt, and says what
// to change.
func TestTenantJobPodIsRefusedForTheSameReason(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{Quota: &v1alpha1.TenantQuota{ContainerDefaults: &v1alpha1.ContainerDefaults{
		Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("32Mi")}, Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("16Mi")},
	}}})
	tj := NewTenantJob(t, tenant, NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		PodSpec(o).Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
	}))
	AwaitStatus(t, tj, Unknown, v1alpha1.ReasonStarting, "its pod is refused: ")
	AwaitStatus(t, tj, Unknown, v1alpha1.ReasonStarting, "must be less than or equal to memory limit of 32Mi; `resources` of the template and `spec.quota.containerDefaults` of the Tenant do not fit together")
	message := tj.Status.Conditions[0].Message
	gomega.NewWithT(t).Expect(message).NotTo(gomega.ContainSubstring(tj.Name + "-"))
	Eventually(t, func(g gomega.Gomega) { // The Job controller tries it again.
		var events corev1.EventList
		about := client.MatchingFields{"involvedObject.name": tj.Name, "reason": "FailedCreate"}
		g.Expect(Admin.List(t.Context(), &events, client.InNamespace(tj.Namespace), about)).To(gomega.Succeed())
		g.Expect(len(events.Items)).To(gomega.BeNumerically(">", 1))
	})
	gomega.NewWithT(t).Expect(Get(t, gomega.NewWithT(t), tj).Status.Conditions[0].Message).To(gomega.Equal(message))
}
