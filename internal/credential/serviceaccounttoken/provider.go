// Package serviceaccounttoken is the provider that gives a run a token of its tenant's service account, for services that trust the
// cluster's issuer. The kubelet requests the token for the pod and renews it. It is bound to the pod: nobody accepts it any more when
// that is gone, so nothing has to be issued or revoked here.
package serviceaccounttoken

import (
	"context"
	"time"

	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
)

// Type is the key `type` of the binding.
const Type = "service-account-token"

// Kind returns the kind of provider.
func Kind() credential.Kind {
	return credential.Kind{
		Name: "serviceAccountToken",
		Has:  func(spec v1alpha1.CredentialProviderSpec) bool { return spec.ServiceAccountToken != nil },
		Capabilities: func(v1alpha1.CredentialProviderSpec) credential.Capabilities {
			return credential.Capabilities{Revocation: credential.RevocationAtExpiry}
		},
		Refuses: refuses,
		New: func(_ context.Context, s credential.Settings) (credential.Provider, error) {
			return provider{*s.Provider.Spec.ServiceAccountToken}, nil
		},
	}
}

func refuses(e credential.TenantsEntry) string {
	if len(e.Template.Env) > 0 {
		return "a token is renewed while the pod runs and can't be an environment variable: read it from its file, and take `env` out of the template's credential"
	}
	return ""
}

type provider struct {
	spec v1alpha1.ServiceAccountTokenProvider
}

// Issue returns what the kubelet has to request.
func (p provider) Issue(context.Context, credential.Request) (credential.Credential, error) {
	lifetime := time.Duration(ptr.Deref(p.spec.ExpirationSeconds, 3600)) * time.Second
	return credential.Credential{Type: Type, Token: &credential.Token{Audience: p.spec.Audience, Lifetime: lifetime}}, nil
}

// Revoke does nothing: the token is bound to the pod.
func (provider) Revoke(context.Context, credential.Handle) error { return nil }

// List returns nothing, since nothing is issued.
func (provider) List(context.Context) ([]credential.Issued, error) { return nil, nil }
