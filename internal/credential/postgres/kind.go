package postgres

import (
	"context"
	"fmt"
	"time"

	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
)

// Kind returns the kind of provider.
func Kind() credential.Kind {
	return credential.Kind{
		Name: "postgres",
		Has:  func(spec v1alpha1.CredentialProviderSpec) bool { return spec.Postgres != nil },
		Capabilities: func(spec v1alpha1.CredentialProviderSpec) credential.Capabilities {
			return capabilities(maxLifetime(*spec.Postgres))
		},
		Refuses: func(e credential.TenantsEntry) string { return tooLong(e.Tenant) },
		New: func(ctx context.Context, s credential.Settings) (credential.Provider, error) {
			settings, err := settingsOf(ctx, s)
			if err != nil {
				return nil, err
			}
			return New(settings)
		},
	}
}

func maxLifetime(spec v1alpha1.PostgresProvider) time.Duration {
	return time.Duration(ptr.Deref(spec.MaxLifetimeSeconds, 3600)) * time.Second
}

// settingsOf reads the Secrets that a CredentialProvider names.
func settingsOf(ctx context.Context, s credential.Settings) (Settings, error) {
	spec := *s.Provider.Spec.Postgres
	settings := Settings{
		Cluster: s.Cluster, Provider: s.Provider.UID,
		Host: spec.Host, Port: ptr.Deref(spec.Port, 5432), Database: spec.Database, SSLMode: spec.SSLMode,
		ConnectionLimit: ptr.Deref(spec.ConnectionLimit, 5), MaxLifetime: maxLifetime(spec),
	}
	if settings.SSLMode == "" {
		settings.SSLMode = v1alpha1.SSLVerifyFull
	}
	admin, err := s.Secret(ctx, spec.AdminSecretRef.Name)
	if err != nil {
		return settings, err
	}
	settings.Username, settings.Password = string(admin.Values["username"]), string(admin.Values["password"])
	if settings.Username == "" || settings.Password == "" {
		return settings, missingKey(spec.AdminSecretRef.Name, "username and password")
	}
	if spec.CASecretRef == nil {
		return settings, nil
	}
	ca, err := s.Secret(ctx, spec.CASecretRef.Name)
	if err != nil {
		return settings, err
	}
	if settings.CA = ca.Values["ca.crt"]; len(settings.CA) == 0 {
		return settings, missingKey(spec.CASecretRef.Name, "ca.crt")
	}
	return settings, nil
}

func missingKey(secret, key string) error {
	return credential.Errorf(v1alpha1.ReasonSecretNotFound, "%s", fmt.Sprintf("Secret %s in the operator's namespace must have %s", secret, key))
}
