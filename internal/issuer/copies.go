package issuer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
)

// A credential that is the tenant's own is a copy of a Secret in the operator's namespace, one for each version of it. The status of the
// Tenant has a copy before it is made, until it is deleted. So the operator need not list Secrets, and none is left behind if it dies.

// madeLasts is for how long a copy is taken to be there that was made or found. Then it is made again, in case that somebody has deleted
// it: so a copy costs a write from time to time, and not for each run.
const madeLasts = 10 * time.Minute

// credentialOfTenant is an entry of the spec.credentials of a Tenant.
type credentialOfTenant struct {
	tenant types.UID
	name   string
}

// copyInNamespace is a copy in the namespace with a UID.
type copyInNamespace struct {
	namespace types.UID
	name      string
}

// copyName is the name of the copy for a tenant's credential, of one version of its Secret.
func copyName(name, version string) string {
	sum := sha256.Sum256([]byte(version))
	return kube.CopyPrefix + name + "-" + hex.EncodeToString(sum[:])[:12]
}

// deliverCopy makes the copy with a tenant's own credential, if it is not there, and returns its name.
func (i *Issuer) deliverCopy(ctx context.Context, t task, tenant *v1alpha1.Tenant, c credential.Credential) (string, error) {
	secret := secretFor(t, copyName(t.credential.name, c.Version), c)
	if i.isMade(tenant, secret.Name) {
		return secret.Name, nil
	}
	err := i.recordCopy(ctx, t, tenant, v1alpha1.CopiedSecret{
		Name: secret.Name, Credential: t.credential.name, ProviderRef: t.credential.request.Credential.ProviderRef,
		SecretRef: ptr.Deref(t.credential.request.Credential.SecretRef, v1alpha1.LocalReference{}),
	})
	if err != nil {
		return "", err
	}
	if err := i.Create(ctx, secret, client.FieldOwner(kube.FieldManager)); err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("creating Secret %s: %w", kube.KeyOf(secret), err)
	}
	i.noteMade(tenant, secret.Name)
	return secret.Name, nil
}

// recordCopy writes a copy that is about to be made into the status of its Tenant.
func (i *Issuer) recordCopy(ctx context.Context, t task, tenant *v1alpha1.Tenant, c v1alpha1.CopiedSecret) error {
	for !hasCopy(tenant, c.Name) {
		base := tenant.DeepCopy()
		tenant.Status.CopiedSecrets = append(tenant.Status.CopiedSecrets, c)
		err := i.PatchStatus(ctx, tenant, base)
		if !apierrors.IsConflict(err) {
			return err
		}
		if tenant, err = i.findTenant(ctx, t.run.tenantName, t.run.tenant); err != nil {
			return err
		}
	}
	return nil
}

func hasCopy(tenant *v1alpha1.Tenant, name string) bool {
	return slices.ContainsFunc(tenant.Status.CopiedSecrets, func(c v1alpha1.CopiedSecret) bool { return c.Name == name })
}

// isMade says whether a copy is certainly there.
func (i *Issuer) isMade(tenant *v1alpha1.Tenant, name string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	seen, known := i.made[copyKey(tenant, name)]
	return known && i.clock.Since(seen) < madeLasts && hasCopy(tenant, name)
}

func (i *Issuer) noteMade(tenant *v1alpha1.Tenant, name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.made[copyKey(tenant, name)] = i.clock.Now()
}

func (i *Issuer) forgetCopy(tenant *v1alpha1.Tenant, name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.made, copyKey(tenant, name))
}

// forgetMade forgets the copies that were last seen too long ago.
func (i *Issuer) forgetMade() {
	i.mu.Lock()
	defer i.mu.Unlock()
	maps.DeleteFunc(i.made, func(_ copyInNamespace, seen time.Time) bool { return i.clock.Since(seen) >= madeLasts })
}

func copyKey(tenant *v1alpha1.Tenant, name string) copyInNamespace {
	return copyInNamespace{ptr.Deref(tenant.Status.Namespace, v1alpha1.TenantNamespaceStatus{}).UID, name}
}

// ReplacedCopies returns the names of the copies of a tenant that are not as their originals are now. One whose CredentialProvider does
// not exist, or was not tried yet, is not among them.
func (i *Issuer) ReplacedCopies(ctx context.Context, tenant *v1alpha1.Tenant) (names []string, err error) {
	for _, c := range tenant.Spec.Credentials {
		if !slices.ContainsFunc(tenant.Status.CopiedSecrets, func(made v1alpha1.CopiedSecret) bool { return made.Credential == c.Name }) {
			continue
		}
		current, known, err := i.currentCopy(ctx, tenant, c)
		if err != nil {
			return nil, err
		}
		for _, made := range tenant.Status.CopiedSecrets {
			if known && made.Credential == c.Name && made.Name != current {
				names = append(names, made.Name)
			}
		}
	}
	return names, nil
}

// currentCopy is the name of the copy that a run would get now. It is empty when a run would get none.
func (i *Issuer) currentCopy(ctx context.Context, tenant *v1alpha1.Tenant, c v1alpha1.TenantCredential) (name string, known bool, err error) {
	i.mu.Lock()
	s := i.source(&c)
	if s == nil || s.provider == nil {
		i.mu.Unlock()
		return "", false, nil
	}
	provider, perRun := s.provider, s.can.PerRun
	i.mu.Unlock()
	if perRun {
		return "", true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	of := credential.Tenant{Name: tenant.Name, UID: tenant.UID, ExternalID: tenant.ExternalID()}
	now, err := provider.Issue(ctx, credential.Request{Tenant: of, Credential: c})
	switch e := credential.AsError(err); {
	case err == nil && now.Version != "":
		return copyName(c.Name, now.Version), true, nil
	case err == nil, e != nil && !e.Transient: // It is another kind of provider by now, or there is no such Secret.
		return "", true, nil
	}
	return "", false, fmt.Errorf("reading the Secret of credential %s of tenant %s: %w", c.Name, tenant.Name, err)
}

// DeleteCopies deletes those of some copies that no run has, and returns their names. Between the look at who has them and the deletion
// nobody is given any for the same credential.
func (i *Issuer) DeleteCopies(ctx context.Context, tenant *v1alpha1.Tenant, copies []v1alpha1.CopiedSecret) (deleted []string, err error) {
	copies = i.beginDeletion(tenant.UID, copies)
	if len(copies) == 0 {
		return nil, nil
	}
	defer i.endDeletion(tenant.UID, copies)
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	mounted, err := i.mountedCopies(ctx, tenant)
	if err != nil {
		return nil, err
	}
	for _, c := range copies {
		if mounted[c.Name] {
			continue
		}
		if failure := i.DeleteSecret(ctx, types.NamespacedName{Namespace: tenant.NamespaceName(), Name: c.Name}); failure != nil {
			err = errors.Join(err, failure)
			continue
		}
		deleted = append(deleted, c.Name)
		i.forgetCopy(tenant, c.Name)
	}
	return deleted, err
}

// mountedCopies are the copies that the tenant's Jobs mount which have not ended. It asks the API server: the cache may lack a Job that an
// earlier process has made.
func (i *Issuer) mountedCopies(ctx context.Context, tenant *v1alpha1.Tenant) (map[string]bool, error) {
	var jobs batchv1.JobList
	if err := i.Live.List(ctx, &jobs, client.InNamespace(tenant.NamespaceName()), client.MatchingLabels{v1alpha1.LabelTenant: tenant.Name}); err != nil {
		return nil, fmt.Errorf("listing the Jobs of tenant %s: %w", tenant.Name, err)
	}
	names := map[string]bool{}
	for n := range jobs.Items {
		if job.IsLive(&jobs.Items[n]) {
			for _, name := range kube.CopiesOf(&jobs.Items[n]) {
				names[name] = true
			}
		}
	}
	return names, nil
}

// beginDeletion returns those of some copies that no run of this process has or is given. Until endDeletion none is given any for the same
// credentials.
func (i *Issuer) beginDeletion(tenant types.UID, copies []v1alpha1.CopiedSecret) (free []v1alpha1.CopiedSecret) {
	i.mu.Lock()
	defer i.mu.Unlock()
	used := map[string]bool{}
	for _, r := range i.runs {
		for _, c := range r.credentials {
			if r.tenant == tenant && c.wanted {
				used[c.secret] = true
			}
		}
	}
	for t := range i.issuing {
		for _, c := range copies {
			if t.run.tenant == tenant && t.credential.name == c.Credential {
				used[c.Name] = true // It may be the one.
			}
		}
	}
	for _, c := range copies {
		if !used[c.Name] {
			free = append(free, c)
			i.deleting[credentialOfTenant{tenant, c.Credential}] = true
		}
	}
	return free
}

func (i *Issuer) endDeletion(tenant types.UID, copies []v1alpha1.CopiedSecret) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, c := range copies {
		delete(i.deleting, credentialOfTenant{tenant, c.Credential})
	}
}

// beginIssue notes that a credential is being issued. It is false while copies for it are being deleted.
func (i *Issuer) beginIssue(t *task) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.deleting[credentialOfTenant{t.run.tenant, t.credential.name}] {
		return false
	}
	i.issuing[t] = true
	return true
}

func (i *Issuer) endIssue(t *task) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.issuing, t)
}
