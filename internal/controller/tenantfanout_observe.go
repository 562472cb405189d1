package controller

import (
	"context"
	"fmt"
	"maps"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/schedule"
)

// fanOutView is what is known of a fan-out in one round.
type fanOutView struct {
	fanout.Observed
	tenants map[string]*v1alpha1.Tenant
	// endsAt is when a later tick ends it, if that is to come.
	endsAt time.Time
}

// observe gathers everything that the decision about a fan-out needs.
func (r *tenantFanOutReconciler) observe(ctx context.Context, fanOut *v1alpha1.TenantFanOut, h *inHand, now time.Time) (fanOutView, error) {
	view := fanOutView{
		Observed: fanout.Observed{FanOut: fanOut, Ledger: h.ledger.Load()},
		tenants:  r.allTenants(),
	}
	h.overlayTenants(view.tenants)
	view.Tenants = make(map[string]fanout.Tenant, len(view.tenants))
	for name, t := range view.tenants {
		view.Tenants[name] = fanout.TenantOf(t)
	}
	view.Children = r.children(fanOut, h.plan, view.tenants)
	h.overlayChildren(view.Children, now)
	var err error
	view.End, view.endsAt, err = r.end(ctx, fanOut, now)
	return view, err
}

// allTenants are those that the cache has, by name.
func (r *tenantFanOutReconciler) allTenants() map[string]*v1alpha1.Tenant {
	cached := r.tenants.List()
	all := make(map[string]*v1alpha1.Tenant, len(cached))
	for _, obj := range cached {
		t := obj.(*v1alpha1.Tenant)
		all[t.Name] = t
	}
	return all
}

// children are those that the cache has, by tenant. One that is not in its tenant's namespace is none, whatever it says of
// its owner: who may make TenantJobs for one tenant has no say about another.
func (r *tenantFanOutReconciler) children(fanOut *v1alpha1.TenantFanOut, plan *fanout.Plan, tenants map[string]*v1alpha1.Tenant) map[string]fanout.Child {
	children := make(map[string]fanout.Child, len(plan.Entries))
	for _, e := range plan.Entries {
		t := tenants[e.Tenant]
		if t == nil {
			// Whatever was in its namespace went first.
			t = &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: e.Tenant}}
		}
		key := types.NamespacedName{Namespace: t.NamespaceName(), Name: fanOut.Name}
		tj, known := r.tenantJobs.get(key)
		if known && controllerUID(tj, "TenantFanOut") == fanOut.UID && tj.Spec.TenantRef.Name == e.Tenant {
			children[e.Tenant] = r.childOf(tj, fanOut.UID)
		}
	}
	return children
}

func (r *tenantFanOutReconciler) childOf(tj *v1alpha1.TenantJob, fanOut types.UID) fanout.Child {
	child := fanout.ChildOf(tj, fanOut)
	if child.Status == metav1.ConditionUnknown && !child.Started {
		child.Started = r.dispatcher.Holding(tj.UID)
	}
	return child
}

// overlayTenants puts what the API server has said in this turn over what the cache has.
func (h *inHand) overlayTenants(tenants map[string]*v1alpha1.Tenant) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.Copy(tenants, h.tenants)
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
func (r *tenantFanOutReconciler) end(ctx context.Context, fanOut *v1alpha1.TenantFanOut, now time.Time) (string, time.Time, error) {
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
		from := tick.Add(schedule.AroundTheWorld)
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
func (r *tenantFanOutReconciler) hasLaterTick(
	ctx context.Context, ts *v1alpha1.TenantSchedule, fanOut *v1alpha1.TenantFanOut, tick time.Time,
) (bool, error) {
	tick = schedule.SupersededAfter(fanOut, tick)
	if last := ts.Status.LastScheduleTime; last != nil && last.After(tick) {
		return true, nil
	}
	all, err := r.fanOutsOf(ctx, ts.UID)
	for i := range all {
		if other, named := schedule.NamedTick(ts.Name, all[i].Name); named && other.After(tick) {
			return true, nil
		}
	}
	return false, err
}

// fanOutsOf are the fan-outs of a schedule in the cache, for reading only.
func (d deps) fanOutsOf(ctx context.Context, ts types.UID) ([]v1alpha1.TenantFanOut, error) {
	var list v1alpha1.TenantFanOutList
	if err := d.List(ctx, &list, client.MatchingFields{indexTicks: string(ts)}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing TenantFanOuts from the cache: %w", err)
	}
	return list.Items, nil
}

// controllerUID is the UID of the object of a kind that an object belongs to. Empty when there is none.
func controllerUID(obj client.Object, kind string) types.UID {
	if owner := metav1.GetControllerOf(obj); owner != nil && owner.Kind == kind {
		return owner.UID
	}
	return ""
}
