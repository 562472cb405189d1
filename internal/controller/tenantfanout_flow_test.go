package controller_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func TestTenantFanOut(t *testing.T) {
	t.Parallel()
	tenants := newReadyTenants(t, 5)
	finishChildren(t, tenants)
	template := newReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		o.Spec.Parameters = []v1alpha1.Parameter{
			{Name: "mode", Default: new(v1alpha1.ParameterValue("slow")), Tag: new(true)},
			{Name: "days", Required: new(true)},
		}
	})
	made := followChildren(t, tenants)
	fanOut := newFanOut(t, template.Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Labels = map[string]string{v1alpha1.TagPrefix + "ticket": "4711", "other": "label"}
		o.Spec.Parameters = map[string]v1alpha1.ParameterValue{"days": "3"}
	})
	followCounters(t, fanOut)
	awaitFanOut(t, fanOut, v1alpha1.ConditionPlanned, isTrue, v1alpha1.ReasonSealed, "5 tenants are planned")
	awaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, isTrue, v1alpha1.ReasonCompleted, "5 of 5 tenants succeeded")

	g := gomega.NewWithT(t)
	g.Expect(fanOut.Status.Counts).To(gomega.HaveValue(gomega.Equal(counts(5, 0, 0))))
	g.Expect(conditionOf(fanOut.Status.Conditions, v1alpha1.ConditionPaused).Status).To(gomega.Equal(isFalse))
	g.Expect(fanOut.Status.CompletionTime).NotTo(gomega.BeNil())
	g.Expect(fanOut.Status.TemplateGeneration).To(gomega.Equal(template.Generation))
	g.Expect(made.of(fanOut, tenants)).To(gomega.HaveEach(1))

	child := get(t, g, childIn(tenants[0], fanOut))
	g.Expect(child.Labels).To(gomega.Equal(map[string]string{
		v1alpha1.LabelTenant: tenants[0].Name, v1alpha1.LabelTemplate: template.Name, v1alpha1.LabelQueue: "default",
		v1alpha1.LabelFanOut: fanOut.Name, v1alpha1.TagPrefix + "ticket": "4711", v1alpha1.TagPrefix + "mode": "slow",
	}))
	g.Expect(child.Spec).To(gomega.Equal(v1alpha1.TenantJobSpec{
		TenantRef:   v1alpha1.TenantReference{Name: tenants[0].Name},
		TemplateRef: v1alpha1.LabelReference{Name: template.Name},
		Parameters:  map[string]v1alpha1.ParameterValue{"days": "3"},
	}))
	g.Expect(metav1.GetControllerOf(child).UID).To(gomega.Equal(fanOut.UID))
	for _, r := range operator.requests() {
		g.Expect(r).NotTo(gomega.Equal("PATCH /apis/tenantry.dev/v1alpha1/namespaces/"+child.Namespace+"/tenantjobs/"+child.Name), "its labels are there from the start")
	}
	eventually(t, func(g gomega.Gomega) {
		g.Expect(toldOf(t, g, fanOut.UID)).To(gomega.ConsistOf("Normal Sealed", "Normal Completed"))
	})
}

// TestTenantFanOutIsDeleted: everything that was made for it goes with it.
func TestTenantFanOutIsDeleted(t *testing.T) {
	t.Parallel()
	tenants := newReadyTenants(t, 2)
	fanOut := newFanOut(t, newReadyTemplate(t, nil).Name, tenants, nil)
	stays, goes := awaitRunningPod(t, childIn(tenants[0], fanOut)), awaitRunningPod(t, childIn(tenants[1], fanOut))
	ledger := ledgerOf(fanOut)
	template, name := fanOut.Spec.TemplateRef.Name, fanOut.Name
	lingers := patch(t, childIn(tenants[0], fanOut), func(o *v1alpha1.TenantJob) { o.Finalizers = []string{"test.example.com/lingers"} })
	remove(t, fanOut)
	awaitGone(t, ledger)
	awaitGone(t, childIn(tenants[1], fanOut))
	awaitGone(t, goes)
	eventually(t, func(g gomega.Gomega) { g.Expect(get(t, g, lingers).DeletionTimestamp).NotTo(gomega.BeNil()) })
	// The name can be used again at once, and what is left of the first one is waited for.
	again := newFanOut(t, template, tenants, func(o *v1alpha1.TenantFanOut) { o.Name = name })
	pod := awaitRunningPod(t, childIn(tenants[1], again))
	awaitCounts(t, again, v1alpha1.FanOutCounts{Total: 2, Waiting: 1, Running: 1})
	endPod(t, pod, corev1.PodSucceeded)
	awaitCounts(t, again, v1alpha1.FanOutCounts{Total: 2, Waiting: 1, Succeeded: 1})
	patch(t, lingers, func(o *v1alpha1.TenantJob) { o.Finalizers = nil })
	awaitGone(t, stays)
	eventually(t, func(g gomega.Gomega) {
		child := get(t, g, childIn(tenants[0], again))
		g.Expect(metav1.IsControlledBy(child, again)).To(gomega.BeTrue())
	})
	finish(t, childIn(tenants[0], again), corev1.PodSucceeded)
	awaitFanOut(t, again, v1alpha1.ConditionSucceeded, isTrue, v1alpha1.ReasonCompleted, "2 of 2")
}

// TestTenantFanOutFailures: some fail, some are skipped, and who and why can be read in the status.
func TestTenantFanOutFailures(t *testing.T) {
	t.Parallel()
	tenants := newReadyTenants(t, 4)
	succeeds, fails, suspended, replaced := tenants[0], tenants[1], tenants[2], tenants[3]
	patch(t, suspended, suspend)
	awaitCondition(t, suspended, v1alpha1.ConditionSuspended, isTrue, v1alpha1.ReasonSuspended, "")
	finishAll(t, succeeds)
	finishAll(t, replaced)
	stranger := newRun(t, replaced, newReadyTemplate(t, nil), func(o *v1alpha1.TenantJob) { o.Name = "taken-name" })
	fanOut := newFanOut(t, newReadyTemplate(t, nil).Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Name = stranger.Name
		o.Spec.Tenants.Names = append(o.Spec.Tenants.Names, "nobody")
	})
	finish(t, childIn(fails, fanOut), corev1.PodFailed)
	awaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, isFalse, v1alpha1.ReasonSomeFailed, "1 of 5 tenants succeeded, 2 failed, 2 skipped")
	g := gomega.NewWithT(t)
	g.Expect(fanOut.Status.Counts).To(gomega.HaveValue(gomega.Equal(counts(1, 2, 2))))
	g.Expect(unsuccessful(fanOut)).To(gomega.Equal(map[string]string{
		fails.Name: v1alpha1.ReasonJobFailed, replaced.Name: v1alpha1.ReasonNameConflict,
		suspended.Name: v1alpha1.ReasonTenantSuspended, "nobody": v1alpha1.ReasonTenantDeleted,
	}))
	g.Expect(metav1.GetControllerOf(get(t, g, stranger))).To(gomega.BeNil())
	g.Expect(conditionOf(fanOut.Status.Conditions, v1alpha1.ConditionStalled).Reason).To(gomega.Equal(v1alpha1.ReasonSomeFailed))
	eventually(t, func(g gomega.Gomega) {
		g.Expect(toldOf(t, g, fanOut.UID)).To(gomega.ConsistOf("Normal Sealed", "Warning SomeFailed"))
	})

	// Retrying takes those that failed, and no others.
	remove(t, stranger)
	awaitGone(t, stranger)
	finishAll(t, fails)
	retry := newFanOut(t, fanOut.Spec.TemplateRef.Name, nil, func(o *v1alpha1.TenantFanOut) {
		o.Spec.Tenants.RetryOf = &v1alpha1.RetryOf{Name: fanOut.Name}
	})
	awaitFanOut(t, retry, v1alpha1.ConditionSucceeded, isTrue, v1alpha1.ReasonCompleted, "2 of 2 tenants succeeded")
	var planned []string
	for _, e := range planOf(t, retry).Entries {
		planned = append(planned, e.Tenant)
	}
	g.Expect(planned).To(gomega.ConsistOf(fails.Name, replaced.Name))
}

// TestTenantFanOutRetriesWhatIsGone: the children of a fan-out are gone, and it is still known who failed.
func TestTenantFanOutRetriesWhatIsGone(t *testing.T) {
	t.Parallel()
	tenants := newReadyTenants(t, 3)
	template := newReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.TTLSecondsAfterFinished = new(int32(0)) })
	fanOut := newFanOut(t, template.Name, tenants, nil)
	for i, phase := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed, corev1.PodFailed} {
		finish(t, childIn(tenants[i], fanOut), phase)
	}
	awaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, isFalse, v1alpha1.ReasonSomeFailed, "1 of 3 tenants succeeded, 2 failed")
	awaitGone(t, childIn(tenants[0], fanOut))
	for _, tenant := range tenants[1:] {
		remove(t, childIn(tenant, fanOut))
		awaitGone(t, childIn(tenant, fanOut))
	}
	finishChildren(t, tenants)
	retry := newFanOut(t, template.Name, nil, func(o *v1alpha1.TenantFanOut) { o.Spec.Tenants.RetryOf = &v1alpha1.RetryOf{Name: fanOut.Name} })
	awaitFanOut(t, retry, v1alpha1.ConditionSucceeded, isTrue, v1alpha1.ReasonCompleted, "2 of 2 tenants succeeded")
}

// TestTenantFanOutWaitsForItsSource: a fan-out that retries another waits until that one is planned.
func TestTenantFanOutWaitsForItsSource(t *testing.T) {
	t.Parallel()
	tenants := newReadyTenants(t, 1)
	template := newReadyTemplate(t, nil)
	name := fmt.Sprintf("source-%d", names.Add(1))
	retry := newFanOut(t, template.Name, nil, func(o *v1alpha1.TenantFanOut) {
		o.Spec.Tenants.RetryOf = &v1alpha1.RetryOf{Name: name, Outcomes: []v1alpha1.RetryOutcome{v1alpha1.RetrySkipped}}
	})
	awaitFanOut(t, retry, v1alpha1.ConditionPlanned, isFalse, v1alpha1.ReasonSourceGone, "there is no TenantFanOut "+name)
	gomega.NewWithT(t).Expect(conditionOf(retry.Status.Conditions, v1alpha1.ConditionStalled).Status).To(gomega.Equal(isTrue))
	newFanOut(t, template.Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Name = name
		o.Spec.Tenants.Names = append(o.Spec.Tenants.Names, "nobody")
	})
	awaitFanOut(t, retry, v1alpha1.ConditionSucceeded, isTrue, v1alpha1.ReasonCompleted, "0 of 1 tenant succeeded, 1 skipped")
}

// TestTenantFanOutWaitsForItsTemplate: what keeps a fan-out from being planned is said, and it goes on by itself.
func TestTenantFanOutWaitsForItsTemplate(t *testing.T) {
	t.Parallel()
	tenants := newReadyTenants(t, 1)
	finishChildren(t, tenants)
	name := fmt.Sprintf("late-%d", names.Add(1))
	fanOut := newFanOut(t, name, tenants, nil)
	awaitFanOut(t, fanOut, v1alpha1.ConditionPlanned, isFalse, v1alpha1.ReasonTemplateNotFound, "create it")
	awaitFanOut(t, fanOut, v1alpha1.ConditionStalled, isTrue, v1alpha1.ReasonTemplateNotFound, "")
	eventually(t, func(g gomega.Gomega) {
		g.Expect(toldOf(t, g, fanOut.UID)).To(gomega.ConsistOf("Warning TemplateNotFound"))
	})
	newTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Name = name })
	awaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, isTrue, v1alpha1.ReasonCompleted, "")
}

func TestTenantFanOutInvalidParameters(t *testing.T) {
	t.Parallel()
	tenants := newReadyTenants(t, 2)
	made := followChildren(t, tenants)
	fanOut := newFanOut(t, newReadyTemplate(t, nil).Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Spec.Parameters = map[string]v1alpha1.ParameterValue{"days": "3"}
	})
	awaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, isFalse, v1alpha1.ReasonSomeFailed, "2 failed")
	g := gomega.NewWithT(t)
	g.Expect(fanOut.Status.UnsuccessfulTenants[0].Reason).To(gomega.Equal(v1alpha1.ReasonInvalidParameters))
	g.Expect(fanOut.Status.UnsuccessfulTenants[0].Message).To(gomega.ContainSubstring("`parameters.days` must be left out"))
	g.Expect(made.of(fanOut, tenants)).To(gomega.HaveEach(0))
}

// TestTenantFanOutTTL: a fan-out goes when its time is over, and its children with it.
func TestTenantFanOutTTL(t *testing.T) {
	t.Parallel()
	tenants := newReadyTenants(t, 1)
	finishChildren(t, tenants)
	template := newReadyTemplate(t, nil)
	fanOut := newFanOut(t, template.Name, tenants, func(o *v1alpha1.TenantFanOut) { o.Spec.TTLSecondsAfterFinished = new(int32(0)) })
	awaitGone(t, fanOut)
	awaitGone(t, childIn(tenants[0], fanOut))
	kept := newFanOut(t, template.Name, tenants, func(o *v1alpha1.TenantFanOut) { o.Spec.TTLSecondsAfterFinished = new(int32(3600)) })
	awaitFanOut(t, kept, v1alpha1.ConditionSucceeded, isTrue, v1alpha1.ReasonCompleted, "")
	patch(t, kept, func(o *v1alpha1.TenantFanOut) { o.Spec.TTLSecondsAfterFinished = new(int32(1)) })
	awaitGone(t, kept)
}

// TestTenantFanOutSpread: each child has its time, and is made when that is near.
func TestTenantFanOutSpread(t *testing.T) {
	t.Parallel()
	tenants := newReadyTenants(t, 3)
	made := followChildren(t, tenants)
	tick := inAWhile(2 * time.Hour)
	fanOut := newFanOut(t, newReadyTemplate(t, nil).Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Annotations = map[string]string{v1alpha1.AnnotationScheduledTime: tick.Format(time.RFC3339)}
		o.Spec.SpreadSeconds = new(int32(3600))
	})
	awaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, unknown, v1alpha1.ReasonRunning, "")
	g := gomega.NewWithT(t)
	g.Expect(fanOut.Status.Counts).To(gomega.HaveValue(gomega.Equal(v1alpha1.FanOutCounts{Total: 3, Waiting: 3})))
	for _, e := range planOf(t, fanOut).Entries {
		g.Expect(e.NotBefore).To(gomega.And(gomega.BeTemporally(">=", tick), gomega.BeTemporally("<", tick.Add(time.Hour))))
	}
	g.Expect(made.of(fanOut, tenants)).To(gomega.HaveEach(0))

	soon := newFanOut(t, fanOut.Spec.TemplateRef.Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Annotations = map[string]string{v1alpha1.AnnotationScheduledTime: inAWhile(20 * time.Second).Format(time.RFC3339)}
		o.Spec.SpreadSeconds = new(int32(30))
	})
	for _, tenant := range tenants {
		child := childIn(tenant, soon)
		eventually(t, func(g gomega.Gomega) { get(t, g, child) })
		awaitSaid(t, child, unknown, v1alpha1.ReasonNotYetDue, "")
		i, _ := planOf(t, soon).Find(tenant.Name)
		g.Expect(child.Spec.NotBeforeTime.Time).To(gomega.BeTemporally("==", planOf(t, soon).Entries[i].NotBefore))
		g.Expect(child.Annotations).To(gomega.HaveKeyWithValue(v1alpha1.AnnotationScheduledTime, soon.Annotations[v1alpha1.AnnotationScheduledTime]))
	}
}

// TestTenantFanOutLedgerIsLost: without its ledger nobody knows who has run, so nothing is made again.
func TestTenantFanOutLedgerIsLost(t *testing.T) {
	t.Parallel()
	tenants := newReadyTenants(t, 2)
	made := followChildren(t, tenants)
	fanOut := newFanOut(t, newReadyTemplate(t, nil).Name, tenants, nil)
	awaitRunningPod(t, childIn(tenants[0], fanOut))
	awaitRunningPod(t, childIn(tenants[1], fanOut))
	awaitFanOut(t, fanOut, v1alpha1.ConditionPlanned, isTrue, v1alpha1.ReasonSealed, "")
	remove(t, ledgerOf(fanOut))
	remove(t, childIn(tenants[0], fanOut))
	awaitFanOut(t, fanOut, v1alpha1.ConditionStalled, isTrue, v1alpha1.ReasonLedgerLost, "its ledger is gone")
	awaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, unknown, v1alpha1.ReasonLedgerLost, "")
	g := gomega.NewWithT(t)
	g.Expect(made.of(fanOut, tenants)).To(gomega.HaveEach(1))
	eventually(t, func(g gomega.Gomega) {
		g.Expect(toldOf(t, g, fanOut.UID)).To(gomega.ContainElement("Warning LedgerLost"))
	})
}

// TestTenantFanOutPauses: a failure beyond the budget of a wave pauses it with nobody of the next one started; suspending
// and resuming accepts the failure.
func TestTenantFanOutPauses(t *testing.T) {
	t.Parallel()
	tenants := newLabelledTenants(t, map[string]string{"canary": "true"}, nil, nil, nil)
	canary := tenants[0]
	template := newReadyTemplate(t, nil)
	made := followChildren(t, tenants)
	none := intstr.FromInt32(0)
	fanOut := newFanOut(t, template.Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Spec.Strategy = &v1alpha1.FanOutStrategy{Waves: []v1alpha1.Wave{
			{Name: "canary", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"canary": "true"}}, MaxFailures: &none},
		}}
	})
	pod := awaitRunningPod(t, childIn(canary, fanOut))
	// Whoever comes later runs what the canary ran.
	patch(t, template, func(o *v1alpha1.TenantJobTemplate) { podSpec(o).Containers[0].Image = "example.com/another" })
	endPod(t, pod, corev1.PodFailed)
	awaitFanOut(t, fanOut, v1alpha1.ConditionPaused, isTrue, v1alpha1.ReasonFailureBudgetExceeded, "wave canary failed")
	g := gomega.NewWithT(t)
	g.Expect(fanOut.Status.Wave).To(gomega.Equal("canary"))
	g.Expect(fanOut.Status.Counts).To(gomega.HaveValue(gomega.Equal(v1alpha1.FanOutCounts{Total: 4, Waiting: 3, Failed: 1})))
	g.Expect(made.of(fanOut, tenants)).To(gomega.Equal([]int{1, 0, 0, 0}))

	patch(t, fanOut, func(o *v1alpha1.TenantFanOut) { o.Spec.Suspend = new(true) })
	awaitFanOut(t, fanOut, v1alpha1.ConditionPaused, isTrue, v1alpha1.ReasonSuspended, "accepted and no longer spending the failure budget: 1")
	patch(t, fanOut, func(o *v1alpha1.TenantFanOut) { o.Spec.Suspend = nil })
	for _, tenant := range tenants[1:] {
		pod := awaitRunningPod(t, childIn(tenant, fanOut))
		g.Expect(pod.Spec.Containers[0].Image).To(gomega.Equal("example.com/app"))
		endPod(t, pod, corev1.PodSucceeded)
	}
	awaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, isFalse, v1alpha1.ReasonTooManyFailed, "3 of 4 tenants succeeded, 1 failed")
	eventually(t, func(g gomega.Gomega) {
		g.Expect(toldOf(t, g, fanOut.UID)).To(gomega.ConsistOf("Normal Sealed", "Normal WaveOpened", "Warning FailureBudgetExceeded",
			"Normal Suspended", "Normal Resumed", "Warning TooManyFailed"))
	})
}

// TestTenantFanOutMaxConcurrent: no more run at once than it says.
func TestTenantFanOutMaxConcurrent(t *testing.T) {
	t.Parallel()
	tenants := newReadyTenants(t, 4)
	fanOut := newFanOut(t, newReadyTemplate(t, nil).Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Spec.Strategy = &v1alpha1.FanOutStrategy{MaxConcurrent: new(intstr.FromInt32(1))}
	})
	followCounters(t, fanOut)
	for range tenants {
		var running corev1.PodList
		eventually(t, func(g gomega.Gomega) {
			running.Items = nil
			for _, tenant := range tenants {
				var pods corev1.PodList
				g.Expect(admin.List(t.Context(), &pods, client.InNamespace(tenant.NamespaceName()))).To(gomega.Succeed())
				for _, pod := range pods.Items {
					if pod.Status.Phase == corev1.PodRunning || pod.Status.Phase == corev1.PodPending {
						running.Items = append(running.Items, pod)
					}
				}
			}
			g.Expect(len(running.Items)).To(gomega.BeNumerically("<=", 1))
			g.Expect(running.Items).To(gomega.HaveLen(1))
			g.Expect(running.Items[0].Status.Phase).To(gomega.Equal(corev1.PodRunning))
		})
		endPod(t, &running.Items[0], corev1.PodSucceeded)
	}
	awaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, isTrue, v1alpha1.ReasonCompleted, "4 of 4")
}

// TestTenantFanOutBudget: failures beyond the budget stop all starts; what runs may finish and counts; raising the budget
// resumes it.
func TestTenantFanOutBudget(t *testing.T) {
	t.Parallel()
	tenants := newReadyTenants(t, 6)
	fanOut := newFanOut(t, newReadyTemplate(t, nil).Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Spec.Strategy = &v1alpha1.FanOutStrategy{MaxConcurrent: new(intstr.FromInt32(2)), MaxFailures: new(intstr.FromInt32(1))}
	})
	followCounters(t, fanOut)
	// running waits until so many pods run.
	running := func(n int) []corev1.Pod {
		t.Helper()
		var found []corev1.Pod
		eventually(t, func(g gomega.Gomega) {
			found = nil
			for _, tenant := range tenants {
				var pods corev1.PodList
				g.Expect(admin.List(t.Context(), &pods, client.InNamespace(tenant.NamespaceName()))).To(gomega.Succeed())
				for _, pod := range pods.Items {
					if pod.Status.Phase == corev1.PodRunning {
						found = append(found, pod)
					}
				}
			}
			g.Expect(found).To(gomega.HaveLen(n))
		})
		return found
	}
	endPod(t, &running(2)[0], corev1.PodFailed)
	awaitCounts(t, fanOut, v1alpha1.FanOutCounts{Total: 6, Waiting: 3, Running: 2, Failed: 1})
	endPod(t, &running(2)[0], corev1.PodFailed)
	awaitFanOut(t, fanOut, v1alpha1.ConditionPaused, isTrue, v1alpha1.ReasonFailureBudgetExceeded, "raise `spec.strategy.maxFailures`")
	endPod(t, &running(1)[0], corev1.PodSucceeded)
	awaitCounts(t, fanOut, v1alpha1.FanOutCounts{Total: 6, Waiting: 3, Succeeded: 1, Failed: 2})
	awaitFanOut(t, fanOut, v1alpha1.ConditionStalled, isTrue, v1alpha1.ReasonFailureBudgetExceeded, "")
	running(0)
	patch(t, fanOut, func(o *v1alpha1.TenantFanOut) { o.Spec.Strategy.MaxFailures = new(intstr.FromString("50%")) })
	finishChildren(t, tenants)
	awaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, isTrue, v1alpha1.ReasonCompletedWithFailures, "4 of 6 tenants succeeded, 2 failed, within the failure budget")
}
