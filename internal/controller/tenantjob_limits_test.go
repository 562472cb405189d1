package controller_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func atMost(n int32) v1alpha1.TenantSpec {
	return v1alpha1.TenantSpec{Jobs: &v1alpha1.TenantJobLimits{MaxConcurrent: &n}}
}

func atMostPerTenant(n int32) func(*v1alpha1.TenantJobTemplate) {
	return func(o *v1alpha1.TenantJobTemplate) { o.Spec.MaxConcurrentPerTenant = &n }
}

func TestTenantJobWaitsForASlot(t *testing.T) {
	t.Parallel()
	t.Run("of its template", func(t *testing.T) {
		t.Parallel()
		tenant, other := newReadyTenant(t, v1alpha1.TenantSpec{}), newReadyTenant(t, v1alpha1.TenantSpec{})
		template := newReadyTemplate(t, atMostPerTenant(1))
		first := newTenantJob(t, tenant, template)
		awaitRunningPod(t, first)
		second := newTenantJob(t, tenant, template)
		awaitSaid(t, second, unknown, v1alpha1.ReasonQueued, "template "+template.Name+" runs at most 1 at once for a tenant (`spec.maxConcurrentPerTenant`)")
		gomega.NewWithT(t).Expect(second.Status.QueuedTime).NotTo(gomega.BeNil())
		awaitRunningPod(t, newTenantJob(t, other, template))
		awaitRunningPod(t, newTenantJob(t, tenant, newTemplate(t, nil)))

		finish(t, first, corev1.PodFailed)
		awaitRunningPod(t, second)
		awaitSaid(t, second, unknown, v1alpha1.ReasonRunning, "")
		gomega.NewWithT(t).Expect(second.Status.QueuedTime).To(gomega.BeNil())
	})
	t.Run("of its tenant", func(t *testing.T) {
		t.Parallel()
		tenant := newReadyTenant(t, atMost(1))
		first := newTenantJob(t, tenant, newTemplate(t, nil))
		awaitRunningPod(t, first)
		second := newTenantJob(t, tenant, newTemplate(t, nil))
		awaitSaid(t, second, unknown, v1alpha1.ReasonQueued, "tenant "+tenant.Name+" runs at most 1 jobs at once (`spec.jobs.maxConcurrent`)")
		finish(t, first, corev1.PodSucceeded)
		awaitRunningPod(t, second)
	})
	t.Run("until the template's limit is raised", func(t *testing.T) {
		t.Parallel()
		tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
		template := newReadyTemplate(t, atMostPerTenant(1))
		awaitRunningPod(t, newTenantJob(t, tenant, template))
		waiting := []*v1alpha1.TenantJob{newTenantJob(t, tenant, template), newTenantJob(t, tenant, template)}
		for _, tj := range waiting {
			awaitSaid(t, tj, unknown, v1alpha1.ReasonQueued, "")
		}
		patch(t, template, atMostPerTenant(3))
		for _, tj := range waiting {
			awaitRunningPod(t, tj)
		}
	})
	t.Run("until the tenant's limit is taken away", func(t *testing.T) {
		t.Parallel()
		tenant := newReadyTenant(t, atMost(1))
		template := newReadyTemplate(t, nil)
		awaitRunningPod(t, newTenantJob(t, tenant, template))
		waiting := []*v1alpha1.TenantJob{newTenantJob(t, tenant, template), newTenantJob(t, tenant, template)}
		for _, tj := range waiting {
			awaitSaid(t, tj, unknown, v1alpha1.ReasonQueued, "")
		}
		patch(t, tenant, func(o *v1alpha1.Tenant) { o.Spec.Jobs = nil })
		for _, tj := range waiting {
			awaitRunningPod(t, tj)
		}
	})
	t.Run("as long as the pod of a cancelled run has not ended", func(t *testing.T) {
		t.Parallel()
		tenant := newReadyTenant(t, atMost(1))
		first := newTenantJob(t, tenant, newTemplate(t, lingering))
		pod := awaitRunningPod(t, first)
		second := newTenantJob(t, tenant, newTemplate(t, nil))
		awaitSaid(t, second, unknown, v1alpha1.ReasonQueued, "")
		patch(t, first, func(o *v1alpha1.TenantJob) { o.Spec.Cancel = new(true) })
		awaitSaid(t, first, isFalse, v1alpha1.ReasonCancelled, "")
		eventually(t, func(g gomega.Gomega) { g.Expect(get(t, g, pod).DeletionTimestamp).NotTo(gomega.BeNil()) })
		// The pod is there, so nothing starts, whatever happens to the one that waits.
		patch(t, second, func(o *v1alpha1.TenantJob) { o.Labels["touched"] = "true" })
		gomega.NewWithT(t).Consistently(func(g gomega.Gomega) {
			g.Expect(conditionOf(get(t, g, second).Status.Conditions, v1alpha1.ConditionSucceeded).Reason).To(gomega.Equal(v1alpha1.ReasonQueued))
		}).WithTimeout(2 * time.Second).WithPolling(100 * time.Millisecond).Should(gomega.Succeed())
		letGo(t, pod)
		awaitRunningPod(t, second)
	})
	t.Run("that one gave back without taking it", func(t *testing.T) {
		t.Parallel()
		tenant := newReadyTenant(t, atMost(1))
		template := newReadyTemplate(t, nil)
		first := newTenantJob(t, tenant, template)
		pod := awaitRunningPod(t, first)
		// It is the next, and a stranger's Job has its name.
		second := newRun(t, tenant, template, func(o *v1alpha1.TenantJob) {
			stranger := jobOf(o)
			stranger.Spec = template.Spec.JobTemplate.Spec
			create(t, stranger)
		})
		awaitSaid(t, second, unknown, v1alpha1.ReasonQueued, "")
		third := newTenantJob(t, tenant, template)
		awaitSaid(t, third, unknown, v1alpha1.ReasonQueued, "")
		endPod(t, pod, corev1.PodSucceeded)
		awaitSaid(t, second, isFalse, v1alpha1.ReasonNameConflict, "")
		awaitRunningPod(t, third)
	})
}

func TestTenantJobExpires(t *testing.T) {
	t.Parallel()
	tenant := newReadyTenant(t, atMost(1))
	awaitRunningPod(t, newTenantJob(t, tenant, newTemplate(t, nil)))
	t.Run("by its own word", func(t *testing.T) {
		t.Parallel()
		tj := newRun(t, tenant, newReadyTemplate(t, nil), func(o *v1alpha1.TenantJob) { o.Spec.MaxWaitSeconds = new(int32(4)) })
		awaitSaid(t, tj, isFalse, v1alpha1.ReasonExpired, "did not start within 4 seconds: tenant "+tenant.Name+" runs at most 1 jobs at once")
		g := gomega.NewWithT(t)
		g.Expect(tj.Status.CompletionTime.Time).To(gomega.BeTemporally(">=", tj.CreationTimestamp.Add(4*time.Second)))
		g.Expect(tj.Status.JobRef).To(gomega.BeNil())
		g.Expect(conditionOf(tj.Status.Conditions, v1alpha1.ConditionStalled).Status).To(gomega.Equal(isTrue))
	})
	t.Run("by its template's", func(t *testing.T) {
		t.Parallel()
		tj := newTenantJob(t, tenant, newReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.MaxWaitSeconds = new(int32(1)) }))
		awaitSaid(t, tj, isFalse, v1alpha1.ReasonExpired, "did not start within 1 seconds")
	})
	t.Run("only by what a limit holds it", func(t *testing.T) {
		t.Parallel()
		later := newTemplate(t, nil)
		remove(t, later)
		tj := newRun(t, newReadyTenant(t, v1alpha1.TenantSpec{}), later, func(o *v1alpha1.TenantJob) { o.Spec.MaxWaitSeconds = new(int32(1)) })
		awaitSaid(t, tj, unknown, v1alpha1.ReasonTemplateNotFound, "")
		eventually(t, func(g gomega.Gomega) {
			g.Expect(time.Since(tj.CreationTimestamp.Time)).To(gomega.BeNumerically(">", 2*time.Second))
		})
		create(t, &v1alpha1.TenantJobTemplate{ObjectMeta: metav1.ObjectMeta{Name: later.Name}, Spec: later.Spec})
		awaitRunningPod(t, tj)
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
		"of a template":           {v1alpha1.TenantSpec{}, atMostPerTenant(1), 1},
		"of a tenant":             {atMost(1), nil, 1},
		"of a tenant, two by two": {atMost(2), atMostPerTenant(3), 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenant := newReadyTenant(t, given.tenant)
			templates := []*v1alpha1.TenantJobTemplate{newReadyTemplate(t, given.template)}
			if given.template == nil {
				templates = append(templates, newReadyTemplate(t, nil), newReadyTemplate(t, nil))
			}
			jobs := followJobs(t, tenant)
			finishAll(t, tenant)
			var all []*v1alpha1.TenantJob
			for i := range 10 {
				all = append(all, newTenantJob(t, tenant, templates[i%len(templates)]))
			}
			for _, tj := range all {
				awaitSaid(t, tj, isTrue, v1alpha1.ReasonCompleted, "")
			}
			made, most := jobs.made()
			gomega.NewWithT(t).Expect(made).To(gomega.HaveLen(len(all)))
			gomega.NewWithT(t).Expect(most).To(gomega.Equal(given.most))
		})
	}
}

// TestTenantJobTwoAtOnce never lets two start that are made at the same moment, many times.
func TestTenantJobTwoAtOnce(t *testing.T) {
	t.Parallel()
	template := newReadyTemplate(t, nil)
	for i := range 10 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			tenant := newReadyTenant(t, atMost(1))
			jobs := followJobs(t, tenant)
			finishAll(t, tenant)
			pair := []*v1alpha1.TenantJob{nil, nil}
			made := make(chan struct{})
			for i := range pair {
				go func() {
					pair[i] = newTenantJob(t, tenant, template)
					made <- struct{}{}
				}()
			}
			<-made
			<-made
			for _, tj := range pair {
				awaitSaid(t, tj, isTrue, v1alpha1.ReasonCompleted, "")
			}
			_, most := jobs.made()
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
			tenant := newReadyTenant(t, atMost(1))
			jobs := followJobs(t, tenant)
			first := newTenantJob(t, tenant, newReadyTemplate(t, nil))
			pod := awaitRunningPod(t, first)
			var want []string
			for _, p := range []v1alpha1.JobPriority{v1alpha1.PriorityLow, v1alpha1.PriorityMedium, v1alpha1.PriorityHigh} {
				template := newReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.Priority = p })
				older := newTenantJob(t, tenant, template)
				awaitSaid(t, older, unknown, v1alpha1.ReasonQueued, "")
				newer := newTenantJob(t, tenant, template)
				awaitSaid(t, newer, unknown, v1alpha1.ReasonQueued, "")
				want = slices.Concat([]string{older.Name, newer.Name}, want)
			}
			finishAll(t, tenant)
			endPod(t, pod, corev1.PodSucceeded)
			eventually(t, func(g gomega.Gomega) {
				made, _ := jobs.made()
				g.Expect(made).To(gomega.HaveLen(7))
			})
			made, most := jobs.made()
			gomega.NewWithT(t).Expect(made).To(gomega.HaveExactElements(slices.Concat([]string{first.Name}, want)))
			gomega.NewWithT(t).Expect(most).To(gomega.Equal(1))
		})
	}
}
