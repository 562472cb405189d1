package tenants_test

import (
	"testing"
	"time"

	"github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	tenantpkg "github.com/tenantry/tenantry/internal/tenant"
)

// awaitRunning waits until a pod runs: before it is bound, it would go at once when it is deleted.
func awaitRunning(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) { g.Expect(Get(t, g, pod).Status.Phase).To(gomega.Equal(corev1.PodRunning)) })
}

func state(t *testing.T, g gomega.Gomega, tenant *v1alpha1.Tenant) string {
	t.Helper()
	return Get(t, g, NamespaceOf(tenant)).Labels[v1alpha1.LabelState]
}

func TestTenantSuspendedAtCreation(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{Suspend: new(true)})
	AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "")
	g := gomega.NewWithT(t)
	g.Expect(state(t, g, tenant)).To(gomega.Equal("suspended"))
	g.Expect(tenant.Status.State).To(gomega.Equal("suspended"))
	g.Expect(meta.IsStatusConditionTrue(tenant.Status.Conditions, v1alpha1.ConditionReady)).To(gomega.BeTrue())
	g.Expect(meta.FindStatusCondition(tenant.Status.Conditions, v1alpha1.ConditionReconciling)).To(gomega.BeNil())
}

func TestTenantSuspension(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	running := NewTenantJob(t, tenant, NewTemplate(t, Lingering))
	pod := AwaitRunningPod(t, running)
	straggler := barePod(tenant, "straggler", nil)
	straggler.Annotations = map[string]string{AnnotationLingers: "true"}
	Create(t, straggler)
	awaitRunning(t, straggler)

	Patch(t, tenant, Suspend)
	AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionUnknown, v1alpha1.ReasonStoppingJobs, running.Name)
	AwaitCondition(t, tenant, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonStoppingJobs, running.Name)
	g := gomega.NewWithT(t)
	g.Expect(state(t, g, tenant)).To(gomega.Equal("suspended"))
	g.Expect(meta.IsStatusConditionTrue(tenant.Status.Conditions, v1alpha1.ConditionReady)).To(gomega.BeTrue())
	AwaitOutcome(t, running, v1alpha1.ReasonStoppedBySuspension)
	Eventually(t, func(g gomega.Gomega) { g.Expect(Get(t, g, pod).DeletionTimestamp).NotTo(gomega.BeNil()) })
	notYet := func() {
		t.Helper()
		// For more than one poll.
		gomega.NewWithT(t).Consistently(func(g gomega.Gomega) {
			conditions := Get(t, g, tenant).Status.Conditions
			g.Expect(meta.IsStatusConditionPresentAndEqual(conditions, v1alpha1.ConditionSuspended, metav1.ConditionUnknown)).To(gomega.BeTrue())
		}).WithTimeout(tenantpkg.PollInterval * 3 / 2).WithPolling(100 * time.Millisecond).Should(gomega.Succeed())
	}
	notYet()
	LetGo(t, pod)
	AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionUnknown, v1alpha1.ReasonDeletingPods, "straggler")
	notYet()
	LetGo(t, straggler)
	AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "")
	AwaitGone(t, pod)
	AwaitGone(t, straggler)

	waiting := NewTenantJob(t, tenant, NewTemplate(t, nil))
	AwaitOutcome(t, waiting, v1alpha1.ReasonTenantSuspended)
	Patch(t, tenant, Resume)
	AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionFalse, v1alpha1.ReasonActive, "")
	AwaitEvents(t, tenant, "Suspended", "Resumed")
	g.Expect(state(t, g, tenant)).To(gomega.Equal("active"))
	AwaitRunningPod(t, waiting)
}

func TestTenantSuspensionDrains(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{SuspendPolicy: v1alpha1.SuspendPolicyDrain})
	running, pending := NewTenantJob(t, tenant, NewTemplate(t, nil)), NewTenantJob(t, tenant, NewTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		metav1.SetMetaDataAnnotation(&o.Spec.JobTemplate.Spec.Template.ObjectMeta, AnnotationPending, "true")
	}))
	pod := AwaitRunningPod(t, running)
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(Get(t, g, &batchv1.Job{ObjectMeta: Within(tenant, pending.Name)}).Status.Active).To(gomega.BeEquivalentTo(1))
	})
	Patch(t, tenant, Suspend)
	AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionUnknown, v1alpha1.ReasonDrainingJobs, running.Name)
	AwaitOutcome(t, pending, v1alpha1.ReasonStoppedBySuspension)
	g := gomega.NewWithT(t)
	g.Expect(state(t, g, tenant)).To(gomega.Equal("suspended"))
	g.Expect(Get(t, g, pod).DeletionTimestamp).To(gomega.BeNil())
	EndPod(t, pod, corev1.PodSucceeded)
	AwaitOutcome(t, running, v1alpha1.ReasonCompleted)
	AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "")
	Get(t, g, pod) // For its logs.
}

// barePod is a pod that nobody's Job stands behind.
func barePod(tenant *v1alpha1.Tenant, name string, labels map[string]string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: Within(tenant, name), Spec: corev1.PodSpec{
		SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		Containers: []corev1.Container{{Name: "main", Image: "example.com/app", SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		}}},
	}}
	pod.Labels = labels
	return pod
}

func TestTenantSuspensionStopsWhatNobodyStandsBehind(t *testing.T) {
	t.Parallel()
	for phase, foreignStays := range map[v1alpha1.Enforcement]bool{v1alpha1.EnforcementEnforce: false, v1alpha1.EnforcementAudit: true} {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			tenant := NewReadyTenant(t, v1alpha1.TenantSpec{Enforcement: phase})
			ours := map[string]string{v1alpha1.LabelTenant: tenant.Name}
			orphan := &batchv1.Job{ObjectMeta: Within(tenant, "orphan"), Spec: batchv1.JobSpec{
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: ours}, Spec: barePod(tenant, "", nil).Spec},
			}}
			orphan.Labels, orphan.Spec.Template.Spec.RestartPolicy = ours, corev1.RestartPolicyNever
			Create(t, orphan)
			bare, foreign := Create(t, barePod(tenant, "bare", ours)), Create(t, barePod(tenant, "foreign", nil))
			finished := Create(t, barePod(tenant, "finished", ours))
			awaitRunning(t, finished)
			awaitRunning(t, foreign)
			EndPod(t, finished, corev1.PodSucceeded)
			Patch(t, tenant, Suspend)
			AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "")
			AwaitGone(t, orphan)
			AwaitGone(t, bare)
			g := gomega.NewWithT(t)
			Get(t, g, finished)
			if foreignStays {
				g.Expect(Get(t, g, foreign).DeletionTimestamp).To(gomega.BeNil())
			} else {
				AwaitGone(t, foreign)
			}
		})
	}
}

// A pod that is made while the API server's view of the fence is behind is found by a later look.
func TestTenantSuspensionIsVerified(t *testing.T) {
	Verifying(t)
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	early := Create(t, barePod(tenant, "early", nil))
	awaitRunning(t, early)
	EndPod(t, early, corev1.PodSucceeded)
	Patch(t, tenant, Suspend)
	AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "")
	EndPod(t, early, corev1.PodRunning)
	AwaitGone(t, early)
	AwaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "")
}

func TestTenantCountsRunningJobs(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	template := NewTemplate(t, nil)
	count := func(want int) {
		t.Helper()
		Eventually(t, func(g gomega.Gomega) {
			g.Expect(Get(t, g, tenant).Status.Running).To(gomega.HaveValue(gomega.BeEquivalentTo(want)))
		})
	}
	first, second := NewTenantJob(t, tenant, template), NewTenantJob(t, tenant, template)
	count(2)
	EndPod(t, AwaitRunningPod(t, first), corev1.PodSucceeded)
	count(1)
	EndPod(t, AwaitRunningPod(t, second), corev1.PodFailed)
	count(0)
}
