package controller_test

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
	"github.com/tenantry/tenantry/internal/schedule"
)

// TestTenantFanOutTenantsChange: what becomes of tenants after they were planned is in the counters, and the total stays.
func TestTenantFanOutTenantsChange(t *testing.T) {
	t.Parallel()
	label := map[string]string{"changes": "true"}
	tenants := newLabelledTenants(t, label, label, label, label, label)
	first, stays, goes, suspended, loses := tenants[0], tenants[1], tenants[2], tenants[3], tenants[4]
	fanOut := newFanOut(t, newReadyTemplate(t, nil).Name, nil, func(o *v1alpha1.TenantFanOut) {
		o.Spec.Tenants.Selector = &metav1.LabelSelector{MatchLabels: label}
		o.Spec.Suspend = new(true)
	})
	awaitFanOut(t, fanOut, v1alpha1.ConditionPaused, isTrue, v1alpha1.ReasonSuspended, "")
	made := followChildren(t, tenants)
	newLabelledTenants(t, label) // comes too late
	remove(t, goes)
	awaitGone(t, goes)
	patch(t, suspended, suspend)
	awaitCondition(t, suspended, v1alpha1.ConditionSuspended, isTrue, v1alpha1.ReasonSuspended, "")
	// One whose namespace is about to go has no TenantJob in it, and holds nobody up.
	namespace := get(t, gomega.NewWithT(t), namespaceOf(loses))
	patch(t, namespace, func(o *corev1.Namespace) { o.Finalizers = append(o.Finalizers, "test.example.com/lingers") })
	t.Cleanup(func() {
		_ = admin.Patch(context.Background(), namespace, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))
	})
	remove(t, namespace)
	finishAll(t, first)
	finishAll(t, stays)
	patch(t, fanOut, func(o *v1alpha1.TenantFanOut) { o.Spec.Suspend = nil })
	awaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, isTrue, v1alpha1.ReasonCompleted, "2 of 5 tenants succeeded, 3 skipped")
	g := gomega.NewWithT(t)
	g.Expect(unsuccessful(fanOut)).To(gomega.Equal(map[string]string{
		goes.Name: v1alpha1.ReasonTenantDeleted, suspended.Name: v1alpha1.ReasonTenantSuspended, loses.Name: v1alpha1.ReasonTenantNotReady,
	}))
	g.Expect(made.of(fanOut, tenants)).To(gomega.Equal([]int{1, 1, 0, 0, 0}))
	g.Expect(planOf(t, fanOut).Entries).To(gomega.HaveLen(5))
}

// TestTenantFanOutFullQuota: a tenant whose quota takes no TenantJob waits, and nobody else does. The fan-out says so.
func TestTenantFanOutFullQuota(t *testing.T) {
	t.Parallel()
	tenants := newReadyTenants(t, 3)
	full := tenants[1]
	patch(t, full, func(o *v1alpha1.Tenant) {
		o.Spec.Quota = &v1alpha1.TenantQuota{Hard: corev1.ResourceList{"count/tenantjobs.tenantry.dev": resource.MustParse("0")}}
	})
	awaitCondition(t, full, v1alpha1.ConditionReady, isTrue, v1alpha1.ReasonReady, "")
	eventually(t, func(g gomega.Gomega) { // until the quota is in force
		probe := &v1alpha1.TenantJob{ObjectMeta: within(full, fmt.Sprintf("probe-%d", names.Add(1)))}
		probe.Spec = v1alpha1.TenantJobSpec{TenantRef: v1alpha1.TenantReference{Name: full.Name}, TemplateRef: v1alpha1.LabelReference{Name: "nowhere"}}
		err := admin.Create(t.Context(), probe)
		if err == nil {
			remove(t, probe)
		}
		g.Expect(err).To(gomega.MatchError(gomega.ContainSubstring("exceeded quota")))
	})
	finishChildren(t, tenants)
	fanOut := newFanOut(t, newReadyTemplate(t, nil).Name, tenants, nil)
	awaitCounts(t, fanOut, v1alpha1.FanOutCounts{Total: 3, Waiting: 1, Succeeded: 2})
	awaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, unknown, v1alpha1.ReasonRunning, "the TenantJob of tenant "+full.Name+" can't be made yet")
	awaitFanOut(t, fanOut, v1alpha1.ConditionReconciling, isTrue, v1alpha1.ReasonRunning, "exceeded quota: tenant-quota")
	patch(t, full, func(o *v1alpha1.Tenant) { o.Spec.Quota = nil })
	awaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, isTrue, v1alpha1.ReasonCompleted, "3 of 3")
}

// TestTenantFanOutNotAChild: who may make TenantJobs for one tenant has no say about another.
func TestTenantFanOutNotAChild(t *testing.T) {
	t.Parallel()
	tenants := newReadyTenants(t, 2)
	fanOut := newFanOut(t, newReadyTemplate(t, nil).Name, tenants[:1], func(o *v1alpha1.TenantFanOut) { o.Spec.Suspend = new(true) })
	awaitFanOut(t, fanOut, v1alpha1.ConditionPaused, isTrue, v1alpha1.ReasonSuspended, "")
	forged := newRun(t, tenants[1], newTemplate(t, nil), func(o *v1alpha1.TenantJob) {
		o.Name = fanOut.Name
		o.Spec.TenantRef.Name = tenants[0].Name
		o.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(fanOut, v1alpha1.GroupVersion.WithKind("TenantFanOut"))}
	})
	awaitOutcome(t, forged, v1alpha1.ReasonTenantMismatch)
	patch(t, fanOut, func(o *v1alpha1.TenantFanOut) { o.Spec.Suspend = nil })
	finishAll(t, tenants[0])
	awaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, isTrue, v1alpha1.ReasonCompleted, "1 of 1")
}

// newSuspendedSchedule makes a TenantSchedule that makes nothing itself.
func newSuspendedSchedule(t *testing.T, change func(*v1alpha1.TenantSchedule)) *v1alpha1.TenantSchedule {
	t.Helper()
	ts := &v1alpha1.TenantSchedule{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("schedule-%d", names.Add(1))},
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
	return create(t, ts)
}

// newTick makes the fan-out of a schedule's tick.
func newTick(
	t *testing.T, ts *v1alpha1.TenantSchedule, template string, tenants []*v1alpha1.Tenant, tick time.Time, change func(*v1alpha1.TenantFanOut),
) *v1alpha1.TenantFanOut {
	t.Helper()
	return newFanOut(t, template, tenants, func(o *v1alpha1.TenantFanOut) {
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
			tenants := newReadyTenants(t, 3)
			template := newReadyTemplate(t, nil)
			ts := newSuspendedSchedule(t, func(o *v1alpha1.TenantSchedule) { o.Spec.ConcurrencyPolicy = tc.policy })
			tick := time.Now().Add(-2 * time.Minute).UTC().Truncate(time.Minute)
			first := newTick(t, ts, template.Name, tenants, tick, func(o *v1alpha1.TenantFanOut) {
				o.Spec.Strategy = &v1alpha1.FanOutStrategy{
					Waves: []v1alpha1.Wave{{Name: "canary", Size: new(intstr.FromInt32(1)), MaxFailures: new(intstr.FromInt32(0))}},
				}
			})
			var runs *v1alpha1.Tenant
			for _, e := range planOf(t, first).Entries {
				if e.Wave == 0 {
					runs = tenants[slices.IndexFunc(tenants, func(o *v1alpha1.Tenant) bool { return o.Name == e.Tenant })]
				}
			}
			pod := awaitRunningPod(t, childIn(runs, first))
			gomega.NewWithT(t).Expect(get(t, gomega.NewWithT(t), childIn(runs, first)).Labels).To(gomega.HaveKeyWithValue(v1alpha1.LabelSchedule, ts.Name))
			newTick(t, ts, template.Name, nil, tick.Add(time.Minute), func(o *v1alpha1.TenantFanOut) {
				o.Spec.Tenants.Names = []v1alpha1.TenantName{"nobody"}
			})
			if tc.ends {
				awaitCounts(t, first, v1alpha1.FanOutCounts{Total: 3, Running: 1, Skipped: 2})
				endPod(t, pod, corev1.PodSucceeded)
				awaitFanOut(t, first, v1alpha1.ConditionSucceeded, isFalse, v1alpha1.ReasonSuperseded, "1 of 3 tenants succeeded, 2 skipped")
				return
			}
			endPod(t, pod, corev1.PodSucceeded)
			finishChildren(t, tenants)
			awaitFanOut(t, first, v1alpha1.ConditionSucceeded, isTrue, v1alpha1.ReasonCompleted, "3 of 3")
		})
	}
}

// TestTenantFanOutOnTenantsClock: each tenant's time is the tick's on its own clock; whoever has slept it through is
// Expired; and the next day's tick ends nobody whose time is still to come.
func TestTenantFanOutOnTenantsClock(t *testing.T) {
	t.Parallel()
	// The tick opens in the east at +14; in UTC it comes fourteen hours later, and that was half an hour ago.
	tick := time.Now().Add(-14*time.Hour - 30*time.Minute).UTC().Truncate(time.Minute)
	east := newReadyTenant(t, v1alpha1.TenantSpec{TimeZone: "Asia/Tokyo"})
	utc := newReadyTenant(t, v1alpha1.TenantSpec{})
	west := newReadyTenant(t, v1alpha1.TenantSpec{TimeZone: "Pacific/Honolulu"})
	tenants := []*v1alpha1.Tenant{east, utc, west}
	ts := newSuspendedSchedule(t, func(o *v1alpha1.TenantSchedule) {
		o.Spec.TimeZoneFrom = v1alpha1.TimeZoneFromTenant
		o.Spec.StartingDeadlineSeconds = new(int32(3600))
	})
	onTheirClock := func(o *v1alpha1.TenantFanOut) { o.Annotations[v1alpha1.AnnotationTimeZoneFrom] = "Tenant" }
	template := newReadyTemplate(t, nil)
	fanOut := newTick(t, ts, template.Name, tenants, tick, onTheirClock)
	finish(t, childIn(utc, fanOut), corev1.PodSucceeded)
	awaitCounts(t, fanOut, v1alpha1.FanOutCounts{Total: 3, Waiting: 1, Succeeded: 1, Failed: 1})
	g := gomega.NewWithT(t)
	g.Expect(unsuccessful(fanOut)).To(gomega.Equal(map[string]string{east.Name: v1alpha1.ReasonExpired}))
	child := get(t, g, childIn(utc, fanOut))
	g.Expect(child.Annotations).To(gomega.HaveKeyWithValue(v1alpha1.AnnotationScheduledTime, tick.Add(14*time.Hour).Format(time.RFC3339)))
	g.Expect(child.Spec.NotBeforeTime.Time).To(gomega.BeTemporally("==", tick.Add(14*time.Hour)))

	next := newTick(t, ts, template.Name, tenants[1:2], tick.Add(24*time.Hour), onTheirClock)
	awaitFanOut(t, next, v1alpha1.ConditionPlanned, isTrue, v1alpha1.ReasonSealed, "")
	g.Expect(get(t, g, fanOut).Status.Counts.Waiting).To(gomega.Equal(int32(1)))
	plan := planOf(t, fanOut)
	i, _ := plan.Find(west.Name)
	g.Expect(plan.Entries[i].NotBefore).To(gomega.BeTemporally("==", tick.Add(24*time.Hour)))
}

// TestTenantFanOutKstatus is what Flux, kapp and Argo CD read.
func TestTenantFanOutKstatus(t *testing.T) {
	t.Parallel()
	tenants := newReadyTenants(t, 1)
	template := newReadyTemplate(t, nil)
	is := func(t *testing.T, fanOut *v1alpha1.TenantFanOut, want status.Status) {
		t.Helper()
		eventually(t, func(g gomega.Gomega) { g.Expect(judged(t, get(t, g, fanOut))).To(gomega.Equal(want)) })
	}
	run := func(t *testing.T, template string) *v1alpha1.TenantFanOut {
		t.Helper()
		fanOut := newFanOut(t, template, tenants, nil)
		gomega.NewWithT(t).Expect(judged(t, fanOut)).To(gomega.Equal(status.InProgressStatus), "as the API server made it")
		return fanOut
	}
	completes := run(t, template.Name)
	awaitFanOut(t, completes, v1alpha1.ConditionSucceeded, unknown, v1alpha1.ReasonRunning, "")
	gomega.NewWithT(t).Expect(judged(t, completes)).To(gomega.Equal(status.InProgressStatus))
	finish(t, childIn(tenants[0], completes), corev1.PodSucceeded)
	is(t, completes, status.CurrentStatus)
	patch(t, completes, func(o *v1alpha1.TenantFanOut) { o.Spec.TTLSecondsAfterFinished = new(int32(3600)) })
	is(t, completes, status.CurrentStatus)

	fails := run(t, template.Name)
	finish(t, childIn(tenants[0], fails), corev1.PodFailed)
	is(t, fails, status.FailedStatus)
	is(t, run(t, "nowhere"), status.FailedStatus)
}
