// Package secret is the provider that gives a run a copy of a Secret of the operator's namespace. What is in it is the tenant's own:
// it is the same for every run and outlives them, so nothing is issued or revoked.
package secret

import (
	"context"
	"fmt"
	"maps"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
)

// Type is the key `type` of the binding, unless the Secret has one.
const Type = "secret"

// Kind returns the kind of provider.
func Kind() credential.Kind {
	return credential.Kind{
		Name: "secret",
		Has:  func(spec v1alpha1.CredentialProviderSpec) bool { return spec.Secret != nil },
		Capabilities: func(v1alpha1.CredentialProviderSpec) credential.Capabilities {
			return credential.Capabilities{Revocation: credential.RevocationNone}
		},
		Refuses: refuses,
		New: func(_ context.Context, s credential.Settings) (credential.Provider, error) {
			return provider{s.Secret}, nil
		},
	}
}

func refuses(e credential.TenantsEntry) string {
	if e.Tenant.SecretRef == nil {
		return fmt.Sprintf("its provider copies a Secret: `spec.credentials[%s].secretRef` of the Tenant must name one in the operator's namespace", e.Tenant.Name)
	}
	return ""
}

type provider struct {
	read func(ctx context.Context, name string) (credential.Secret, error)
}

// Issue returns what is in the Secret that the tenant's credential names. The Secret has the label tenantry.dev/tenant with the name of
// the Tenant: otherwise whoever writes Tenants could read every Secret of the operator's.
func (p provider) Issue(ctx context.Context, r credential.Request) (credential.Credential, error) {
	if r.Credential.SecretRef == nil {
		return credential.Credential{}, credential.Errorf(v1alpha1.ReasonSecretNotFound, "%s",
			refuses(credential.TenantsEntry{Tenant: r.Credential}))
	}
	name := r.Credential.SecretRef.Name
	s, err := p.read(ctx, name)
	if err != nil {
		return credential.Credential{}, err
	}
	if s.Labels[v1alpha1.LabelTenant] != r.Tenant.Name {
		return credential.Credential{}, credential.Errorf(v1alpha1.ReasonSecretNotFound,
			"Secret %s in the operator's namespace must have the label %s: %s to be given to this tenant's jobs", name, v1alpha1.LabelTenant, r.Tenant.Name)
	}
	values := maps.Clone(s.Values)
	if values == nil {
		values = credential.Values{}
	}
	kind := Type
	if own := string(values["type"]); own != "" {
		kind = own
	}
	return credential.Credential{Type: kind, Values: values, Version: string(s.UID) + "/" + s.ResourceVersion}, nil
}

// Revoke does nothing: what is in the Secret is the tenant's own.
func (provider) Revoke(context.Context, credential.Handle) error { return nil }

// List returns nothing, since nothing is issued.
func (provider) List(context.Context) ([]credential.Issued, error) { return nil, nil }
