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

// retryTakenAfter is how long a child waits at most whose name still belongs to a TenantJob that is being deleted.
const retryTakenAfter = time.Second

// act creates and reads the children that the decision names. It says whether there were any: then the next pass knows more.
// An error that concerns one tenant becomes that tenant's outcome, at once or after a while. The error that act returns means
// that the API server is in trouble, and ends the reconcile.
func (r *Reconciler) act(ctx context.Context, a *activeFanOut, o observed, p *progress, createUntil time.Time) (bool, error) {
	now := r.Clock.Now()
	create := a.withoutDelayed(p.decision.Create, now)
	if len(create) > 0 && !p.justStored {
		// The ledger that announces them was stored a while ago. Another leader may have stored a newer one.
		if err := r.confirmLedger(ctx, o.FanOut, a); err != nil {
			return false, err
		}
	}
	if p.stored {
		create = slices.Concat(create, a.withoutDelayed(p.decision.Announced, now))
	}
	check := a.withoutDelayed(p.decision.Check, now)
	limited := a.limitDelays(slices.Concat(p.decision.Create, p.decision.Announced), now)
	stop := func() bool { return r.Clock.Now().After(createUntil) }
	err := a.requests.run(ctx, len(create), stop, func(i int) error {
		return a.request(ctx, a.plan.Entries[create[i]].Tenant, func() error { return r.createChild(ctx, a, create[i], o) })
	})
	if err == nil {
		err = a.requests.run(ctx, len(check), stop, func(i int) error { return r.checkChild(ctx, a, check[i], o) })
	}
	return limited || len(create)+len(check) > 0, err
}

// createChild creates the TenantJob of the tenant at an index of the plan.
func (r *Reconciler) createChild(ctx context.Context, a *activeFanOut, i int, o observed) error {
	tenant := a.plan.Entries[i].Tenant
	namespace := o.Tenants[tenant].Namespace
	child := fanout.BuildChild(o.FanOut, a.plan, i, namespace)
	err := r.create(ctx, child)
	now, refusal := r.Clock.Now(), kube.RefusalOf(err)
	switch {
	case err == nil:
		a.succeeded()
		a.setChild(tenant, r.childOf(o.FanOut, a.ledger.Load(), i, child), now)
		return nil
	case apierrors.IsAlreadyExists(err):
		return r.readChild(ctx, o.FanOut, a, i, namespace)
	case isOverload(err):
		return fmt.Errorf("creating TenantJob %s: %w", kube.KeyOf(child), err)
	}
	// The cache may not know yet that the tenant itself is the cause.
	isCause, checkErr := r.checkTenant(ctx, a, tenant, now)
	switch {
	case checkErr != nil:
		return checkErr
	case isCause:
	case refusal == kube.RefusalInvalid, refusal == kube.RefusalForbidden:
		a.setChild(tenant, fanout.Child{Presence: fanout.Refused, Message: err.Error()}, now)
	default:
		return r.delayChild(a, tenant, err, now)
	}
	return nil
}

// create creates a child. Without an answer in time it may have been created, or may be soon.
func (r *Reconciler) create(ctx context.Context, child *v1alpha1.TenantJob) error {
	limited, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	err := r.Create(limited, child, client.FieldOwner(kube.FieldManager))
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		return fmt.Errorf("no answer within %d seconds: %w", createTimeout/time.Second, err)
	}
	return err
}

// delayChild puts off the creation of a tenant's child after an error. When those of several tenants fail in a row, it returns
// the error, since then the API server is in trouble, or the operator lacks rights.
func (r *Reconciler) delayChild(a *activeFanOut, tenant string, err error, now time.Time) error {
	cause := delayCause{message: kube.MessageOf(err), reason: v1alpha1.ReasonPodsRefused, longestRetry: lastRefusedRetry}
	if cause.unclear = !isOfTenant(kube.RefusalOf(err)); cause.unclear {
		cause.longestRetry = lastFailedRetry
	}
	a.setDelayed(tenant, cause, now)
	if cause.unclear && a.failed(tenant) {
		return fmt.Errorf("creating the TenantJob of tenant %s, as of others before: %w", tenant, err)
	}
	return nil
}

// checkChild reads a child that the cache does not have from the API server, and its Tenant if the cache does not have that.
func (r *Reconciler) checkChild(ctx context.Context, a *activeFanOut, i int, o observed) error {
	name := a.plan.Entries[i].Tenant
	namespace := o.Tenants[name].Namespace
	if namespace == "" {
		tenant, err := r.readTenant(ctx, a, name, r.Clock.Now())
		if tenant == nil || err != nil {
			return err
		}
		namespace = tenant.NamespaceName()
	}
	return r.readChild(ctx, o.FanOut, a, i, namespace)
}

// readChild reads from the API server what has the name of the child of the tenant at an index of the plan, and remembers it.
func (r *Reconciler) readChild(ctx context.Context, fanOut *v1alpha1.TenantFanOut, a *activeFanOut, i int, namespace string) error {
	tenant, ledger := a.plan.Entries[i].Tenant, a.ledger.Load()
	tj, err := kube.Find(ctx, r.Live, types.NamespacedName{Namespace: namespace, Name: fanOut.Name}, &v1alpha1.TenantJob{})
	now := r.Clock.Now()
	switch {
	case err != nil:
		return err
	case tj == nil:
		a.setChild(tenant, fanout.Child{Presence: fanout.NotFound}, now)
	case isOfEarlierFanOut(tj, fanOut) && !ledger.HasChild(i):
		cause := delayCause{
			message: fmt.Sprintf("the TenantJob of an earlier fan-out %s is still being deleted", fanOut.Name),
			reason:  v1alpha1.ReasonNameConflict, takesLong: true, longestRetry: retryTakenAfter,
		}
		if tj.DeletionTimestamp == nil { // The garbage collector may take long.
			if err := r.DeleteExact(ctx, tj, metav1.DeletePropagationBackground); err != nil {
				cause.message += ": " + kube.MessageOf(err)
			}
		}
		a.setDelayed(tenant, cause, now)
	default:
		a.setChild(tenant, r.childOf(fanOut, ledger, i, tj), now)
	}
	return nil
}

// checkTenant says whether the Tenant itself is the cause that it got no child: it is gone or not active. If the Tenant has
// another namespace than the cache says, the next pass knows that, too.
func (r *Reconciler) checkTenant(ctx context.Context, a *activeFanOut, name string, now time.Time) (bool, error) {
	tenant, err := r.readTenant(ctx, a, name, now)
	if err != nil {
		return false, err
	}
	return tenant == nil || fanout.TenantOf(tenant).State != fanout.Active, nil
}

// readTenant reads a Tenant from the API server, and remembers it. It returns nil when there is none. Then its child is gone,
// too, since deleting a Tenant deletes its TenantJobs first.
func (r *Reconciler) readTenant(ctx context.Context, a *activeFanOut, name string, now time.Time) (*v1alpha1.Tenant, error) {
	tenant, err := kube.Find(ctx, r.Live, types.NamespacedName{Name: name}, &v1alpha1.Tenant{})
	switch {
	case err != nil:
		return nil, err
	case tenant == nil:
		a.setChild(name, fanout.Child{Presence: fanout.NotFound}, now)
	default:
		a.setTenant(tenant)
	}
	return tenant, nil
}

// isOfEarlierFanOut says whether a TenantJob belongs to a deleted fan-out of the same name, and so is about to be deleted.
func isOfEarlierFanOut(tj *v1alpha1.TenantJob, fanOut *v1alpha1.TenantFanOut) bool {
	owner := metav1.GetControllerOf(tj)
	return owner != nil && owner.Kind == "TenantFanOut" && owner.Name == fanOut.Name && owner.UID != fanOut.UID
}

// isOfTenant says whether the API server has refused a child because of the tenant, and may accept it later: the namespace is
// missing or terminating, or its quota is full.
func isOfTenant(r kube.Refusal) bool {
	return r == kube.RefusalNotFound || r == kube.RefusalTerminating || r == kube.RefusalQuota
}

// isOverload says whether the API server asks for fewer requests.
func isOverload(err error) bool {
	_, isSuggested := apierrors.SuggestsClientDelay(err)
	return isSuggested && apierrors.IsTooManyRequests(err)
}
