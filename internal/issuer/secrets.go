package issuer

import (
	"context"
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

// secretOfRun is the name of the Secret with a credential that was issued for one run.
func secretOfRun(h credential.Handle) string { return "tenantry-credential-" + string(h) }

// deliver puts the values of a credential into an immutable Secret in the tenant's namespace, and returns its name. That of a run
// belongs to its TenantJob, and is never that of an earlier attempt. That of a tenant is there already, mostly.
func (i *Issuer) deliver(ctx context.Context, t task, tenant *v1alpha1.Tenant, c credential.Credential) (string, error) {
	if c.Version != "" {
		return i.deliverCopy(ctx, t, tenant, c)
	}
	secret := secretFor(t, secretOfRun(t.credential.request.Handle), c)
	secret.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "TenantJob", Name: t.run.key.Name, UID: t.run.uid,
	}}
	err := i.Create(ctx, secret, client.FieldOwner(kube.FieldManager))
	if apierrors.IsAlreadyExists(err) {
		// The secret in it was replaced at the source.
		if err = i.DeleteSecret(ctx, kube.KeyOf(secret)); err == nil {
			secret.ResourceVersion = ""
			err = i.Create(ctx, secret, client.FieldOwner(kube.FieldManager))
		}
	}
	if err != nil {
		return "", fmt.Errorf("creating Secret %s: %w", kube.KeyOf(secret), err)
	}
	return secret.Name, nil
}

// secretFor returns the Secret with the values of a credential.
func secretFor(t task, name string, c credential.Credential) *corev1.Secret {
	values := credential.Values{}
	maps.Copy(values, c.Values)
	values["type"], values["provider"] = []byte(c.Type), []byte(t.credential.source)
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: t.run.key.Namespace, Name: name,
			Labels: map[string]string{v1alpha1.LabelTenant: t.run.tenantName, v1alpha1.LabelManaged: "true"},
		},
		Immutable: new(true), Data: values, Type: corev1.SecretType("servicebinding.io/" + c.Type),
	}
}
