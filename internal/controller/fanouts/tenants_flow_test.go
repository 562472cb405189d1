package fanouts_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/internal/schedule"
)

// TestTenantFanOutTenantsChange: what becomes of tenants after they were planned is in the counters, and the total stays.
func TestTenantFanOutTenantsChange(t *testing.T) {
	t.Parallel()
	label := map[string]string{"changes": "true"}
	tenants := NewLabelledTenants(t, label, label, label, label, label)
	first, stays, goes, suspended, loses := tenants[0], tenants[1], tenants[2], tenants[3], tenants[4]
	fanOut := NewFanOut(t, NewReadyTemplate(t, nil).Name, nil, func(o *v1alpha1.TenantFanOut) {
		o.Spec.Tenants.Selector = &metav1.LabelSelector{MatchLabels: label}
		o.Spec.Suspend = new(true)
	})
	AwaitFanOut(t, fanOut, v1alpha1.ConditionPaused, IsTrue, v1alpha1.ReasonSuspended, "")
	made := FollowChildren(t, tenants)
	NewLabelledTenants(t, label) // comes too late
	Remove(t, goes)
	AwaitGone(t, goes)
	Patch(t, suspended, Suspend)
	AwaitCondition(t, suspended, v1alpha1.ConditionSuspended, IsTrue, v1alpha1.ReasonSuspended, "")
	// One whose namespace is about to go has no TenantJob in it, and holds nobody up.
	namespace := Get(t, gomega.NewWithT(t), NamespaceOf(loses))
	Patch(t, namespace, func(o *corev1.Namespace) { o.Finalizers = append(o.Finalizers, "test.example.com/lingers") })
	t.Cleanup(func() {
		_ = Admin.Patch(context.Background(), namespace, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))
	})
	Remove(t, namespace)
	FinishAll(t, first)
	FinishAll(t, stays)
	Patch(t, fanOut, func(o *v1alpha1.TenantFanOut) { o.Spec.Suspend = nil })
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "2 of 5 tenants succeeded, 3 skipped")
	g := gomega.NewWithT(t)
	g.Expect(Unsuccessful(fanOut)).To(gomega.Equal(map[string]string{
		goes.Name: v1alpha1.ReasonTenantDeleted, suspended.Name: v1alpha1.ReasonTenantSuspended, loses.Name: v1alpha1.ReasonTenantNotReady,
	}))
	g.Expect(made.Of(fanOut, tenants)).To(gomega.Equal([]int{1, 1, 0, 0, 0}))
	g.Expect(PlanOf(t, fanOut).Entries).To(gomega.HaveLen(5))
}

// TestTenantFanOutFullQuota: a tenant whose quota takes no TenantJob waits, and nobody else does. The fan-out says so.
func TestTenantFanOutFullQuota(t *testing.T) {
	t.Parallel()
	tenants := NewReadyTenants(t, 3)
	full := tenants[1]
	Patch(t, full, func(o *v1alpha1.Tenant) {
		o.Spec.Quota = &v1alpha1.TenantQuota{Hard: corev1.ResourceList{"count/tenantjobs.tenantry.dev": resource.MustParse("0")}}
	})
	AwaitCondition(t, full, v1alpha1.ConditionReady, IsTrue, v1alpha1.ReasonReady, "")
	Eventually(t, func(g gomega.Gomega) { // until the quota is in force
		probe := &v1alpha1.TenantJob{ObjectMeta: Within(full, fmt.Sprintf("probe-%d", Serial.Add(1)))}
		probe.Spec = v1alpha1.TenantJobSpec{TenantRef: v1alpha1.TenantReference{Name: full.Name}, TemplateRef: v1alpha1.LabelReference{Name: "nowhere"}}
		err := Admin.Create(t.Context(), probe)
		if err == nil {
			Remove(t, probe)
		}
		g.Expect(err).To(gomega.MatchError(gomega.ContainSubstring("exceeded quota")))
	})
	FinishChildren(t, tenants)
	fanOut := NewFanOut(t, NewReadyTemplate(t, nil).Name, tenants, nil)
	AwaitCounts(t, fanOut, v1alpha1.FanOutCounts{Total: 3, Waiting: 1, Succeeded: 2})
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, Unknown, v1alpha1.ReasonRunning, "the TenantJob of tenant "+full.Name+" can't be made yet")
	AwaitFanOut(t, fanOut, v1alpha1.ConditionReconciling, IsTrue, v1alpha1.ReasonRunning, "exceeded quota: tenant-quota")
	Patch(t, full, func(o *v1alpha1.Tenant) { o.Spec.Quota = nil })
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "3 of 3")
}

// TestTenantFanOutNotAChild: who may make TenantJobs for one tenant has no say about another.
func TestTenantFanOutNotAChild(t *testing.T) {
	t.Parallel()
	tenants := NewReadyTenants(t, 2)
	fanOut := NewFanOut(t, NewReadyTemplate(t, nil).Name, tenants[:1], func(o *v1alpha1.TenantFanOut) { o.Spec.Suspend = new(true) })
	AwaitFanOut(t, fanOut, v1alpha1.ConditionPaused, IsTrue, v1alpha1.ReasonSuspended, "")
	forged := NewRun(t, tenants[1], NewTemplate(t, nil), func(o *v1alpha1.TenantJob) {
		o.Name = fanOut.Name
		o.Spec.TenantRef.Name = tenants[0].Name
		o.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(fanOut, v1alpha1.GroupVersion.WithKind("TenantFanOut"))}
	})
	AwaitOutcome(t, forged, v1alpha1.ReasonTenantMismatch)
	Patch(t, fanOut, func(o *v1alpha1.TenantFanOut) { o.Spec.Suspend = nil })
	FinishAll(t, tenants[0])
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "1 of 1")
}

// newSuspendedSchedule makes a TenantSchedule that makes nothing itself.
func newSuspendedSchedule(t *testing.T, change func(*v1alpha1.TenantSchedule)) *v1alpha1.TenantSchedule {
	t.Helper()
	ts := &v1alpha1.TenantSchedule{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("schedule-%d", Serial.Add(1))},
		Spec: v1alpha1.TenantScheduleSpec{
			Schedule: "0 2 * * *", Suspend: new(true), SuccessfulFanOutsHistoryLimit: new(int32(100)), FailedFanOutsHistoryLimit: new(int32(100)),
			FanOutTemplate: v1alpha1.FanOutTemplate{Spec: v1alpha1.TenantFanOutSpec{
				TemplateRef: v1alpha1.LabelReference{Name: "nowhere"}, Tenants: v1alpha1.TenantSelection{All: new(true)},
			}},
		},
	}
	if change != nil {
		change(ts)
	}
	return Create(t, ts)
}

// newTick makes the fan-out of a schedule's tick.
func newTick(
	t *testing.T, ts *v1alpha1.TenantSchedule, template string, tenants []*v1alpha1.Tenant, tick time.Time, change func(*v1alpha1.TenantFanOut),
) *v1alpha1.TenantFanOut {
	t.Helper()
	return NewFanOut(t, template, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Name = schedule.TickName(ts.Name, tick)
		o.Labels = map[string]string{v1alpha1.LabelSchedule: ts.Name}
		o.Annotations = map[string]string{v1alpha1.AnnotationScheduledTime: tick.Format(time.RFC3339)}
		o.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(ts, v1alpha1.GroupVersion.WithKind("TenantSchedule"))}
		if change != nil {
			change(o)
		}
	})
}

// TestTenantFanOutSuperseded: the next tick ends what still waits of the one before, however it waits, and nothing that
// runs.
func TestTenantFanOutSuperseded(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		policy v1alpha1.ConcurrencyPolicy
		ends   bool
	}{
		"Forbid": {v1alpha1.ConcurrencyForbid, true},
		"Allow":  {v1alpha1.ConcurrencyAllow, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tenants := NewReadyTenants(t, 3)
			template := NewReadyTemplate(t, nil)
			ts := newSuspendedSchedule(t, func(o *v1alpha1.TenantSchedule) { o.Spec.ConcurrencyPolicy = tc.policy })
			tick := time.Now().Add(-2 * time.Minute).UTC().Truncate(time.Minute)
			first := newTick(t, ts, template.Name, tenants, tick, func(o *v1alpha1.TenantFanOut) {
				o.Spec.Strategy = &v1alpha1.FanOutStrategy{
					Waves: []v1alpha1.Wave{{Name: "canary", Size: new(intstr.FromInt32(1)), MaxFailures: new(intstr.FromInt32(0))}},
				}
			})
			var runs *v1alpha1.Tenant
			for _, e := range PlanOf(t, first).Entries {
				if e.Wave == 0 {
					runs = tenants[slices.IndexFunc(tenants, func(o *v1alpha1.Tenant) bool { return o.Name == e.Tenant })]
				}
			}
			pod := AwaitRunningPod(t, ChildIn(runs, first))
			gomega.NewWithT(t).Expect(Get(t, gomega.NewWithT(t), ChildIn(runs, first)).Labels).To(gomega.HaveKeyWithValue(v1alpha1.LabelSchedule, ts.Name))
			newTick(t, ts, template.Name, nil, tick.Add(time.Minute), func(o *v1alpha1.TenantFanOut) {
				o.Spec.Tenants.Names = []v1alpha1.TenantName{"nobody"}
			})
			if tc.ends {
				AwaitCounts(t, first, v1alpha1.FanOutCounts{Total: 3, Running: 1, Skipped: 2})
				EndPod(t, pod, corev1.PodSucceeded)
				AwaitFanOut(t, first, v1alpha1.ConditionSucceeded, IsFalse, v1alpha1.ReasonSuperseded, "1 of 3 tenants succeeded, 2 skipped")
				return
			}
			EndPod(t, pod, corev1.PodSucceeded)
			FinishChildren(t, tenants)
			AwaitFanOut(t, first, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "3 of 3")
		})
	}
}

// TestTenantFanOutOnTenantsClock: each tenant's time is the tick's on its own clock; whoever has slept it through is
// Expired; and the next day's tick ends nobody whose time is still to come.
func TestTenantFanOutOnTenantsClock(t *testing.T) {
	t.Parallel()
	// The tick opens in the east at +14; in UTC it comes fourteen hours later, and that was half an hour ago.
	tick := time.Now().Add(-14*time.Hour - 30*time.Minute).UTC().Truncate(time.Minute)
	east := NewReadyTenant(t, v1alpha1.TenantSpec{TimeZone: "Asia/Tokyo"})
	utc := NewReadyTenant(t, v1alpha1.TenantSpec{})
	west := NewReadyTenant(t, v1alpha1.TenantSpec{TimeZone: "Pacific/Honolulu"})
	tenants := []*v1alpha1.Tenant{east, utc, west}
	ts := newSuspendedSchedule(t, func(o *v1alpha1.TenantSchedule) {
		o.Spec.TimeZoneFrom = v1alpha1.TimeZoneFromTenant
		o.Spec.StartingDeadlineSeconds = new(int32(3600))
	})
	onTheirClock := func(o *v1alpha1.TenantFanOut) { o.Annotations[v1alpha1.AnnotationTimeZoneFrom] = "Tenant" }
	template := NewReadyTemplate(t, nil)
	fanOut := newTick(t, ts, template.Name, tenants, tick, onTheirClock)
	Finish(t, ChildIn(utc, fanOut), corev1.PodSucceeded)
	AwaitCounts(t, fanOut, v1alpha1.FanOutCounts{Total: 3, Waiting: 1, Succeeded: 1, Failed: 1})
	g := gomega.NewWithT(t)
	g.Expect(Unsuccessful(fanOut)).To(gomega.Equal(map[string]string{east.Name: v1alpha1.ReasonExpired}))
	child := Get(t, g, ChildIn(utc, fanOut))
	g.Expect(child.Annotations).To(gomega.HaveKeyWithValue(v1alpha1.AnnotationScheduledTime, tick.Add(14*time.Hour).Format(time.RFC3339)))
	g.Expect(child.Spec.NotBeforeTime.Time).To(gomega.BeTemporally("==", tick.Add(14*time.Hour)))

	next := newTick(t, ts, template.Name, tenants[1:2], tick.Add(24*time.Hour), onTheirClock)
	AwaitFanOut(t, next, v1alpha1.ConditionPlanned, IsTrue, v1alpha1.ReasonSealed, "")
	g.Expect(Get(t, g, fanOut).Status.Counts.Waiting).To(gomega.Equal(int32(1)))
	plan := PlanOf(t, fanOut)
	i, _ := plan.Find(west.Name)
	g.Expect(plan.Entries[i].NotBefore).To(gomega.BeTemporally("==", tick.Add(24*time.Hour)))
}

// TestTenantFanOutKstatus is what Flux, kapp and Argo CD read.
func TestTenantFanOutKstatus(t *testing.T) {
	t.Parallel()
	tenants := NewReadyTenants(t, 1)
	template := NewReadyTemplate(t, nil)
	is := func(t *testing.T, fanOut *v1alpha1.TenantFanOut, want status.Status) {
		t.Helper()
		Eventually(t, func(g gomega.Gomega) { g.Expect(Judged(t, Get(t, g, fanOut))).To(gomega.Equal(want)) })
	}
	run := func(t *testing.T, template string) *v1alpha1.TenantFanOut {
		t.Helper()
		fanOut := NewFanOut(t, template, tenants, nil)
		gomega.NewWithT(t).Expect(Judged(t, fanOut)).To(gomega.Equal(status.InProgressStatus), "as the API server made it")
		return fanOut
	}
	completes := run(t, template.Name)
	AwaitFanOut(t, completes, v1alpha1.ConditionSucceeded, Unknown, v1alpha1.ReasonRunning, "")
	gomega.NewWithT(t).Expect(Judged(t, completes)).To(gomega.Equal(status.InProgressStatus))
	Finish(t, ChildIn(tenants[0], completes), corev1.PodSucceeded)
	is(t, completes, status.CurrentStatus)
	Patch(t, completes, func(o *v1alpha1.TenantFanOut) { o.Spec.TTLSecondsAfterFinished = new(int32(3600)) })
	is(t, completes, status.CurrentStatus)

	fails := run(t, template.Name)
	Finish(t, ChildIn(tenants[0], fails), corev1.PodFailed)
	is(t, fails, status.FailedStatus)
	is(t, run(t, "nowhere"), status.FailedStatus)
}
