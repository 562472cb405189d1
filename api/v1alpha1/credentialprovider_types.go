package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CredentialProvider issues credentials for tenants' jobs. It is Ready when a credential was issued, tried and revoked.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=credp,categories=tenantry
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type CredentialProvider struct {
	metav1.TypeMeta `json:",inline"`

	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec has exactly one kind of provider.
	// +required
	Spec CredentialProviderSpec `json:"spec,omitzero"`

	// status says whether it can issue credentials.
	// +optional
	Status CredentialProviderStatus `json:"status,omitzero"`
}

// CredentialProviderSpec has exactly one kind of provider.
// +kubebuilder:validation:XValidation:rule="[has(self.secret), has(self.serviceAccountToken), has(self.postgres)].filter(x, x).size() == 1",message="`spec` must have exactly one of secret, serviceAccountToken, postgres"
// +kubebuilder:validation:XValidation:rule="has(self.secret) == has(oldSelf.secret) && has(self.serviceAccountToken) == has(oldSelf.serviceAccountToken) && has(self.postgres) == has(oldSelf.postgres)",message="`spec` must stay of one kind, since what was issued there has to be revoked there: create another CredentialProvider, name it in the Tenants, and delete this one"
type CredentialProviderSpec struct {
	// secret copies a Secret from the operator's namespace. The tenant's credential names it, and it must have the label
	// tenantry.dev/tenant: <name>.
	// +optional
	Secret *SecretProvider `json:"secret,omitempty"`

	// serviceAccountToken projects a token of the run's service account.
	// +optional
	ServiceAccountToken *ServiceAccountTokenProvider `json:"serviceAccountToken,omitempty"`

	// postgres creates a PostgreSQL role for each run.
	// +optional
	Postgres *PostgresProvider `json:"postgres,omitempty"`
}

// SecretProvider copies Secrets. It has no settings.
type SecretProvider struct{}

// ServiceAccountTokenProvider projects service account tokens.
type ServiceAccountTokenProvider struct {
	// audience of the token.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Audience string `json:"audience,omitempty"`

	// expirationSeconds is the token's lifetime, in seconds. The kubelet renews the token while the pod runs. Unset means
	// 3600.
	// +optional
	// +default=3600
	// +kubebuilder:validation:Minimum=600
	// +kubebuilder:validation:Maximum=86400
	ExpirationSeconds *int32 `json:"expirationSeconds,omitempty"`
}

// PostgresProvider creates a PostgreSQL role for each run.
// +kubebuilder:validation:XValidation:rule="self.host == oldSelf.host && self.port == oldSelf.port && self.database == oldSelf.database",message="`postgres` must keep its host, port and database, since what was issued there has to be revoked there: create another CredentialProvider, name it in the Tenants, and delete this one"
type PostgresProvider struct {
	// adminSecretRef names a Secret in the operator's namespace with the keys username and password of a member of the role
	// tenantry_operator, see docs/credentials.md. It needs no other right.
	// +required
	AdminSecretRef LocalReference `json:"adminSecretRef,omitzero"`

	// host of the server. Immutable.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9:]([A-Za-z0-9:.-]*[A-Za-z0-9])?$`
	Host string `json:"host,omitempty"`

	// port of the server. Unset means 5432. Immutable.
	// +optional
	// +default=5432
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port *int32 `json:"port,omitempty"`

	// database to connect to. Immutable.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="size(bytes(self)) <= 63",message="`database` must have at most 63 bytes"
	Database string `json:"database,omitempty"`

	// sslMode as in libpq. Unset means verify-full.
	// +optional
	// +default="verify-full"
	SSLMode SSLMode `json:"sslMode,omitempty"`

	// caSecretRef names a Secret in the operator's namespace with the key ca.crt: the certificates, as PEM, of the authorities that
	// may have signed the server's. Runs get them too. Unset means those that the operator's image trusts.
	// +optional
	CASecretRef *LocalReference `json:"caSecretRef,omitempty"`

	// connectionLimit of a run's role. Unset means 5.
	// +optional
	// +default=5
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	ConnectionLimit *int32 `json:"connectionLimit,omitempty"`

	// maxLifetimeSeconds is how long a run's role is valid, in seconds. Unset means 3600.
	// +optional
	// +default=3600
	// +kubebuilder:validation:Minimum=60
	// +kubebuilder:validation:Maximum=604800
	MaxLifetimeSeconds *int32 `json:"maxLifetimeSeconds,omitempty"`
}

// SSLMode is libpq's sslmode.
// +kubebuilder:validation:Enum=disable;require;verify-ca;verify-full
type SSLMode string

// The modes, as libpq names them.
const (
	SSLDisable    SSLMode = "disable"
	SSLRequire    SSLMode = "require"
	SSLVerifyCA   SSLMode = "verify-ca"
	SSLVerifyFull SSLMode = "verify-full"
)

// CredentialProviderStatus says whether a provider can issue credentials.
type CredentialProviderStatus struct {
	// observedGeneration is the generation of the spec that this status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions of the provider: Ready; Reconciling and Stalled while they apply.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// CredentialProviderList is a list of CredentialProviders.
// +kubebuilder:object:root=true
type CredentialProviderList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []CredentialProvider `json:"items"`
}
