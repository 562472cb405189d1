package fanouts_test

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
	"github.com/tenantry/tenantry/internal/conditions"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

func TestTenantFanOut(t *testing.T) {
	t.Parallel()
	tenants := NewReadyTenants(t, 5)
	FinishChildren(t, tenants)
	template := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		o.Spec.Parameters = []v1alpha1.Parameter{
			{Name: "mode", Default: new(v1alpha1.ParameterValue("slow")), Tag: new(true)},
			{Name: "days", Required: new(true)},
		}
	})
	made := FollowChildren(t, tenants)
	fanOut := NewFanOut(t, template.Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Labels = map[string]string{v1alpha1.TagPrefix + "ticket": "4711", "other": "label"}
		o.Spec.Parameters = map[string]v1alpha1.ParameterValue{"days": "3"}
	})
	FollowCounters(t, fanOut)
	AwaitFanOut(t, fanOut, v1alpha1.ConditionPlanned, IsTrue, v1alpha1.ReasonSealed, "5 tenants are planned")
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "5 of 5 tenants succeeded")

	g := gomega.NewWithT(t)
	g.Expect(fanOut.Status.Counts).To(gomega.HaveValue(gomega.Equal(Counts(5, 0, 0))))
	g.Expect(conditions.Get(fanOut.Status.Conditions, v1alpha1.ConditionPaused).Status).To(gomega.Equal(IsFalse))
	g.Expect(fanOut.Status.CompletionTime).NotTo(gomega.BeNil())
	g.Expect(fanOut.Status.TemplateGeneration).To(gomega.Equal(template.Generation))
	g.Expect(made.Of(fanOut, tenants)).To(gomega.HaveEach(1))

	child := Get(t, g, ChildIn(tenants[0], fanOut))
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
	for _, r := range Operator.Requests() {
		g.Expect(r).NotTo(gomega.Equal("PATCH /apis/tenantry.dev/v1alpha1/namespaces/"+child.Namespace+"/tenantjobs/"+child.Name), "its labels are there from the start")
	}
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(EventReasons(t, g, fanOut.UID)).To(gomega.ConsistOf("Normal Sealed", "Normal Completed"))
	})
}

// TestTenantFanOutIsDeleted: everything that was made for it goes with it.
func TestTenantFanOutIsDeleted(t *testing.T) {
	t.Parallel()
	tenants := NewReadyTenants(t, 2)
	fanOut := NewFanOut(t, NewReadyTemplate(t, nil).Name, tenants, nil)
	stays, goes := AwaitRunningPod(t, ChildIn(tenants[0], fanOut)), AwaitRunningPod(t, ChildIn(tenants[1], fanOut))
	ledger := LedgerOf(fanOut)
	template, name := fanOut.Spec.TemplateRef.Name, fanOut.Name
	lingers := Patch(t, ChildIn(tenants[0], fanOut), func(o *v1alpha1.TenantJob) { o.Finalizers = []string{"test.example.com/lingers"} })
	Remove(t, fanOut)
	AwaitGone(t, ledger)
	AwaitGone(t, ChildIn(tenants[1], fanOut))
	AwaitGone(t, goes)
	Eventually(t, func(g gomega.Gomega) { g.Expect(Get(t, g, lingers).DeletionTimestamp).NotTo(gomega.BeNil()) })
	// The name can be used again at once, and what is left of the first one is waited for.
	again := NewFanOut(t, template, tenants, func(o *v1alpha1.TenantFanOut) { o.Name = name })
	pod := AwaitRunningPod(t, ChildIn(tenants[1], again))
	AwaitCounts(t, again, v1alpha1.FanOutCounts{Total: 2, Waiting: 1, Running: 1})
	EndPod(t, pod, corev1.PodSucceeded)
	AwaitCounts(t, again, v1alpha1.FanOutCounts{Total: 2, Waiting: 1, Succeeded: 1})
	Patch(t, lingers, func(o *v1alpha1.TenantJob) { o.Finalizers = nil })
	AwaitGone(t, stays)
	Eventually(t, func(g gomega.Gomega) {
		child := Get(t, g, ChildIn(tenants[0], again))
		g.Expect(metav1.IsControlledBy(child, again)).To(gomega.BeTrue())
	})
	Finish(t, ChildIn(tenants[0], again), corev1.PodSucceeded)
	AwaitFanOut(t, again, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "2 of 2")
}

// TestTenantFanOutFailures: some fail, some are skipped, and who and why can be read in the status.
func TestTenantFanOutFailures(t *testing.T) {
	t.Parallel()
	tenants := NewReadyTenants(t, 4)
	succeeds, fails, suspended, replaced := tenants[0], tenants[1], tenants[2], tenants[3]
	Patch(t, suspended, Suspend)
	AwaitCondition(t, suspended, v1alpha1.ConditionSuspended, IsTrue, v1alpha1.ReasonSuspended, "")
	FinishAll(t, succeeds)
	FinishAll(t, replaced)
	stranger := NewRun(t, replaced, NewReadyTemplate(t, nil), func(o *v1alpha1.TenantJob) { o.Name = "taken-name" })
	fanOut := NewFanOut(t, NewReadyTemplate(t, nil).Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Name = stranger.Name
		o.Spec.Tenants.Names = append(o.Spec.Tenants.Names, "nobody")
	})
	Finish(t, ChildIn(fails, fanOut), corev1.PodFailed)
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsFalse, v1alpha1.ReasonSomeFailed, "1 of 5 tenants succeeded, 2 failed, 2 skipped")
	g := gomega.NewWithT(t)
	g.Expect(fanOut.Status.Counts).To(gomega.HaveValue(gomega.Equal(Counts(1, 2, 2))))
	g.Expect(Unsuccessful(fanOut)).To(gomega.Equal(map[string]string{
		fails.Name: v1alpha1.ReasonJobFailed, replaced.Name: v1alpha1.ReasonNameConflict,
		suspended.Name: v1alpha1.ReasonTenantSuspended, "nobody": v1alpha1.ReasonTenantDeleted,
	}))
	g.Expect(metav1.GetControllerOf(Get(t, g, stranger))).To(gomega.BeNil())
	g.Expect(conditions.Get(fanOut.Status.Conditions, v1alpha1.ConditionStalled).Reason).To(gomega.Equal(v1alpha1.ReasonSomeFailed))
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(EventReasons(t, g, fanOut.UID)).To(gomega.ConsistOf("Normal Sealed", "Warning SomeFailed"))
	})

	// Retrying takes those that failed, and no others.
	Remove(t, stranger)
	AwaitGone(t, stranger)
	FinishAll(t, fails)
	retry := NewFanOut(t, fanOut.Spec.TemplateRef.Name, nil, func(o *v1alpha1.TenantFanOut) {
		o.Spec.Tenants.RetryOf = &v1alpha1.RetryOf{Name: fanOut.Name}
	})
	AwaitFanOut(t, retry, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "2 of 2 tenants succeeded")
	var planned []string
	for _, e := range PlanOf(t, retry).Entries {
		planned = append(planned, e.Tenant)
	}
	g.Expect(planned).To(gomega.ConsistOf(fails.Name, replaced.Name))
}

// TestTenantFanOutRetriesWhatIsGone: the children of a fan-out are gone, and it is still known who failed.
func TestTenantFanOutRetriesWhatIsGone(t *testing.T) {
	t.Parallel()
	tenants := NewReadyTenants(t, 3)
	template := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.TTLSecondsAfterFinished = new(int32(0)) })
	fanOut := NewFanOut(t, template.Name, tenants, nil)
	for i, phase := range []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed, corev1.PodFailed} {
		Finish(t, ChildIn(tenants[i], fanOut), phase)
	}
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsFalse, v1alpha1.ReasonSomeFailed, "1 of 3 tenants succeeded, 2 failed")
	AwaitGone(t, ChildIn(tenants[0], fanOut))
	for _, tenant := range tenants[1:] {
		Remove(t, ChildIn(tenant, fanOut))
		AwaitGone(t, ChildIn(tenant, fanOut))
	}
	FinishChildren(t, tenants)
	retry := NewFanOut(t, template.Name, nil, func(o *v1alpha1.TenantFanOut) { o.Spec.Tenants.RetryOf = &v1alpha1.RetryOf{Name: fanOut.Name} })
	AwaitFanOut(t, retry, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "2 of 2 tenants succeeded")
}

// TestTenantFanOutWaitsForItsSource: a fan-out that retries another waits until there is one.
func TestTenantFanOutWaitsForItsSource(t *testing.T) {
	t.Parallel()
	tenants := NewReadyTenants(t, 1)
	template := NewReadyTemplate(t, nil)
	name := fmt.Sprintf("source-%d", Serial.Add(1))
	retry := NewFanOut(t, template.Name, nil, func(o *v1alpha1.TenantFanOut) {
		o.Spec.Tenants.RetryOf = &v1alpha1.RetryOf{Name: name, Outcomes: []v1alpha1.RetryOutcome{v1alpha1.RetrySkipped}}
	})
	AwaitFanOut(t, retry, v1alpha1.ConditionPlanned, IsFalse, v1alpha1.ReasonSourceGone, "there is no TenantFanOut "+name)
	gomega.NewWithT(t).Expect(conditions.Get(retry.Status.Conditions, v1alpha1.ConditionStalled).Status).To(gomega.Equal(IsTrue))
	FinishChildren(t, tenants)
	NewFanOut(t, template.Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Name = name
		o.Spec.Tenants.Names = append(o.Spec.Tenants.Names, "nobody")
	})
	AwaitFanOut(t, retry, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "0 of 1 tenant succeeded, 1 skipped")
}

// TestTenantFanOutWaitsForItsTemplate: what keeps a fan-out from being planned is said, and it goes on by itself.
func TestTenantFanOutWaitsForItsTemplate(t *testing.T) {
	t.Parallel()
	tenants := NewReadyTenants(t, 1)
	FinishChildren(t, tenants)
	name := fmt.Sprintf("late-%d", Serial.Add(1))
	fanOut := NewFanOut(t, name, tenants, nil)
	AwaitFanOut(t, fanOut, v1alpha1.ConditionPlanned, IsFalse, v1alpha1.ReasonTemplateNotFound, "create it")
	AwaitFanOut(t, fanOut, v1alpha1.ConditionStalled, IsTrue, v1alpha1.ReasonTemplateNotFound, "")
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(EventReasons(t, g, fanOut.UID)).To(gomega.ConsistOf("Warning TemplateNotFound"))
	})
	NewTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Name = name })
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "")
}

func TestTenantFanOutInvalidParameters(t *testing.T) {
	t.Parallel()
	tenants := NewReadyTenants(t, 2)
	made := FollowChildren(t, tenants)
	fanOut := NewFanOut(t, NewReadyTemplate(t, nil).Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Spec.Parameters = map[string]v1alpha1.ParameterValue{"days": "3"}
	})
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsFalse, v1alpha1.ReasonSomeFailed, "2 failed")
	g := gomega.NewWithT(t)
	g.Expect(fanOut.Status.UnsuccessfulTenants[0].Reason).To(gomega.Equal(v1alpha1.ReasonInvalidParameters))
	g.Expect(fanOut.Status.UnsuccessfulTenants[0].Message).To(gomega.ContainSubstring("`parameters.days` must be left out"))
	g.Expect(made.Of(fanOut, tenants)).To(gomega.HaveEach(0))
}

// TestTenantFanOutTTL: a fan-out goes when its time is over, and its children with it.
func TestTenantFanOutTTL(t *testing.T) {
	t.Parallel()
	tenants := NewReadyTenants(t, 1)
	FinishChildren(t, tenants)
	template := NewReadyTemplate(t, nil)
	fanOut := NewFanOut(t, template.Name, tenants, func(o *v1alpha1.TenantFanOut) { o.Spec.TTLSecondsAfterFinished = new(int32(0)) })
	AwaitGone(t, fanOut)
	AwaitGone(t, ChildIn(tenants[0], fanOut))
	kept := NewFanOut(t, template.Name, tenants, func(o *v1alpha1.TenantFanOut) { o.Spec.TTLSecondsAfterFinished = new(int32(3600)) })
	AwaitFanOut(t, kept, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "")
	Patch(t, kept, func(o *v1alpha1.TenantFanOut) { o.Spec.TTLSecondsAfterFinished = new(int32(1)) })
	AwaitGone(t, kept)
}

// TestTenantFanOutSpread: each child has its time, and is made when that is near.
func TestTenantFanOutSpread(t *testing.T) {
	t.Parallel()
	tenants := NewReadyTenants(t, 3)
	made := FollowChildren(t, tenants)
	tick := InAWhile(2 * time.Hour)
	fanOut := NewFanOut(t, NewReadyTemplate(t, nil).Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Annotations = map[string]string{v1alpha1.AnnotationScheduledTime: tick.Format(time.RFC3339)}
		o.Spec.SpreadSeconds = new(int32(3600))
	})
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, Unknown, v1alpha1.ReasonRunning, "")
	g := gomega.NewWithT(t)
	g.Expect(fanOut.Status.Counts).To(gomega.HaveValue(gomega.Equal(v1alpha1.FanOutCounts{Total: 3, Waiting: 3})))
	for _, e := range PlanOf(t, fanOut).Entries {
		g.Expect(e.NotBefore).To(gomega.And(gomega.BeTemporally(">=", tick), gomega.BeTemporally("<", tick.Add(time.Hour))))
	}
	g.Expect(made.Of(fanOut, tenants)).To(gomega.HaveEach(0))
}

// TestTenantFanOutSpreadIsNear: the children whose time is near are made, and wait for it. By the operator's clock it does not come.
func TestTenantFanOutSpreadIsNear(t *testing.T) {
	tenants := NewReadyTenants(t, 3)
	template := NewReadyTemplate(t, nil)
	WithoutOperator(t)
	a := &OtherOperator{Clock: &ShiftedClock{}}
	tick := InAWhile(2 * time.Hour)
	a.Clock.StopAt(tick.Add(-20 * time.Second))
	a.Start(t)
	g := gomega.NewWithT(t)
	soon := NewFanOut(t, template.Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Annotations = map[string]string{v1alpha1.AnnotationScheduledTime: tick.Format(time.RFC3339)}
		o.Spec.SpreadSeconds = new(int32(30))
	})
	for _, tenant := range tenants {
		child := ChildIn(tenant, soon)
		Eventually(t, func(g gomega.Gomega) { Get(t, g, child) })
		AwaitStatus(t, child, Unknown, v1alpha1.ReasonNotYetDue, "")
		i, _ := PlanOf(t, soon).Find(tenant.Name)
		g.Expect(child.Spec.NotBeforeTime.Time).To(gomega.BeTemporally("==", PlanOf(t, soon).Entries[i].NotBefore))
		g.Expect(child.Annotations).To(gomega.HaveKeyWithValue(v1alpha1.AnnotationScheduledTime, soon.Annotations[v1alpha1.AnnotationScheduledTime]))
	}
}

// TestTenantFanOutLedgerIsLost: without its ledger nobody knows who has run, so nothing is made again.
func TestTenantFanOutLedgerIsLost(t *testing.T) {
	t.Parallel()
	tenants := NewReadyTenants(t, 2)
	made := FollowChildren(t, tenants)
	fanOut := NewFanOut(t, NewReadyTemplate(t, nil).Name, tenants, nil)
	AwaitRunningPod(t, ChildIn(tenants[0], fanOut))
	AwaitRunningPod(t, ChildIn(tenants[1], fanOut))
	AwaitFanOut(t, fanOut, v1alpha1.ConditionPlanned, IsTrue, v1alpha1.ReasonSealed, "")
	Remove(t, LedgerOf(fanOut))
	Remove(t, ChildIn(tenants[0], fanOut))
	AwaitFanOut(t, fanOut, v1alpha1.ConditionStalled, IsTrue, v1alpha1.ReasonLedgerLost, "its ledger is gone")
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, Unknown, v1alpha1.ReasonLedgerLost, "")
	g := gomega.NewWithT(t)
	g.Expect(made.Of(fanOut, tenants)).To(gomega.HaveEach(1))
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(EventReasons(t, g, fanOut.UID)).To(gomega.ContainElement("Warning LedgerLost"))
	})
}

// TestTenantFanOutPauses: a failure beyond the budget of a wave pauses it with nobody of the next one started; suspending
// and resuming accepts the failure.
func TestTenantFanOutPauses(t *testing.T) {
	t.Parallel()
	tenants := NewLabelledTenants(t, map[string]string{"canary": "true"}, nil, nil, nil)
	canary := tenants[0]
	template := NewReadyTemplate(t, nil)
	made := FollowChildren(t, tenants)
	none := intstr.FromInt32(0)
	fanOut := NewFanOut(t, template.Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Spec.Strategy = &v1alpha1.FanOutStrategy{Waves: []v1alpha1.Wave{
			{Name: "canary", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"canary": "true"}}, MaxFailures: &none},
		}}
	})
	pod := AwaitRunningPod(t, ChildIn(canary, fanOut))
	// Whoever comes later runs what the canary ran.
	Patch(t, template, func(o *v1alpha1.TenantJobTemplate) { PodSpec(o).Containers[0].Image = "example.com/another" })
	EndPod(t, pod, corev1.PodFailed)
	AwaitFanOut(t, fanOut, v1alpha1.ConditionPaused, IsTrue, v1alpha1.ReasonFailureBudgetExceeded, "wave canary failed")
	g := gomega.NewWithT(t)
	g.Expect(fanOut.Status.Wave).To(gomega.Equal("canary"))
	g.Expect(fanOut.Status.Counts).To(gomega.HaveValue(gomega.Equal(v1alpha1.FanOutCounts{Total: 4, Waiting: 3, Failed: 1})))
	g.Expect(made.Of(fanOut, tenants)).To(gomega.Equal([]int{1, 0, 0, 0}))

	Patch(t, fanOut, func(o *v1alpha1.TenantFanOut) { o.Spec.Suspend = new(true) })
	AwaitFanOut(t, fanOut, v1alpha1.ConditionPaused, IsTrue, v1alpha1.ReasonSuspended, "accepted and no longer spending the failure budget: 1")
	Patch(t, fanOut, func(o *v1alpha1.TenantFanOut) { o.Spec.Suspend = nil })
	for _, tenant := range tenants[1:] {
		pod := AwaitRunningPod(t, ChildIn(tenant, fanOut))
		g.Expect(pod.Spec.Containers[0].Image).To(gomega.Equal("example.com/app"))
		EndPod(t, pod, corev1.PodSucceeded)
	}
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsFalse, v1alpha1.ReasonTooManyFailed, "3 of 4 tenants succeeded, 1 failed")
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(EventReasons(t, g, fanOut.UID)).To(gomega.ConsistOf("Normal Sealed", "Normal WaveOpened", "Warning FailureBudgetExceeded",
			"Normal Suspended", "Normal Resumed", "Warning TooManyFailed"))
	})
}

// TestTenantFanOutMaxConcurrent: no more run at once than it says.
func TestTenantFanOutMaxConcurrent(t *testing.T) {
	t.Parallel()
	tenants := NewReadyTenants(t, 4)
	fanOut := NewFanOut(t, NewReadyTemplate(t, nil).Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Spec.Strategy = &v1alpha1.FanOutStrategy{MaxConcurrent: new(intstr.FromInt32(1))}
	})
	FollowCounters(t, fanOut)
	for range tenants {
		var running corev1.PodList
		Eventually(t, func(g gomega.Gomega) {
			running.Items = nil
			for _, tenant := range tenants {
				var pods corev1.PodList
				g.Expect(Admin.List(t.Context(), &pods, client.InNamespace(tenant.NamespaceName()))).To(gomega.Succeed())
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
		EndPod(t, &running.Items[0], corev1.PodSucceeded)
	}
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "4 of 4")
}

// TestTenantFanOutBudget: failures beyond the budget stop all starts; what runs may finish and counts; raising the budget
// resumes it.
func TestTenantFanOutBudget(t *testing.T) {
	t.Parallel()
	tenants := NewReadyTenants(t, 6)
	fanOut := NewFanOut(t, NewReadyTemplate(t, nil).Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Spec.Strategy = &v1alpha1.FanOutStrategy{MaxConcurrent: new(intstr.FromInt32(2)), MaxFailures: new(intstr.FromInt32(1))}
	})
	FollowCounters(t, fanOut)
	// running waits until so many pods run.
	running := func(n int) []corev1.Pod {
		t.Helper()
		var found []corev1.Pod
		Eventually(t, func(g gomega.Gomega) {
			found = nil
			for _, tenant := range tenants {
				var pods corev1.PodList
				g.Expect(Admin.List(t.Context(), &pods, client.InNamespace(tenant.NamespaceName()))).To(gomega.Succeed())
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
	EndPod(t, &running(2)[0], corev1.PodFailed)
	AwaitCounts(t, fanOut, v1alpha1.FanOutCounts{Total: 6, Waiting: 3, Running: 2, Failed: 1})
	EndPod(t, &running(2)[0], corev1.PodFailed)
	AwaitFanOut(t, fanOut, v1alpha1.ConditionPaused, IsTrue, v1alpha1.ReasonFailureBudgetExceeded, "raise `spec.strategy.maxFailures`")
	EndPod(t, &running(1)[0], corev1.PodSucceeded)
	AwaitCounts(t, fanOut, v1alpha1.FanOutCounts{Total: 6, Waiting: 3, Succeeded: 1, Failed: 2})
	AwaitFanOut(t, fanOut, v1alpha1.ConditionStalled, IsTrue, v1alpha1.ReasonFailureBudgetExceeded, "")
	running(0)
	Patch(t, fanOut, func(o *v1alpha1.TenantFanOut) { o.Spec.Strategy.MaxFailures = new(intstr.FromString("50%")) })
	FinishChildren(t, tenants)
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompletedWithFailures, "4 of 6 tenants succeeded, 2 failed, within the failure budget")
}
