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
	// retryRefusedAfter is how long a child waits that the API server does not accept for now.
	retryRefusedAfter = 10 * time.Second
	// retryTakenAfter is how long a child waits whose name still belongs to a TenantJob that is being deleted.
	retryTakenAfter = time.Second
)

// act creates and reads the children that the decision names. It says whether there were any: then the next pass knows more.
// An error that concerns one tenant becomes that tenant's outcome. The error that act returns means that the API server is in
// trouble, and ends the reconcile.
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
	stop := func() bool { return r.Clock.Now().After(createUntil) }
	err := a.requests.run(ctx, len(create), stop, func(i int) error { return r.createChild(ctx, a, create[i], o) })
	if err == nil {
		err = a.requests.run(ctx, len(check), stop, func(i int) error { return r.checkChild(ctx, a, check[i], o) })
	}
	return len(create)+len(check) > 0, err
}

// createChild creates the TenantJob of the tenant at an index of the plan.
func (r *Reconciler) createChild(ctx context.Context, a *activeFanOut, i int, o observed) error {
	tenant := a.plan.Entries[i].Tenant
	namespace := o.Tenants[tenant].Namespace
	child := fanout.BuildChild(o.FanOut, a.plan, i, namespace)
	err := r.Create(ctx, child, client.FieldOwner(kube.FieldManager))
	now, refusal := r.Clock.Now(), kube.RefusalOf(err)
	switch {
	case err == nil:
		a.setChild(tenant, r.childOf(child, o.FanOut.UID), now)
		return nil
	case apierrors.IsAlreadyExists(err):
		return r.readChild(ctx, o.FanOut, a, tenant, namespace)
	case !concernsTenant(refusal):
		return fmt.Errorf("creating TenantJob %s: %w", kube.KeyOf(child), err)
	}
	// The cache may not know yet that the tenant itself is the cause.
	isCause, checkErr := r.checkTenant(ctx, a, tenant, now)
	switch {
	case checkErr != nil:
		return checkErr
	case isCause:
	case isTransient(refusal):
		a.setDelayed(tenant, err.Error(), now.Add(retryRefusedAfter))
	default:
		a.setChild(tenant, fanout.Child{Presence: fanout.Refused, Message: err.Error()}, now)
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
	return r.readChild(ctx, o.FanOut, a, name, namespace)
}

// readChild reads from the API server what has a child's name, and remembers it.
func (r *Reconciler) readChild(
	ctx context.Context, fanOut *v1alpha1.TenantFanOut, a *activeFanOut, tenant, namespace string,
) error {
	tj, err := kube.Find(ctx, r.Live, types.NamespacedName{Namespace: namespace, Name: fanOut.Name}, &v1alpha1.TenantJob{})
	now := r.Clock.Now()
	switch {
	case err != nil:
		return err
	case tj == nil:
		a.setChild(tenant, fanout.Child{Presence: fanout.NotFound}, now)
	case isOfEarlierFanOut(tj, fanOut):
		message := fmt.Sprintf("that of an earlier fan-out %s is still being deleted", fanOut.Name)
		a.setDelayed(tenant, message, now.Add(retryTakenAfter))
	default:
		a.setChild(tenant, r.childOf(tj, fanOut.UID), now)
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

// concernsTenant says whether the API server has refused a child because of the child or its namespace. Otherwise the API
// server is in trouble, or the operator lacks rights.
func concernsTenant(r kube.Refusal) bool {
	return isTransient(r) || r == kube.RefusalInvalid || r == kube.RefusalForbidden
}

// isTransient says whether the API server may accept the child later: the namespace is missing or terminating, or its quota
// is full.
func isTransient(r kube.Refusal) bool {
	return r == kube.RefusalNotFound || r == kube.RefusalTerminating || r == kube.RefusalQuota
}
