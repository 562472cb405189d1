package controller_test

import (
	"testing"
	"time"

	"github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	tenantpkg "github.com/tenantry/tenantry/internal/tenant"
)

func suspend(o *v1alpha1.Tenant) { o.Spec.Suspend = new(true) }

func resume(o *v1alpha1.Tenant) { o.Spec.Suspend = nil }

// lingering is a pod that does not go when it is deleted, until it is told to.
func lingering(o *v1alpha1.TenantJobTemplate) {
	metav1.SetMetaDataAnnotation(&o.Spec.JobTemplate.Spec.Template.ObjectMeta, annotationLingers, "true")
}

// awaitRunning waits until a pod runs: before it is bound, it would go at once when it is deleted.
func awaitRunning(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	eventually(t, func(g gomega.Gomega) { g.Expect(get(t, g, pod).Status.Phase).To(gomega.Equal(corev1.PodRunning)) })
}

func letGo(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	patch(t, pod, func(o *corev1.Pod) { delete(o.Annotations, annotationLingers) })
}

func state(t *testing.T, g gomega.Gomega, tenant *v1alpha1.Tenant) string {
	t.Helper()
	return get(t, g, namespaceOf(tenant)).Labels[v1alpha1.LabelState]
}

func TestTenantSuspendedAtCreation(t *testing.T) {
	t.Parallel()
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{Suspend: new(true)})
	awaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "")
	g := gomega.NewWithT(t)
	g.Expect(state(t, g, tenant)).To(gomega.Equal("suspended"))
	g.Expect(tenant.Status.State).To(gomega.Equal("suspended"))
	g.Expect(meta.IsStatusConditionTrue(tenant.Status.Conditions, v1alpha1.ConditionReady)).To(gomega.BeTrue())
	g.Expect(meta.FindStatusCondition(tenant.Status.Conditions, v1alpha1.ConditionReconciling)).To(gomega.BeNil())
}

func TestTenantSuspension(t *testing.T) {
	t.Parallel()
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
	running := newTenantJob(t, tenant, newTemplate(t, lingering))
	pod := awaitRunningPod(t, running)
	straggler := barePod(tenant, "straggler", nil)
	straggler.Annotations = map[string]string{annotationLingers: "true"}
	create(t, straggler)
	awaitRunning(t, straggler)

	patch(t, tenant, suspend)
	awaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionUnknown, v1alpha1.ReasonStoppingJobs, running.Name)
	awaitCondition(t, tenant, v1alpha1.ConditionReconciling, metav1.ConditionTrue, v1alpha1.ReasonStoppingJobs, running.Name)
	g := gomega.NewWithT(t)
	g.Expect(state(t, g, tenant)).To(gomega.Equal("suspended"))
	g.Expect(meta.IsStatusConditionTrue(tenant.Status.Conditions, v1alpha1.ConditionReady)).To(gomega.BeTrue())
	awaitOutcome(t, running, v1alpha1.ReasonStoppedBySuspension)
	eventually(t, func(g gomega.Gomega) { g.Expect(get(t, g, pod).DeletionTimestamp).NotTo(gomega.BeNil()) })
	notYet := func() {
		t.Helper()
		// For more than one poll.
		gomega.NewWithT(t).Consistently(func(g gomega.Gomega) {
			conditions := get(t, g, tenant).Status.Conditions
			g.Expect(meta.IsStatusConditionPresentAndEqual(conditions, v1alpha1.ConditionSuspended, metav1.ConditionUnknown)).To(gomega.BeTrue())
		}).WithTimeout(tenantpkg.PollInterval * 3 / 2).WithPolling(100 * time.Millisecond).Should(gomega.Succeed())
	}
	notYet()
	letGo(t, pod)
	awaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionUnknown, v1alpha1.ReasonDeletingPods, "straggler")
	notYet()
	letGo(t, straggler)
	awaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "")
	awaitGone(t, pod)
	awaitGone(t, straggler)

	waiting := newTenantJob(t, tenant, newTemplate(t, nil))
	awaitOutcome(t, waiting, v1alpha1.ReasonTenantSuspended)
	patch(t, tenant, resume)
	awaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionFalse, v1alpha1.ReasonActive, "")
	awaitEvents(t, tenant, "Suspended", "Resumed")
	g.Expect(state(t, g, tenant)).To(gomega.Equal("active"))
	awaitRunningPod(t, waiting)
}

func TestTenantSuspensionDrains(t *testing.T) {
	t.Parallel()
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{SuspendPolicy: v1alpha1.SuspendPolicyDrain})
	running, pending := newTenantJob(t, tenant, newTemplate(t, nil)), newTenantJob(t, tenant, newTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		metav1.SetMetaDataAnnotation(&o.Spec.JobTemplate.Spec.Template.ObjectMeta, annotationPending, "true")
	}))
	pod := awaitRunningPod(t, running)
	eventually(t, func(g gomega.Gomega) {
		g.Expect(get(t, g, &batchv1.Job{ObjectMeta: within(tenant, pending.Name)}).Status.Active).To(gomega.BeEquivalentTo(1))
	})
	patch(t, tenant, suspend)
	awaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionUnknown, v1alpha1.ReasonDrainingJobs, running.Name)
	awaitOutcome(t, pending, v1alpha1.ReasonStoppedBySuspension)
	g := gomega.NewWithT(t)
	g.Expect(state(t, g, tenant)).To(gomega.Equal("suspended"))
	g.Expect(get(t, g, pod).DeletionTimestamp).To(gomega.BeNil())
	endPod(t, pod, corev1.PodSucceeded)
	awaitOutcome(t, running, v1alpha1.ReasonCompleted)
	awaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "")
	get(t, g, pod) // For its logs.
}

// barePod is a pod that nobody's Job stands behind.
func barePod(tenant *v1alpha1.Tenant, name string, labels map[string]string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: within(tenant, name), Spec: corev1.PodSpec{
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
			tenant := newReadyTenant(t, v1alpha1.TenantSpec{Enforcement: phase})
			ours := map[string]string{v1alpha1.LabelTenant: tenant.Name}
			orphan := &batchv1.Job{ObjectMeta: within(tenant, "orphan"), Spec: batchv1.JobSpec{
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: ours}, Spec: barePod(tenant, "", nil).Spec},
			}}
			orphan.Labels, orphan.Spec.Template.Spec.RestartPolicy = ours, corev1.RestartPolicyNever
			create(t, orphan)
			bare, foreign := create(t, barePod(tenant, "bare", ours)), create(t, barePod(tenant, "foreign", nil))
			finished := create(t, barePod(tenant, "finished", ours))
			awaitRunning(t, finished)
			awaitRunning(t, foreign)
			endPod(t, finished, corev1.PodSucceeded)
			patch(t, tenant, suspend)
			awaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "")
			awaitGone(t, orphan)
			awaitGone(t, bare)
			g := gomega.NewWithT(t)
			get(t, g, finished)
			if foreignStays {
				g.Expect(get(t, g, foreign).DeletionTimestamp).To(gomega.BeNil())
			} else {
				awaitGone(t, foreign)
			}
		})
	}
}

// A pod that is made while the API server's view of the fence is behind is found by a later look.
func TestTenantSuspensionIsVerified(t *testing.T) {
	verifying(t)
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
	early := create(t, barePod(tenant, "early", nil))
	awaitRunning(t, early)
	endPod(t, early, corev1.PodSucceeded)
	patch(t, tenant, suspend)
	awaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "")
	endPod(t, early, corev1.PodRunning)
	awaitGone(t, early)
	awaitCondition(t, tenant, v1alpha1.ConditionSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "")
}

func TestTenantCountsRunningJobs(t *testing.T) {
	t.Parallel()
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
	template := newTemplate(t, nil)
	count := func(want int) {
		t.Helper()
		eventually(t, func(g gomega.Gomega) {
			g.Expect(get(t, g, tenant).Status.Running).To(gomega.HaveValue(gomega.BeEquivalentTo(want)))
		})
	}
	first, second := newTenantJob(t, tenant, template), newTenantJob(t, tenant, template)
	count(2)
	endPod(t, awaitRunningPod(t, first), corev1.PodSucceeded)
	count(1)
	endPod(t, awaitRunningPod(t, second), corev1.PodFailed)
	count(0)
}
