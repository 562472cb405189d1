package tenants

import (
	"context"
	"errors"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/tenant"
)

// The copies of Secrets are deleted under the RoleBinding that the operator has in each tenant's namespace. It never lists Secrets there:
// the status of the Tenant says which copies there may be.

// checkCopies finds out which copies are not as their originals are now. A run would find that out, too, but there may be none.
func (r *Reconciler) checkCopies(ctx context.Context, o *tenant.Observed) error {
	o.ReplacedCopies, o.CopiesErr = r.Credentials.ReplacedCopies(ctx, o.Tenant)
	return nil
}

// deleteCopies deletes the copies that nobody needs.
func (r *Reconciler) deleteCopies(ctx context.Context, o *tenant.Observed) error {
	var err error
	o.DeletedCopies, err = r.Credentials.DeleteCopies(ctx, o.Tenant, o.CopiesToDelete())
	o.CopiesErr = errors.Join(o.CopiesErr, err)
	return nil
}

// deleteAllCopies deletes the copies in a namespace that is about to be released. All runs of the tenant are over.
func (r *Reconciler) deleteAllCopies(ctx context.Context, t *v1alpha1.Tenant) error {
	var failed error
	for _, c := range t.Status.CopiedSecrets {
		failed = errors.Join(failed, r.DeleteSecret(ctx, types.NamespacedName{Namespace: t.NamespaceName(), Name: c.Name}))
	}
	return failed
}

// recordDeletedCopies takes copies that are gone out of the status of a Tenant.
func recordDeletedCopies(status *v1alpha1.TenantStatus, deleted []string) {
	status.CopiedSecrets = slices.DeleteFunc(status.CopiedSecrets, func(c v1alpha1.CopiedSecret) bool { return slices.Contains(deleted, c.Name) })
}
