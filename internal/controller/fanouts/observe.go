package fanouts

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/schedule"
)

// observed is everything that a pass knows about a fan-out.
type observed struct {
	fanout.Observed
	// endsAt is when a later tick will end the fan-out. Zero means that none will, or that one already has.
	endsAt time.Time
	// unrecordedAt is when the next outcome counts that a child's status does not have. Zero means that there is none.
	unrecordedAt time.Time
}

// unrecordedAfter is when the outcome of a child counts that the API server refuses to write into the child's status.
const unrecordedAfter = job.TroubleAfter

// observe gathers everything that the decision about a fan-out needs.
func (r *Reconciler) observe(ctx context.Context, fanOut *v1alpha1.TenantFanOut, a *activeFanOut, now time.Time) (observed, error) {
	ledger := a.ledger.Load()
	unseen := len(a.plan.Entries) - ledger.Seen()
	o := observed{Observed: fanout.Observed{
		FanOut: fanOut, Ledger: ledger,
		Tenants: make(map[string]fanout.Tenant, unseen), Children: make(map[string]fanout.Child, ledger.Undecided()-unseen),
	}}
	liveTenants := a.tenants()
	for i, e := range a.plan.Entries {
		if ledger.Outcome(i).Decided() {
			continue
		}
		t := liveTenants[e.Tenant]
		if t == nil {
			t, _ = r.tenants.Get(types.NamespacedName{Name: e.Tenant})
		}
		if !ledger.Untouched(i) {
			if child, isCached := r.cachedChild(fanOut, ledger, i, t); isCached {
				o.Children[e.Tenant] = child
				if !child.Deleting {
					continue
				}
			}
		}
		if t != nil {
			o.Tenants[e.Tenant] = fanout.TenantOf(t)
		}
	}
	a.addLiveChildren(o.Children, now)
	a.addEnded(o.Children)
	r.addUnrecorded(&o, a.plan, now)
	o.Delayed = a.delayMessages()
	var err error
	o.End, o.endsAt, err = r.end(ctx, fanOut, now)
	return o, err
}

// addUnrecorded adds the outcomes that children have had for a while and that their statuses do not show, since the API server
// refuses that. Otherwise later waves would wait for them for ever.
func (r *Reconciler) addUnrecorded(o *observed, plan *fanout.Plan, now time.Time) {
	outcomes, next := r.Dispatcher.Unrecorded(o.FanOut.Name, now.Add(-unrecordedAfter))
	for i, outcome := range outcomes {
		tenant := plan.Entries[i].Tenant
		if c := o.Children[tenant]; c.Presence == fanout.Ours && c.Status == metav1.ConditionUnknown {
			c.Status, c.Reason, c.Message = outcome.Status(), outcome.Reason, outcome.Message
			o.Children[tenant] = c
		}
	}
	if !next.IsZero() {
		o.unrecordedAt = next.Add(unrecordedAfter)
	}
}

// cachedChild returns the child of the tenant at an index of the plan, if the cache has it. A TenantJob outside of the tenant's
// namespace is not the child, even if its owner reference says so: who may create TenantJobs for one tenant must not affect
// another. If the cache has a TenantJob that is not the child, it may be behind.
func (r *Reconciler) cachedChild(fanOut *v1alpha1.TenantFanOut, ledger *fanout.Ledger, i int, t *v1alpha1.Tenant) (fanout.Child, bool) {
	if t == nil {
		// Without the Tenant only the default name of its namespace is known. Everything in the namespace was deleted before
		// the Tenant, so nothing is overlooked.
		t = &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: ledger.Plan().Entries[i].Tenant}}
	}
	tj, isCached := r.tenantJobs.Get(types.NamespacedName{Namespace: t.NamespaceName(), Name: fanOut.Name})
	if !isCached {
		return fanout.Child{}, false
	}
	child := r.childOf(fanOut, ledger, i, tj)
	return child, child.Presence == fanout.Ours
}

// childOf returns what is known about a TenantJob with the name of a child. One that holds a slot has started, although its
// status may not say so yet.
func (r *Reconciler) childOf(fanOut *v1alpha1.TenantFanOut, ledger *fanout.Ledger, i int, tj *v1alpha1.TenantJob) fanout.Child {
	child := ledger.ChildOf(fanOut, i, tj)
	if child.Status == metav1.ConditionUnknown && !child.Started {
		child.Started = r.Dispatcher.Holding(tj.UID)
	}
	return child
}

// end says whether a later tick of its schedule has ended the children of a fan-out that wait, or else when one will have. On
// the tenants' clocks a tick has yet to come in the west when the next tick comes in the east.
func (r *Reconciler) end(ctx context.Context, fanOut *v1alpha1.TenantFanOut, now time.Time) (string, time.Time, error) {
	ts, err := r.scheduleOf(ctx, fanOut)
	if ts == nil || err != nil || ts.Spec.ConcurrencyPolicy == v1alpha1.ConcurrencyAllow {
		return "", time.Time{}, err
	}
	tick, isTick := schedule.NamedTick(ts.Name, fanOut.Name)
	if !isTick {
		return "", time.Time{}, nil
	}
	if hasLater, err := r.hasLaterTick(ctx, ts, fanOut, tick); err != nil || !hasLater {
		return "", time.Time{}, err
	}
	if fanout.OnTenantsClock(fanOut) {
		spread := time.Duration(ptr.Deref(fanOut.Spec.SpreadSeconds, 0)) * time.Second
		if endsAt := tick.Add(schedule.MaxZoneDifference + spread); now.Before(endsAt) {
			return "", endsAt, nil
		}
	}
	return v1alpha1.ReasonSuperseded, time.Time{}, nil
}

// hasLaterTick says whether a later tick has created a fan-out, which may have been deleted since. The ticks that the
// schedule caught up on together with this one do not count: their fan-outs run beside this one.
func (r *Reconciler) hasLaterTick(
	ctx context.Context, ts *v1alpha1.TenantSchedule, fanOut *v1alpha1.TenantFanOut, tick time.Time,
) (bool, error) {
	tick = schedule.SupersededAfter(fanOut, tick)
	if ptr.Deref(ts.Status.LastScheduleTime, metav1.Time{}).After(tick) {
		return true, nil
	}
	all, err := kube.FanOutsOfSchedule(ctx, r.Client, ts.UID)
	for i := range all {
		if other, isTick := schedule.NamedTick(ts.Name, all[i].Name); isTick && other.After(tick) {
			return true, nil
		}
	}
	return false, err
}
