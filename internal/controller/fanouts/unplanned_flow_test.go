package fanouts_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// TestTenantFanOutsWithoutAPlanDoNotPileUp: of fan-outs whose template is missing, only those are left for when it comes that would
// run if the operator had been away.
func TestTenantFanOutsWithoutAPlanDoNotPileUp(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*v1alpha1.TenantScheduleSpec)
		// ends are the reasons with which the fan-outs of four ticks end, the oldest first, before the template comes.
		ends [4]string
	}{
		"Forbid": {func(s *v1alpha1.TenantScheduleSpec) { s.CatchUpLimit = new(int32(100)) }, [4]string{"Superseded", "Superseded", "Superseded", ""}},
		"Allow":  {func(s *v1alpha1.TenantScheduleSpec) { s.ConcurrencyPolicy = v1alpha1.ConcurrencyAllow }, [4]string{"Superseded", "Superseded", "Superseded", ""}},
		"Allow, two may run late": {func(s *v1alpha1.TenantScheduleSpec) {
			s.ConcurrencyPolicy, s.CatchUpLimit = v1alpha1.ConcurrencyAllow, new(int32(2))
		}, [4]string{"Superseded", "Superseded", "", ""}},
		"a deadline": {func(s *v1alpha1.TenantScheduleSpec) {
			s.ConcurrencyPolicy, s.CatchUpLimit, s.StartingDeadlineSeconds = v1alpha1.ConcurrencyAllow, new(int32(100)), new(int32(3*3600+1800))
		}, [4]string{"Expired", "", "", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenants := NewReadyTenants(t, 1)
			ts := newSuspendedSchedule(t, func(o *v1alpha1.TenantSchedule) { tc.change(&o.Spec) })
			template := fmt.Sprintf("later-%d", Serial.Add(1))
			newest := time.Now().Add(-time.Hour).UTC().Truncate(time.Minute)
			var fanOuts []*v1alpha1.TenantFanOut
			for i := range 4 {
				fanOut := newTick(t, ts, template, tenants, newest.Add(time.Duration(i-3)*time.Hour), nil)
				if tc.ends[i] != v1alpha1.ReasonExpired {
					AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, Unknown, v1alpha1.ReasonTemplateNotFound, template)
				}
				fanOuts = append(fanOuts, fanOut)
			}
			for i, reason := range tc.ends {
				if reason == "" {
					AwaitFanOut(t, fanOuts[i], v1alpha1.ConditionSucceeded, Unknown, v1alpha1.ReasonTemplateNotFound, template)
					continue
				}
				AwaitFanOut(t, fanOuts[i], v1alpha1.ConditionSucceeded, IsFalse, reason, "")
				if reason != v1alpha1.ReasonExpired {
					AwaitFanOut(t, fanOuts[i], v1alpha1.ConditionPlanned, IsFalse, v1alpha1.ReasonTemplateNotFound, template)
				}
				gomega.NewWithT(t).Expect(fanOuts[i].Status.CompletionTime).NotTo(gomega.BeNil())
			}
			made := FollowChildren(t, tenants)
			FinishChildren(t, tenants)
			NewTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Name = template })
			for i, reason := range tc.ends {
				if reason == "" {
					AwaitFanOut(t, fanOuts[i], v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "")
					continue
				}
				// Nothing brings it back, an edit neither.
				Patch(t, fanOuts[i], func(o *v1alpha1.TenantFanOut) { o.Spec.TTLSecondsAfterFinished = new(int32(1e6)) })
				AwaitFanOut(t, fanOuts[i], v1alpha1.ConditionSucceeded, IsFalse, reason, "")
			}
			for i, reason := range tc.ends {
				if got := made.Of(fanOuts[i], tenants)[0]; (got == 0) != (reason != "") {
					t.Errorf("the fan-out of tick %d has created %d TenantJobs", i, got)
				}
			}
		})
	}
}

// TestTenantFanOutRetryWaits is case 27: a retry waits until its source has ended, and those that never can be are said.
func TestTenantFanOutRetryWaits(t *testing.T) {
	t.Parallel()
	tenants := NewReadyTenants(t, 2)
	template := NewReadyTemplate(t, nil)
	retryOf := func(name string) func(*v1alpha1.TenantFanOut) {
		return func(o *v1alpha1.TenantFanOut) { o.Spec.Tenants.RetryOf = &v1alpha1.RetryOf{Name: name} }
	}
	source := NewFanOut(t, template.Name, tenants, nil)
	pods := []*corev1.Pod{AwaitRunningPod(t, ChildIn(tenants[0], source)), AwaitRunningPod(t, ChildIn(tenants[1], source))}
	EndPod(t, pods[0], corev1.PodFailed)
	retry := NewFanOut(t, template.Name, nil, retryOf(source.Name))
	AwaitFanOut(t, retry, v1alpha1.ConditionSucceeded, Unknown, v1alpha1.ReasonSourceRunning, "waits until TenantFanOut "+source.Name+" has ended")
	EndPod(t, pods[1], corev1.PodFailed)
	AwaitFanOut(t, source, v1alpha1.ConditionSucceeded, IsFalse, v1alpha1.ReasonSomeFailed, "")
	FinishChildren(t, tenants)
	AwaitFanOut(t, retry, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "2 of 2")

	n := Serial.Add(1)
	one, two := fmt.Sprintf("circle-%d-one", n), fmt.Sprintf("circle-%d-two", n)
	first := NewFanOut(t, template.Name, nil, func(o *v1alpha1.TenantFanOut) { o.Name = one; retryOf(two)(o) })
	AwaitFanOut(t, first, v1alpha1.ConditionPlanned, IsFalse, v1alpha1.ReasonSourceGone, "")
	second := NewFanOut(t, template.Name, nil, func(o *v1alpha1.TenantFanOut) { o.Name = two; retryOf(one)(o) })
	for _, f := range []*v1alpha1.TenantFanOut{first, second} {
		AwaitFanOut(t, f, v1alpha1.ConditionPlanned, IsFalse, v1alpha1.ReasonInvalidSpec, "goes round in a circle")
	}
	self := &v1alpha1.TenantFanOut{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("self-%d", n)},
		Spec:       v1alpha1.TenantFanOutSpec{TemplateRef: v1alpha1.LabelReference{Name: template.Name}},
	}
	retryOf(self.Name)(self)
	if err := Admin.Create(t.Context(), self); err == nil {
		t.Error("a retry of itself was accepted")
	}
}
