package fanouts

import (
	"context"
	"maps"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/schedule"
)

// fanOutView is what is known of a fan-out in one round.
type fanOutView struct {
	fanout.Observed
	// endsAt is when a later tick ends it, if that is to come.
	endsAt time.Time
}

// observe gathers everything that the decision about a fan-out needs.
func (r *Reconciler) observe(ctx context.Context, fanOut *v1alpha1.TenantFanOut, h *inHand, now time.Time) (fanOutView, error) {
	ledger := h.ledger.Load()
	unseen := len(h.plan.Entries) - ledger.Seen()
	view := fanOutView{Observed: fanout.Observed{
		FanOut: fanOut, Ledger: ledger,
		Tenants: make(map[string]fanout.Tenant, unseen), Children: make(map[string]fanout.Child, ledger.Undecided()-unseen),
	}}
	said := h.saidOfTenants()
	for i, e := range h.plan.Entries {
		if ledger.Outcome(i).Decided() {
			continue
		}
		t := said[e.Tenant]
		if t == nil {
			t, _ = r.tenants.Get(types.NamespacedName{Name: e.Tenant})
		}
		if !ledger.Untouched(i) {
			if child, known := r.cachedChild(fanOut, e.Tenant, t); known {
				view.Children[e.Tenant] = child
				continue
			}
		}
		if t != nil {
			view.Tenants[e.Tenant] = fanout.TenantOf(t)
		}
	}
	h.overlayChildren(view.Children, now)
	view.Delayed = h.saidOfPutOff()
	var err error
	view.End, view.endsAt, err = r.end(ctx, fanOut, now)
	return view, err
}

// cachedChild is a tenant's child, if the cache has it. One that is not in its tenant's namespace is none, whatever it says
// of its owner: who may make TenantJobs for one tenant has no say about another.
func (r *Reconciler) cachedChild(fanOut *v1alpha1.TenantFanOut, tenant string, t *v1alpha1.Tenant) (fanout.Child, bool) {
	if t == nil {
		// Whatever was in its namespace went first.
		t = &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: tenant}}
	}
	tj, known := r.tenantJobs.Get(types.NamespacedName{Namespace: t.NamespaceName(), Name: fanOut.Name})
	if !known || kube.ControllerUID(tj, "TenantFanOut") != fanOut.UID || tj.Spec.TenantRef.Name != tenant {
		return fanout.Child{}, false
	}
	return r.childOf(tj, fanOut.UID), true
}

func (r *Reconciler) childOf(tj *v1alpha1.TenantJob, fanOut types.UID) fanout.Child {
	child := fanout.ChildOf(tj, fanOut)
	if child.Status == metav1.ConditionUnknown && !child.Started {
		child.Started = r.Dispatcher.Holding(tj.UID)
	}
	return child
}

// saidOfTenants are those of which the API server has said something in this turn, which the cache may not know.
func (h *inHand) saidOfTenants() map[string]*v1alpha1.Tenant {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.tenants)
}

// saidOfPutOff is why there is no child yet, of those whose child the API server would not take.
func (h *inHand) saidOfPutOff() map[string]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	said := make(map[string]string, len(h.putOff))
	for tenant, p := range h.putOff {
		said[tenant] = p.why
	}
	return said
}

// overlayChildren adds what the API server has said of those that the cache does not have. What the cache has by now needs
// no answer any more.
func (h *inHand) overlayChildren(children map[string]fanout.Child, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for tenant, a := range h.answers {
		if _, cached := children[tenant]; cached || now.Sub(a.at) >= trustMade {
			delete(h.answers, tenant)
		} else {
			children[tenant] = a.child
		}
	}
}

// end says whether a later tick of its schedule has ended what still waits of a fan-out, or else from when on one will
// have. On the tenants' clocks the tick has yet to come in the west when the next one comes in the east.
func (r *Reconciler) end(ctx context.Context, fanOut *v1alpha1.TenantFanOut, now time.Time) (string, time.Time, error) {
	ts, err := r.scheduleOf(ctx, fanOut)
	if ts == nil || err != nil || ts.Spec.ConcurrencyPolicy == v1alpha1.ConcurrencyAllow {
		return "", time.Time{}, err
	}
	tick, named := schedule.NamedTick(ts.Name, fanOut.Name)
	if !named {
		return "", time.Time{}, nil
	}
	if later, err := r.hasLaterTick(ctx, ts, fanOut, tick); err != nil || !later {
		return "", time.Time{}, err
	}
	if fanout.OnTenantsClock(fanOut) {
		from := tick.Add(schedule.MaxZoneDifference)
		if spread := fanOut.Spec.SpreadSeconds; spread != nil {
			from = from.Add(time.Duration(*spread) * time.Second)
		}
		if now.Before(from) {
			return "", from, nil
		}
	}
	return v1alpha1.ReasonSuperseded, time.Time{}, nil
}

// hasLaterTick says whether a later tick has made a fan-out, which may be gone again by now. Those that were made up for
// with this one do not end it: they were asked for beside it.
func (r *Reconciler) hasLaterTick(
	ctx context.Context, ts *v1alpha1.TenantSchedule, fanOut *v1alpha1.TenantFanOut, tick time.Time,
) (bool, error) {
	tick = schedule.SupersededAfter(fanOut, tick)
	if last := ts.Status.LastScheduleTime; last != nil && last.After(tick) {
		return true, nil
	}
	all, err := kube.FanOutsOfSchedule(ctx, r.Client, ts.UID)
	for i := range all {
		if other, named := schedule.NamedTick(ts.Name, all[i].Name); named && other.After(tick) {
			return true, nil
		}
	}
	return false, err
}
