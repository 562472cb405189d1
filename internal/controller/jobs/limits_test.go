package jobs_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

func TestTenantJobWaitsForASlot(t *testing.T) {
	t.Parallel()
	t.Run("of its template", func(t *testing.T) {
		t.Parallel()
		tenant, other := NewReadyTenant(t, v1alpha1.TenantSpec{}), NewReadyTenant(t, v1alpha1.TenantSpec{})
		template := NewReadyTemplate(t, AtMostPerTenant(1))
		first := NewTenantJob(t, tenant, template)
		AwaitRunningPod(t, first)
		second := NewTenantJob(t, tenant, template)
		AwaitStatus(t, second, Unknown, v1alpha1.ReasonQueued, "template "+template.Name+" runs at most 1 at once for a tenant (`spec.maxConcurrentPerTenant`)")
		gomega.NewWithT(t).Expect(second.Status.QueuedTime).NotTo(gomega.BeNil())
		AwaitRunningPod(t, NewTenantJob(t, other, template))
		AwaitRunningPod(t, NewTenantJob(t, tenant, NewTemplate(t, nil)))

		Finish(t, first, corev1.PodFailed)
		AwaitRunningPod(t, second)
		AwaitStatus(t, second, Unknown, v1alpha1.ReasonRunning, "")
		gomega.NewWithT(t).Expect(second.Status.QueuedTime).To(gomega.BeNil())
	})
	t.Run("of its tenant", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, AtMost(1))
		first := NewTenantJob(t, tenant, NewTemplate(t, nil))
		AwaitRunningPod(t, first)
		second := NewTenantJob(t, tenant, NewTemplate(t, nil))
		AwaitStatus(t, second, Unknown, v1alpha1.ReasonQueued, "tenant "+tenant.Name+" runs at most 1 at once (`spec.jobs.maxConcurrent`)")
		Finish(t, first, corev1.PodSucceeded)
		AwaitRunningPod(t, second)
	})
	t.Run("until the template's limit is raised", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
		template := NewReadyTemplate(t, AtMostPerTenant(1))
		AwaitRunningPod(t, NewTenantJob(t, tenant, template))
		waiting := []*v1alpha1.TenantJob{NewTenantJob(t, tenant, template), NewTenantJob(t, tenant, template)}
		for _, tj := range waiting {
			AwaitStatus(t, tj, Unknown, v1alpha1.ReasonQueued, "")
		}
		Patch(t, template, AtMostPerTenant(3))
		for _, tj := range waiting {
			AwaitRunningPod(t, tj)
		}
	})
	t.Run("until the tenant's limit is taken away", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, AtMost(1))
		template := NewReadyTemplate(t, nil)
		AwaitRunningPod(t, NewTenantJob(t, tenant, template))
		waiting := []*v1alpha1.TenantJob{NewTenantJob(t, tenant, template), NewTenantJob(t, tenant, template)}
		for _, tj := range waiting {
			AwaitStatus(t, tj, Unknown, v1alpha1.ReasonQueued, "")
		}
		Patch(t, tenant, func(o *v1alpha1.Tenant) { o.Spec.Jobs = nil })
		for _, tj := range waiting {
			AwaitRunningPod(t, tj)
		}
	})
	t.Run("as long as the pod of a cancelled run has not ended", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, AtMost(1))
		first := NewTenantJob(t, tenant, NewTemplate(t, Lingering))
		pod := AwaitRunningPod(t, first)
		second := NewTenantJob(t, tenant, NewTemplate(t, nil))
		AwaitStatus(t, second, Unknown, v1alpha1.ReasonQueued, "")
		Patch(t, first, func(o *v1alpha1.TenantJob) { o.Spec.Cancel = new(true) })
		AwaitStatus(t, first, IsFalse, v1alpha1.ReasonCancelled, "")
		Eventually(t, func(g gomega.Gomega) { g.Expect(Get(t, g, pod).DeletionTimestamp).NotTo(gomega.BeNil()) })
		// The pod is there, so nothing starts, whatever happens to the one that waits.
		Patch(t, second, func(o *v1alpha1.TenantJob) { o.Labels["touched"] = "true" })
		gomega.NewWithT(t).Consistently(func(g gomega.Gomega) {
			g.Expect(conditions.Get(Get(t, g, second).Status.Conditions, v1alpha1.ConditionSucceeded).Reason).To(gomega.Equal(v1alpha1.ReasonQueued))
		}).WithTimeout(2 * time.Second).WithPolling(100 * time.Millisecond).Should(gomega.Succeed())
		LetGo(t, pod)
		AwaitRunningPod(t, second)
	})
	t.Run("that one gave back without taking it", func(t *testing.T) {
		t.Parallel()
		tenant := NewReadyTenant(t, AtMost(1))
		template := NewReadyTemplate(t, nil)
		first := NewTenantJob(t, tenant, template)
		pod := AwaitRunningPod(t, first)
		// It is the next, and a stranger's Job has its name.
		second := NewRun(t, tenant, template, func(o *v1alpha1.TenantJob) {
			stranger := JobOf(o)
			stranger.Spec = template.Spec.JobTemplate.Spec
			Create(t, stranger)
		})
		AwaitStatus(t, second, Unknown, v1alpha1.ReasonQueued, "")
		third := NewTenantJob(t, tenant, template)
		AwaitStatus(t, third, Unknown, v1alpha1.ReasonQueued, "")
		EndPod(t, pod, corev1.PodSucceeded)
		AwaitStatus(t, second, IsFalse, v1alpha1.ReasonNameConflict, "")
		AwaitRunningPod(t, third)
	})
}

func TestTenantJobExpires(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, AtMost(1))
	AwaitRunningPod(t, NewTenantJob(t, tenant, NewTemplate(t, nil)))
	t.Run("by its own word", func(t *testing.T) {
		t.Parallel()
		tj := NewRun(t, tenant, NewReadyTemplate(t, nil), func(o *v1alpha1.TenantJob) { o.Spec.MaxWaitSeconds = new(int32(4)) })
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonExpired, "did not start within 4 seconds: tenant "+tenant.Name+" runs at most 1 at once")
		g := gomega.NewWithT(t)
		g.Expect(tj.Status.CompletionTime.Time).To(gomega.BeTemporally(">=", tj.CreationTimestamp.Add(4*time.Second)))
		g.Expect(tj.Status.JobRef).To(gomega.BeNil())
		g.Expect(conditions.Get(tj.Status.Conditions, v1alpha1.ConditionStalled).Status).To(gomega.Equal(IsTrue))
	})
	t.Run("by its template's", func(t *testing.T) {
		t.Parallel()
		tj := NewTenantJob(t, tenant, NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.MaxWaitSeconds = new(int32(1)) }))
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonExpired, "did not start within 1 seconds")
	})
	t.Run("only by what a limit holds it", func(t *testing.T) {
		t.Parallel()
		later := NewTemplate(t, nil)
		Remove(t, later)
		tj := NewRun(t, NewReadyTenant(t, v1alpha1.TenantSpec{}), later, func(o *v1alpha1.TenantJob) { o.Spec.MaxWaitSeconds = new(int32(1)) })
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonTemplateNotFound, "")
		Eventually(t, func(g gomega.Gomega) {
			g.Expect(time.Since(tj.CreationTimestamp.Time)).To(gomega.BeNumerically(">", 2*time.Second))
		})
		Create(t, &v1alpha1.TenantJobTemplate{ObjectMeta: metav1.ObjectMeta{Name: later.Name}, Spec: later.Spec})
		AwaitRunningPod(t, tj)
	})
}

// TestTenantJobsTakeTurns makes many TenantJobs at once that may only run one by one, and holds them to that they do, and
// that none is left behind.
func TestTenantJobsTakeTurns(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]struct {
		tenant   v1alpha1.TenantSpec
		template func(*v1alpha1.TenantJobTemplate)
		most     int
	}{
		"of a template":           {v1alpha1.TenantSpec{}, AtMostPerTenant(1), 1},
		"of a tenant":             {AtMost(1), nil, 1},
		"of a tenant, two by two": {AtMost(2), AtMostPerTenant(3), 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := NewReadyTenant(t, given.tenant)
			templates := []*v1alpha1.TenantJobTemplate{NewReadyTemplate(t, given.template)}
			if given.template == nil {
				templates = append(templates, NewReadyTemplate(t, nil), NewReadyTemplate(t, nil))
			}
			jobs := FollowJobs(t, tenant)
			FinishAll(t, tenant)
			var all []*v1alpha1.TenantJob
			for i := range 10 {
				all = append(all, NewTenantJob(t, tenant, templates[i%len(templates)]))
			}
			for _, tj := range all {
				AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
			}
			made, most := jobs.Made()
			gomega.NewWithT(t).Expect(made).To(gomega.HaveLen(len(all)))
			gomega.NewWithT(t).Expect(most).To(gomega.Equal(given.most))
		})
	}
}

// TestTenantJobTwoAtOnce never lets two start that are made at the same moment, many times.
func TestTenantJobTwoAtOnce(t *testing.T) {
	t.Parallel()
	template := NewReadyTemplate(t, nil)
	for i := range 10 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			tenant := NewReadyTenant(t, AtMost(1))
			jobs := FollowJobs(t, tenant)
			FinishAll(t, tenant)
			pair := []*v1alpha1.TenantJob{nil, nil}
			made := make(chan struct{})
			for i := range pair {
				go func() {
					pair[i] = NewTenantJob(t, tenant, template)
					made <- struct{}{}
				}()
			}
			<-made
			<-made
			for _, tj := range pair {
				AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
			}
			_, most := jobs.Made()
			gomega.NewWithT(t).Expect(most).To(gomega.Equal(1))
		})
	}
}

// TestTenantJobsOrder lets those that wait start by priority, then by age.
func TestTenantJobsOrder(t *testing.T) {
	t.Parallel()
	for i := range 4 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			tenant := NewReadyTenant(t, AtMost(1))
			jobs := FollowJobs(t, tenant)
			first := NewTenantJob(t, tenant, NewReadyTemplate(t, nil))
			pod := AwaitRunningPod(t, first)
			var want []string
			for _, p := range []v1alpha1.JobPriority{v1alpha1.PriorityLow, v1alpha1.PriorityMedium, v1alpha1.PriorityHigh} {
				template := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.Priority = p })
				older := NewTenantJob(t, tenant, template)
				AwaitStatus(t, older, Unknown, v1alpha1.ReasonQueued, "")
				newer := NewTenantJob(t, tenant, template)
				AwaitStatus(t, newer, Unknown, v1alpha1.ReasonQueued, "")
				want = slices.Concat([]string{older.Name, newer.Name}, want)
			}
			FinishAll(t, tenant)
			EndPod(t, pod, corev1.PodSucceeded)
			Eventually(t, func(g gomega.Gomega) {
				made, _ := jobs.Made()
				g.Expect(made).To(gomega.HaveLen(7))
			})
			made, most := jobs.Made()
			gomega.NewWithT(t).Expect(made).To(gomega.HaveExactElements(slices.Concat([]string{first.Name}, want)))
			gomega.NewWithT(t).Expect(most).To(gomega.Equal(1))
		})
	}
}
