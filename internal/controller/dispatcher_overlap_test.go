package controller_test

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

// ticking is a schedule whose fan-outs the test makes itself, as the schedule would.
type ticking struct {
	schedule *v1alpha1.TenantSchedule
	template *v1alpha1.TenantJobTemplate
	tenants  []*v1alpha1.Tenant
	first    time.Time
}

func newTicking(t *testing.T, policy v1alpha1.ConcurrencyPolicy, template *v1alpha1.TenantJobTemplate, n int) *ticking {
	t.Helper()
	return &ticking{
		template: template, tenants: NewReadyTenants(t, n), first: time.Now().Add(-time.Hour),
		schedule: NewSchedule(t, "@yearly", func(o *v1alpha1.TenantSchedule) { o.Spec.ConcurrencyPolicy = policy }),
	}
}

// tick makes the fan-out of the n-th tick, of every five minutes.
func (s *ticking) tick(t *testing.T, n int) *v1alpha1.TenantFanOut {
	t.Helper()
	return NewFanOut(t, s.template.Name, s.tenants, func(o *v1alpha1.TenantFanOut) {
		o.Name = fmt.Sprintf("%s-%d", s.schedule.Name, s.first.Unix()/60+int64(5*n))
		o.Labels = map[string]string{v1alpha1.LabelSchedule: s.schedule.Name}
		o.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(s.schedule, v1alpha1.GroupVersion.WithKind("TenantSchedule"))}
	})
}

// TestDispatcherOverlapForbidden: tenant A takes longer than two ticks, the others are quick: ticks 2 and 3 run everyone
// but A.
func TestDispatcherOverlapForbidden(t *testing.T) {
	t.Parallel()
	s := newTicking(t, v1alpha1.ConcurrencyForbid, NewReadyTemplate(t, nil), 3)
	slow, quick := s.tenants[0], s.tenants[1:]
	FinishChildren(t, quick)
	first := s.tick(t, 1)
	AwaitRunningPod(t, ChildIn(slow, first))
	for n := 2; n <= 3; n++ {
		// A run of the others counts until its Job has ended.
		AwaitCounts(t, first, v1alpha1.FanOutCounts{Total: 3, Running: 1, Succeeded: 2})
		later := s.tick(t, n)
		AwaitFanOut(t, later, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "2 of 3 tenants succeeded")
		gomega.NewWithT(t).Expect(Unsuccessful(later)).To(gomega.Equal(map[string]string{slow.Name: v1alpha1.ReasonOverlapped}))
		AwaitStatus(t, ChildIn(slow, later), IsFalse, v1alpha1.ReasonOverlapped, ", an earlier run of schedule "+s.schedule.Name+" for tenant "+slow.Name)
	}
	Finish(t, ChildIn(slow, first), corev1.PodSucceeded)
	AwaitFanOut(t, first, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "3 of 3 tenants succeeded")
	FinishAll(t, slow)
	AwaitFanOut(t, s.tick(t, 4), v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "3 of 3 tenants succeeded")
}

// TestDispatcherOverlapReplaced: the old run is stopped, and its pod is gone before the new one is started.
func TestDispatcherOverlapReplaced(t *testing.T) {
	t.Parallel()
	s := newTicking(t, v1alpha1.ConcurrencyReplace, NewReadyTemplate(t, Lingering), 1)
	tenant := s.tenants[0]
	first := s.tick(t, 1)
	pod := AwaitRunningPod(t, ChildIn(tenant, first))
	second := s.tick(t, 2)
	AwaitStatus(t, ChildIn(tenant, first), IsFalse, v1alpha1.ReasonReplaced, "TenantJob "+second.Name+", a later run of schedule "+s.schedule.Name+", takes its place")
	AwaitFanOut(t, first, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "0 of 1 tenant succeeded")
	AwaitStatus(t, ChildIn(tenant, second), Unknown, v1alpha1.ReasonQueued, "the earlier run of schedule "+s.schedule.Name+" is being stopped")
	Eventually(t, func(g gomega.Gomega) { g.Expect(Get(t, g, pod).DeletionTimestamp).NotTo(gomega.BeNil()) })
	LetGo(t, pod)
	Finish(t, ChildIn(tenant, second), corev1.PodSucceeded)
	AwaitFanOut(t, second, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "1 of 1 tenant succeeded")
}

// TestDispatcherOverlapAllowed: both run, and the first one's waiting children are not superseded.
func TestDispatcherOverlapAllowed(t *testing.T) {
	t.Parallel()
	s := newTicking(t, v1alpha1.ConcurrencyAllow, NewReadyTemplate(t, nil), 1)
	first := s.tick(t, 1)
	AwaitRunningPod(t, ChildIn(s.tenants[0], first))
	second := s.tick(t, 2)
	AwaitRunningPod(t, ChildIn(s.tenants[0], second))
	for _, fanOut := range []*v1alpha1.TenantFanOut{first, second} {
		Finish(t, ChildIn(s.tenants[0], fanOut), corev1.PodSucceeded)
		AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "1 of 1 tenant succeeded")
	}
}
