package issuer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/kube"
)

// secretPrefix is what the names of all Secrets with credentials begin with.
const secretPrefix = "tenantry-credential-"

// secretOfRun is the name of the Secret with a credential that was issued for one run.
func secretOfRun(h credential.Handle) string { return secretPrefix + string(h) }

// secretOfTenant is the name of the Secret with a credential that is the tenant's own, in one version.
func secretOfTenant(name, version string) string {
	sum := sha256.Sum256([]byte(version))
	return secretPrefix + name + "-" + hex.EncodeToString(sum[:])[:12]
}

// deliver puts the values of a credential into an immutable Secret in the tenant's namespace, and returns its name. That of a run
// belongs to its TenantJob, and is never that of an earlier attempt. That of a tenant is there already, mostly.
func (i *Issuer) deliver(ctx context.Context, t task, c credential.Credential) (string, error) {
	values := credential.Values{}
	maps.Copy(values, c.Values)
	values["type"], values["provider"] = []byte(c.Type), []byte(t.credential.source)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: t.run.key.Namespace, Name: secretOfRun(t.credential.request.Handle),
			Labels: map[string]string{v1alpha1.LabelTenant: t.run.tenantName, v1alpha1.LabelManaged: "true"},
		},
		Immutable: new(true), Data: values, Type: corev1.SecretType("servicebinding.io/" + c.Type),
	}
	if c.Version != "" {
		secret.Name = secretOfTenant(t.credential.name, c.Version)
		if err := i.Create(ctx, secret, client.FieldOwner(kube.FieldManager)); err != nil && !apierrors.IsAlreadyExists(err) {
			return "", fmt.Errorf("creating Secret %s: %w", kube.KeyOf(secret), err)
		}
		return secret.Name, nil
	}
	secret.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "TenantJob", Name: t.run.key.Name, UID: t.run.uid,
	}}
	err := i.Create(ctx, secret, client.FieldOwner(kube.FieldManager))
	if apierrors.IsAlreadyExists(err) {
		// The secret in it was replaced at the source.
		if err = i.deleteSecret(ctx, secret.Namespace, secret.Name); err == nil {
			secret.ResourceVersion = ""
			err = i.Create(ctx, secret, client.FieldOwner(kube.FieldManager))
		}
	}
	if err != nil {
		return "", fmt.Errorf("creating Secret %s: %w", kube.KeyOf(secret), err)
	}
	return secret.Name, nil
}

// deleteSecret deletes a Secret. That it is gone already is no error.
func (i *Issuer) deleteSecret(ctx context.Context, namespace, name string) error {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if err := i.Delete(ctx, secret); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting Secret %s: %w", kube.KeyOf(secret), err)
	}
	return nil
}
