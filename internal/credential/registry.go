package credential

import (
	"context"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Kind is a kind of provider, one for each field of CredentialProvider.spec.
type Kind struct {
	// Name is that of the field.
	Name string
	// Has says whether a CredentialProvider is of this kind.
	Has func(v1alpha1.CredentialProviderSpec) bool
	// Capabilities of a CredentialProvider of this kind.
	Capabilities func(v1alpha1.CredentialProviderSpec) Capabilities
	// Refuses says why a tenant's credential, or what a template wants of it, does not fit, and what to change. It returns an empty text
	// when both fit. Nil refuses nothing.
	Refuses func(TenantsEntry) string
	// New returns the Provider of a CredentialProvider. It does not connect. Close, if the Provider has it, ends its connections.
	New func(context.Context, Settings) (Provider, error)
}

// TenantsEntry is a credential of a tenant and what a template wants of it.
type TenantsEntry struct {
	Tenant   v1alpha1.TenantCredential
	Template v1alpha1.TemplateCredential
}

// Settings are what a Provider is made from.
type Settings struct {
	// Provider is the object.
	Provider *v1alpha1.CredentialProvider
	// Cluster is the UID of this cluster. Other clusters may use the same source.
	Cluster types.UID
	// Secret reads the data of a Secret in the operator's namespace. Its error is of type *Error, with ReasonSecretNotFound, when there
	// is none.
	Secret func(ctx context.Context, name string) (Secret, error)
}

// Secret is a Secret in the operator's namespace.
type Secret struct {
	UID             types.UID
	ResourceVersion string
	Labels          map[string]string
	Type            string
	Values          Values
}

// Closer is what a Provider also is that has connections.
type Closer interface{ Close() }

// Kinds are the kinds of providers that the operator knows.
type Kinds []Kind

// Of returns the kind of a CredentialProvider. It is false for one that is of none of these kinds.
func (k Kinds) Of(spec v1alpha1.CredentialProviderSpec) (Kind, bool) {
	for _, kind := range k {
		if kind.Has(spec) {
			return kind, true
		}
	}
	return Kind{}, false
}
