package tenant

import (
	"fmt"
	"slices"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

// OldCopies returns the copied Secrets of a Tenant that no further run gets: a newer copy has replaced them, or the spec does not name
// the Secret any more.
func OldCopies(t *v1alpha1.Tenant) []v1alpha1.CopiedSecret {
	var old []v1alpha1.CopiedSecret
	copies := t.Status.CopiedSecrets
	for i, c := range copies {
		replaced := slices.ContainsFunc(copies[i+1:], func(newer v1alpha1.CopiedSecret) bool {
			newer.Name = c.Name
			return newer == c
		})
		if replaced || !slices.ContainsFunc(t.Spec.Credentials, func(of v1alpha1.TenantCredential) bool { return isCopyFor(c, of) }) {
			old = append(old, c)
		}
	}
	return old
}

// isCopyFor says whether a copy is of the Secret that a credential of a tenant names.
func isCopyFor(c v1alpha1.CopiedSecret, of v1alpha1.TenantCredential) bool {
	return of.Name == c.Credential && of.ProviderRef == c.ProviderRef && of.SecretRef != nil && *of.SecretRef == c.SecretRef
}

// CopiesToDelete are the copied Secrets that no further run gets, and that no run in the cache has.
func (o Observed) CopiesToDelete() []v1alpha1.CopiedSecret {
	toDelete := OldCopies(o.Tenant)
	for _, c := range o.Tenant.Status.CopiedSecrets {
		if slices.Contains(o.ReplacedCopies, c.Name) && !slices.Contains(toDelete, c) {
			toDelete = append(toDelete, c)
		}
	}
	return slices.DeleteFunc(toDelete, func(c v1alpha1.CopiedSecret) bool { return o.MountedCopies[c.Name] })
}

// deleteCopies deletes the copied Secrets that nobody needs. Nothing else depends on it, so a failure keeps nothing from going on.
func deleteCopies(o Observed) (Decision, bool) {
	switch {
	case o.Verify && len(o.Tenant.Status.CopiedSecrets) > 0 && !o.Did(ActionCheckCopies):
		return Decision{Action: ActionCheckCopies}, false
	case len(o.CopiesToDelete()) > 0 && !o.Did(ActionDeleteCopies):
		return Decision{Action: ActionDeleteCopies}, false
	}
	d := Decision{DeletedCopies: o.DeletedCopies}
	switch {
	case o.CopiesErr != nil:
		d.Err = o.CopiesErr
		d.Progress = Progress{conditions.Reconciling, v1alpha1.ReasonProgressing, fmt.Sprintf("retrying: %v", o.CopiesErr)}
	case len(o.CopiesToDelete()) > len(o.DeletedCopies):
		d.After = PollInterval
	}
	return d, true
}
