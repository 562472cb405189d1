package fanouts

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/kube"
)

const (
	// putOffFor is when the API server is asked again to make a child that it would not take for now.
	putOffFor = 10 * time.Second
)

// carryOut makes and looks up what the decision says, and says whether it has learned anything. What goes wrong for one
// tenant is that tenant's; an error is the API server's, which needs a rest.
func (r *Reconciler) carryOut(ctx context.Context, h *inHand, view fanOutView, t *turn, until time.Time) (bool, error) {
	now := r.Clock.Now()
	makes := h.withoutPutOff(t.decision.Create, now)
	if len(makes) > 0 && !t.fresh {
		// They were announced in a ledger that was stored a while ago. Another leader may know more by now.
		if err := r.confirm(ctx, view.FanOut, h); err != nil {
			return false, err
		}
	}
	if t.stored {
		makes = slices.Concat(makes, h.withoutPutOff(t.decision.Announced, now))
	}
	checks := h.withoutPutOff(t.decision.Check, now)
	enough := func() bool { return r.Clock.Now().After(until) }
	err := h.width.do(len(makes), enough, func(n int) error { return r.makeChild(ctx, h, makes[n], view) })
	if err == nil {
		err = h.width.do(len(checks), enough, func(n int) error { return r.check(ctx, h, checks[n], view) })
	}
	return len(makes)+len(checks) > 0, err
}

func (h *inHand) withoutPutOff(indexes []int, now time.Time) []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(indexes), func(i int) bool {
		return now.Before(h.putOff[h.plan.Entries[i].Tenant].at)
	})
}

// makeChild makes one tenant's TenantJob.
func (r *Reconciler) makeChild(ctx context.Context, h *inHand, i int, view fanOutView) error {
	fanOut := view.FanOut
	name := h.plan.Entries[i].Tenant
	namespace := view.Tenants[name].Namespace
	child := fanout.BuildChild(fanOut, h.plan, i, namespace)
	err := r.Create(ctx, child, client.FieldOwner(kube.FieldManager))
	now := r.Clock.Now()
	switch {
	case err == nil:
		h.noteChild(name, r.childOf(child, fanOut.UID), now)
		return nil
	case apierrors.IsAlreadyExists(err):
		return r.lookAt(ctx, fanOut, h, name, namespace)
	case !isAboutTenant(kube.RefusalOf(err)):
		return fmt.Errorf("creating TenantJob %s: %w", kube.KeyOf(child), err)
	}
	// Whether its tenant is to blame is not for the cache to say.
	hindered, lookErr := r.lookAtTenant(ctx, h, name, now)
	switch {
	case lookErr != nil:
		return lookErr
	case hindered:
	case mayPass(kube.RefusalOf(err)):
		h.notePutOff(name, err.Error(), now.Add(putOffFor))
	default:
		h.noteChild(name, fanout.Child{Presence: fanout.Refused, Message: err.Error()}, now)
	}
	return nil
}

// check asks the API server for a child that the cache does not have, and for its tenant if the cache does not have that.
func (r *Reconciler) check(ctx context.Context, h *inHand, i int, view fanOutView) error {
	name := h.plan.Entries[i].Tenant
	namespace := view.Tenants[name].Namespace
	if namespace == "" {
		tenant, err := kube.Find(ctx, r.Live, types.NamespacedName{Name: name}, &v1alpha1.Tenant{})
		if err != nil {
			return err
		}
		if tenant == nil {
			// Deleting a Tenant deletes its TenantJobs first.
			h.noteChild(name, fanout.Child{Presence: fanout.NotFound}, r.Clock.Now())
			return nil
		}
		h.noteTenant(tenant)
		namespace = tenant.NamespaceName()
	}
	return r.lookAt(ctx, view.FanOut, h, name, namespace)
}

// lookAt notes what has a child's name.
func (r *Reconciler) lookAt(ctx context.Context, fanOut *v1alpha1.TenantFanOut, h *inHand, tenant, namespace string) error {
	tj, err := kube.Find(ctx, r.Live, types.NamespacedName{Namespace: namespace, Name: fanOut.Name}, &v1alpha1.TenantJob{})
	now := r.Clock.Now()
	switch {
	case err != nil:
		return err
	case tj == nil:
		h.noteChild(tenant, fanout.Child{Presence: fanout.NotFound}, now)
	case isLeftOver(tj, fanOut):
		h.notePutOff(tenant, fmt.Sprintf("one of the last fan-out %s is still being deleted", fanOut.Name), now.Add(time.Second))
	default:
		h.noteChild(tenant, r.childOf(tj, fanOut.UID), now)
	}
	return nil
}

// isLeftOver says whether a TenantJob is on its way out with an earlier fan-out of the same name.
func isLeftOver(tj *v1alpha1.TenantJob, fanOut *v1alpha1.TenantFanOut) bool {
	owner := metav1.GetControllerOf(tj)
	return owner != nil && owner.Kind == "TenantFanOut" && owner.Name == fanOut.Name && owner.UID != fanOut.UID
}

// lookAtTenant says whether the next round has a better idea why a tenant got no child: it is gone, or not active, or has
// another namespace than the cache says.
func (r *Reconciler) lookAtTenant(ctx context.Context, h *inHand, name string, now time.Time) (bool, error) {
	tenant, err := kube.Find(ctx, r.Live, types.NamespacedName{Name: name}, &v1alpha1.Tenant{})
	if err != nil {
		return false, err
	}
	if tenant == nil {
		h.noteChild(name, fanout.Child{Presence: fanout.NotFound}, now)
		return true, nil
	}
	h.noteTenant(tenant)
	return fanout.TenantOf(tenant).State != fanout.Active, nil
}

// isAboutTenant says whether the API server has answered something about this child or its namespace, and not that it is
// itself in trouble, or the operator lacks rights.
func isAboutTenant(r kube.Refusal) bool {
	return mayPass(r) || r == kube.RefusalInvalid || r == kube.RefusalForbidden
}

// mayPass says whether the child may be accepted later: the namespace is going or gone, or its quota is full.
func mayPass(r kube.Refusal) bool {
	return r == kube.RefusalNotFound || r == kube.RefusalTerminating || r == kube.RefusalQuota
}
