package e2e

import (
	"context"
	"fmt"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

var _ = Describe("A fan-out", func() {
	It("runs for every tenant once, says who did not succeed, and retries those who failed", func(ctx SpecContext) {
		template := givenTemplate(ctx, "check-expired-sessions")
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		globex := givenTenant(ctx, "globex", v1alpha1.TenantSpec{Attributes: inMaintenance})
		initech := givenTenant(ctx, "initech", v1alpha1.TenantSpec{Suspend: new(true)})
		expectSuspended(ctx, initech, metav1.ConditionTrue)

		fanOut := givenFanOut(ctx, template, v1alpha1.TenantSelection{Names: names(acme, globex, initech)})
		kubectl(ctx, "wait", "tfo/"+fanOut.Name, "--for", "condition=Succeeded=False", "--timeout", "2m")
		ended := expectFanOut(ctx, fanOut, v1alpha1.ReasonSomeFailed)
		Expect(ended.Message).To(ContainSubstring("1 of 3 tenants succeeded"))
		Expect(fanOut.Status.Counts).To(HaveValue(Equal(v1alpha1.FanOutCounts{Total: 3, Succeeded: 1, Failed: 1, Skipped: 1})))
		Expect(fanOut.Status.UnsuccessfulTenants).To(HaveExactElements(
			And(HaveField("Tenant", v1alpha1.TenantName(globex.Name)), HaveField("Reason", v1alpha1.ReasonJobFailed)),
			And(HaveField("Tenant", v1alpha1.TenantName(initech.Name)), HaveField("Reason", v1alpha1.ReasonTenantSuspended))))
		Expect(childrenOf(ctx, fanOut)).To(HaveLen(2), "a tenant that is suspended gets no TenantJob")
		Expect(jobsIn(ctx, initech.NamespaceName())).To(BeEmpty())
		child := childOf(ctx, fanOut, acme)
		pod := podOf(ctx, child)
		Expect(logOf(ctx, &pod)).To(And(
			ContainSubstring("fanOut="+fanOut.Name), ContainSubstring("tenant="+acme.Name), ContainSubstring("msg=done")))
		lines := table(kubectl(ctx, "get", "tfo", fanOut.Name))
		Expect(lines[0]).To(Equal([]string{"NAME", "TOTAL", "SUCCEEDED", "FAILED", "SKIPPED", "WAITING", "STATUS", "AGE"}))
		Expect(lines[1][:7]).To(Equal([]string{fanOut.Name, "3", "1", "1", "1", "0", v1alpha1.ReasonSomeFailed}))

		By("ending the maintenance and retrying")
		change(ctx, globex, func(t *v1alpha1.Tenant) { t.Spec.Attributes = nil })
		retry := givenFanOut(ctx, template, v1alpha1.TenantSelection{RetryOf: &v1alpha1.RetryOf{Name: fanOut.Name}})
		kubectl(ctx, "wait", "tfo/"+retry.Name, "--for", "condition=Succeeded", "--timeout", "2m")
		expectFanOut(ctx, retry, v1alpha1.ReasonCompleted)
		Expect(retry.Status.Counts).To(HaveValue(Equal(v1alpha1.FanOutCounts{Total: 1, Succeeded: 1})))
		Expect(childrenOf(ctx, retry)).To(ConsistOf(globex.NamespaceName() + "/" + retry.Name))

		By("retrying once more, when the TenantJobs are gone")
		Expect(kube.Delete(ctx, childOf(ctx, fanOut, globex))).To(Succeed())
		again := givenFanOut(ctx, template, v1alpha1.TenantSelection{RetryOf: &v1alpha1.RetryOf{Name: fanOut.Name}})
		expectFanOut(ctx, again, v1alpha1.ReasonCompleted)
		Expect(again.Status.Counts).To(HaveValue(Equal(v1alpha1.FanOutCounts{Total: 1, Succeeded: 1})))
	})

	It("does not run for a tenant that is suspended before its turn, and completes", func(ctx SpecContext) {
		template := givenTemplate(ctx, "check-expired-sessions")
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		globex := givenTenant(ctx, "globex", v1alpha1.TenantSpec{})
		fanOut := givenFanOut(ctx, template, v1alpha1.TenantSelection{Names: names(acme, globex)},
			func(spec *v1alpha1.TenantFanOutSpec) { spec.Suspend = new(true) })
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			g.Expect(fanOutCondition(ctx, fanOut, v1alpha1.ConditionPaused)).To(HaveField("Status", metav1.ConditionTrue))
		}).Should(Succeed())
		change(ctx, globex, suspend)
		expectSuspended(ctx, globex, metav1.ConditionTrue)

		change(ctx, fanOut, func(f *v1alpha1.TenantFanOut) { f.Spec.Suspend = new(false) })
		expectFanOut(ctx, fanOut, v1alpha1.ReasonCompleted)
		Expect(fanOut.Status.Counts).To(HaveValue(Equal(v1alpha1.FanOutCounts{Total: 2, Succeeded: 1, Skipped: 1})))
		Expect(fanOut.Status.UnsuccessfulTenants).To(HaveExactElements(HaveField("Reason", v1alpha1.ReasonTenantSuspended)))
		Expect(jobsIn(ctx, globex.NamespaceName())).To(BeEmpty())
	})

	It("takes its TenantJobs, their pods, its plan and its ledger along when it is deleted", func(ctx SpecContext) {
		template := givenTemplate(ctx, "check-expired-sessions")
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		fanOut := givenFanOut(ctx, template, v1alpha1.TenantSelection{Names: names(acme)},
			func(spec *v1alpha1.TenantFanOutSpec) { spec.Parameters = endless })
		Eventually(ctx, func() []string { return childrenOf(ctx, fanOut) }).Should(HaveLen(1))
		child := childOf(ctx, fanOut, acme)
		runs(ctx, child)
		records := func(ctx context.Context) string {
			return kubectl(ctx, "get", "configmaps", "--namespace", operatorNamespace,
				"--selector", v1alpha1.LabelFanOut+"="+fanOut.Name, "--output", "name")
		}
		Expect(records(ctx)).To(And(ContainSubstring("-plan"), ContainSubstring("-ledger")))

		Expect(kube.Delete(ctx, fanOut)).To(Succeed())
		Eventually(ctx, func() []string { return childrenOf(ctx, fanOut) }).Should(BeEmpty())
		Eventually(ctx, func() []string { return livePods(ctx, acme.NamespaceName()) }).Should(BeEmpty())
		Eventually(ctx, records).Should(BeEmpty())
	})
})

var _ = Describe("A schedule", func() {
	It("for every minute makes one fan-out a minute, which runs once for each tenant", func(ctx SpecContext) {
		template := givenTemplate(ctx, "check-expired-sessions")
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		globex := givenTenant(ctx, "globex", v1alpha1.TenantSpec{})
		ts := &v1alpha1.TenantSchedule{ObjectMeta: metav1.ObjectMeta{Name: acme.Name + "-tick"}}
		ts.Spec.Schedule = "* * * * *"
		ts.Spec.FanOutTemplate.Spec.TemplateRef.Name = template.Name
		ts.Spec.FanOutTemplate.Spec.Tenants.Names = names(acme, globex)
		Expect(kube.Create(ctx, ts)).To(Succeed())
		DeferCleanup(func(ctx SpecContext) { Expect(client.IgnoreNotFound(kube.Delete(ctx, ts))).To(Succeed()) })

		// Two ticks: the fan-out of the first one still exists when the second one comes.
		Eventually(ctx, func(g Gomega, ctx context.Context) {
			g.Expect(kube.Get(ctx, client.ObjectKeyFromObject(ts), ts)).To(Succeed())
			g.Expect(fanOutsOf(ctx, ts)).To(HaveLen(2))
		}).WithTimeout(3 * time.Minute).Should(Succeed())
		change(ctx, ts, func(ts *v1alpha1.TenantSchedule) { ts.Spec.Suspend = new(true) })

		fanOuts := fanOutsOf(ctx, ts)
		var ticks []string
		for i := range fanOuts {
			fanOut := &fanOuts[i]
			expectFanOut(ctx, fanOut, v1alpha1.ReasonCompleted)
			Expect(fanOut.Status.Counts).To(HaveValue(Equal(v1alpha1.FanOutCounts{Total: 2, Succeeded: 2})))
			tick, err := time.Parse(time.RFC3339, fanOut.Annotations[v1alpha1.AnnotationScheduledTime])
			Expect(err).NotTo(HaveOccurred())
			Expect(tick.Second()).To(BeZero())
			Expect(fanOut.Name).To(Equal(fmt.Sprintf("%s-%d", ts.Name, tick.Unix()/60)))
			ticks = append(ticks, fanOut.Name)
		}
		Expect(jobsIn(ctx, acme.NamespaceName())).To(ConsistOf(ticks))
		Expect(jobsIn(ctx, globex.NamespaceName())).To(ConsistOf(ticks))
		Eventually(ctx, func() [][]string {
			return table(kubectl(ctx, "get", "tsch", ts.Name))
		}).Should(HaveExactElements(
			Equal([]string{"NAME", "SCHEDULE", "LAST", "LAST-RESULT", "NEXT", "SUSPENDED"}),
			ContainElement(v1alpha1.ReasonCompleted)))
	}, SpecTimeout(6*time.Minute))
})

var _ = Describe("A queue", func() {
	It("lets a tenant with one job go before another's flood", func(ctx SpecContext) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		globex := givenTenant(ctx, "globex", v1alpha1.TenantSpec{})
		queue := &v1alpha1.TenantQueue{ObjectMeta: metav1.ObjectMeta{Name: acme.Name}}
		queue.Spec.MaxConcurrent = new(int32(2))
		Expect(kube.Create(ctx, queue)).To(Succeed())
		DeferCleanup(func(ctx SpecContext) { Expect(client.IgnoreNotFound(kube.Delete(ctx, queue))).To(Succeed()) })
		template := givenTemplate(ctx, "check-expired-sessions", func(spec *v1alpha1.TenantJobTemplateSpec) {
			spec.QueueRef = &v1alpha1.LabelReference{Name: queue.Name}
		})
		const many = 12
		var last *v1alpha1.TenantJob
		for i := range many {
			last = dispatch(ctx, acme, template, fmt.Sprintf("flood-%d", i), parameters{"runSeconds": "2"})
		}
		single := dispatch(ctx, globex, template, "single", none)
		expectMessage(ctx, last, v1alpha1.ReasonQueued, ContainSubstring("queue "+queue.Name+" is full"))
		expectReason(ctx, single, v1alpha1.ReasonCompleted)

		var flood v1alpha1.TenantJobList
		Expect(kube.List(ctx, &flood, client.InNamespace(acme.NamespaceName()))).To(Succeed())
		Expect(flood.Items).To(HaveLen(many))
		first := 0
		for i := range flood.Items {
			if at := flood.Items[i].Status.StartTime; at != nil && at.Before(single.Status.StartTime) {
				first++
			}
		}
		// Those that had started when it was created, and then one start of each other tenant.
		Expect(first).To(BeNumerically("<=", 4), "so many of the flood went before the single job")
	})
})

// inMaintenance makes the sample application fail for a tenant.
var inMaintenance = map[string]v1alpha1.AttributeValue{"maintenance": "true"}

// givenFanOut creates a fan-out, which is deleted when the spec ends.
func givenFanOut(
	ctx context.Context, template *v1alpha1.TenantJobTemplate, tenants v1alpha1.TenantSelection,
	edits ...func(*v1alpha1.TenantFanOutSpec),
) *v1alpha1.TenantFanOut {
	GinkgoHelper()
	fanOut := &v1alpha1.TenantFanOut{ObjectMeta: metav1.ObjectMeta{GenerateName: template.Name + "-"}}
	fanOut.Spec.TemplateRef.Name = template.Name
	fanOut.Spec.Tenants = tenants
	for _, edit := range edits {
		edit(&fanOut.Spec)
	}
	Expect(kube.Create(ctx, fanOut)).To(Succeed())
	DeferCleanup(func(ctx SpecContext) { Expect(client.IgnoreNotFound(kube.Delete(ctx, fanOut))).To(Succeed()) })
	return fanOut
}

func names(tenants ...*v1alpha1.Tenant) []v1alpha1.TenantName {
	var names []v1alpha1.TenantName
	for _, t := range tenants {
		names = append(names, v1alpha1.TenantName(t.Name))
	}
	return names
}

// fanOutCondition returns a condition of a fan-out as it is now.
func fanOutCondition(ctx context.Context, fanOut *v1alpha1.TenantFanOut, conditionType string) (metav1.Condition, error) {
	if err := kube.Get(ctx, client.ObjectKeyFromObject(fanOut), fanOut); err != nil {
		return metav1.Condition{}, err
	}
	if found := meta.FindStatusCondition(fanOut.Status.Conditions, conditionType); found != nil {
		return *found, nil
	}
	return metav1.Condition{Status: metav1.ConditionUnknown}, nil
}

// expectFanOut waits until a fan-out has ended with a reason, and returns the condition. It fails at once if the fan-out
// has ended with another reason.
func expectFanOut(ctx context.Context, fanOut *v1alpha1.TenantFanOut, reason string) metav1.Condition {
	GinkgoHelper()
	var now metav1.Condition
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		var err error
		now, err = fanOutCondition(ctx, fanOut, v1alpha1.ConditionSucceeded)
		g.Expect(err).NotTo(HaveOccurred())
		if now.Status != metav1.ConditionUnknown && now.Reason != reason {
			StopTrying(fmt.Sprintf("it ended as %s: %s", now.Reason, now.Message)).Now()
		}
		g.Expect(now.Reason).To(Equal(reason), now.Message)
	}).Should(Succeed(), "TenantFanOut %s should come to %s, and is %s", fanOut.Name, reason, deferred(ctx, fanOut))
	return now
}

// childrenOf returns namespace/name of the TenantJobs of a fan-out.
func childrenOf(ctx context.Context, fanOut *v1alpha1.TenantFanOut) []string {
	GinkgoHelper()
	var children v1alpha1.TenantJobList
	Expect(kube.List(ctx, &children, client.MatchingLabels{v1alpha1.LabelFanOut: fanOut.Name})).To(Succeed())
	var list []string
	for i := range children.Items {
		list = append(list, children.Items[i].Namespace+"/"+children.Items[i].Name)
	}
	return list
}

// childOf is the TenantJob of a fan-out for a tenant.
func childOf(ctx context.Context, fanOut *v1alpha1.TenantFanOut, tenant *v1alpha1.Tenant) *v1alpha1.TenantJob {
	GinkgoHelper()
	child := &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{Namespace: tenant.NamespaceName(), Name: fanOut.Name}}
	Expect(kube.Get(ctx, client.ObjectKeyFromObject(child), child)).To(Succeed())
	return child
}

// fanOutsOf returns the fan-outs that a schedule has created.
func fanOutsOf(ctx context.Context, ts *v1alpha1.TenantSchedule) []v1alpha1.TenantFanOut {
	GinkgoHelper()
	var list v1alpha1.TenantFanOutList
	Expect(kube.List(ctx, &list, client.MatchingLabels{v1alpha1.LabelSchedule: ts.Name})).To(Succeed())
	return list.Items
}
