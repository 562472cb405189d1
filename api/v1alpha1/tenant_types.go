package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Tenant is a customer of the platform. It has a namespace, an identity, quotas, isolation and credentials of its own, and
// is active or suspended.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=tenantry
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.status.namespace.name`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Running",type=integer,JSONPath=`.status.running`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || (self.metadata.name.size() <= 40 && !format.dns1123Label().validate(self.metadata.name).hasValue())",optionalOldSelf=true,message="`metadata.name` must be a DNS-1123 label of at most 40 characters"
// +kubebuilder:validation:XValidation:rule="has(self.spec.externalID) ? self.spec.externalID == (has(oldSelf.spec.externalID) ? oldSelf.spec.externalID : oldSelf.metadata.name) : !has(oldSelf.spec.externalID) || oldSelf.spec.externalID == self.metadata.name",fieldPath=".spec.externalID",message="`spec.externalID` must not change"
// +kubebuilder:validation:XValidation:rule="has(self.spec.__namespace__) && has(self.spec.__namespace__.name) ? (has(oldSelf.spec.__namespace__) && has(oldSelf.spec.__namespace__.name) ? self.spec.__namespace__.name == oldSelf.spec.__namespace__.name : (self.spec.__namespace__.name.startsWith('tenant-') && self.spec.__namespace__.name.substring(7) == self.metadata.name)) : !(has(oldSelf.spec.__namespace__) && has(oldSelf.spec.__namespace__.name)) || (oldSelf.spec.__namespace__.name.startsWith('tenant-') && oldSelf.spec.__namespace__.name.substring(7) == self.metadata.name)",fieldPath=".spec.namespace.name",message="`spec.namespace.name` must not change"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.members) || (oldSelf.hasValue() && has(oldSelf.value().spec.members) && self.spec.members == oldSelf.value().spec.members) || self.spec.members.all(m, !has(m.subject.__namespace__) || (has(self.spec.__namespace__) && has(self.spec.__namespace__.name) ? m.subject.__namespace__ != self.spec.__namespace__.name : !(m.subject.__namespace__.startsWith('tenant-') && m.subject.__namespace__.substring(7) == self.metadata.name)))",optionalOldSelf=true,fieldPath=".spec.members",message="`spec.members` must not name a service account of the tenant's own namespace: a job's pod has no rights"
type Tenant struct {
	metav1.TypeMeta `json:",inline"`

	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the desired state of this tenant. Unset means that all is as the defaults say.
	// +optional
	// +default={}
	Spec TenantSpec `json:"spec,omitzero"`

	// status is the observed state of this tenant.
	// +optional
	// +default={"observedGeneration": -1}
	Status TenantStatus `json:"status,omitzero"`
}

// TenantSpec is the desired state of a tenant.
type TenantSpec struct {
	// externalID is the application's own id of the tenant, its tenant_id. Unset means the Tenant's name. Immutable.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([A-Za-z0-9._:@/-]*[A-Za-z0-9])?$`
	ExternalID string `json:"externalID,omitempty"`

	// suspend means that the tenant's jobs are stopped and no more start. Unset means false.
	// +optional
	Suspend *bool `json:"suspend,omitempty"`

	// suspendPolicy says what happens to running jobs when the tenant is suspended. Unset means Stop.
	// +optional
	// +default="Stop"
	SuspendPolicy SuspendPolicy `json:"suspendPolicy,omitempty"`

	// timeZone is the tenant's IANA time zone, for schedules with timeZoneFrom: Tenant and for the job itself. Unset
	// means Etc/UTC.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self == oldSelf.orValue('') || (self.matches('^[A-Z]') && self != 'Local' && !self.contains(':') && timestamp('2026-01-01T00:00:00Z').getFullYear(self) > 0)",optionalOldSelf=true,message="`timeZone` must be an IANA time zone such as Europe/Berlin"
	TimeZone string `json:"timeZone,omitempty"`

	// namespace says which namespace is the tenant's. Unset means tenant-<name>, created and deleted with the Tenant.
	// +optional
	Namespace *TenantNamespace `json:"namespace,omitempty"`

	// members get a role in the tenant's namespace, and nowhere else.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Members []TenantMember `json:"members,omitempty"`

	// isolation of the tenant's pods.
	// +optional
	Isolation *TenantIsolation `json:"isolation,omitempty"`

	// quota of the tenant's namespace.
	// +optional
	Quota *TenantQuota `json:"quota,omitempty"`

	// jobs limits all jobs of the tenant together.
	// +optional
	Jobs *TenantJobLimits `json:"jobs,omitempty"`

	// attributes are plain facts about the tenant. Every job of the tenant has them as environment variables
	// TENANTRY_ATTRIBUTE_<NAME>, with the name in upper case and "_" for "-" and ".". Do not put secrets here.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 63 && k.matches('^[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?$'))",message="`attributes` must have names of at most 63 letters, digits, '-', '_' or '.', starting with a letter"
	// +kubebuilder:validation:XValidation:rule="self.all(k, self.exists_one(l, k.upperAscii().replace('-', '_').replace('.', '_') == l.upperAscii().replace('-', '_').replace('.', '_')))",message="`attributes` must have names that differ in more than case, '-', '_' and '.'"
	Attributes map[string]AttributeValue `json:"attributes,omitempty"`

	// credentials for the tenant's jobs. A job gets only those that its template names.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Credentials []TenantCredential `json:"credentials,omitempty"`

	// enforcement is the phase of moving an existing namespace over. Unset means the operator's default.
	// +optional
	Enforcement Enforcement `json:"enforcement,omitempty"`
}

// SuspendPolicy says what happens to running jobs when a tenant is suspended.
// +kubebuilder:validation:Enum=Stop;Drain
type SuspendPolicy string

const (
	// SuspendPolicyStop stops running jobs.
	SuspendPolicyStop SuspendPolicy = "Stop"
	// SuspendPolicyDrain lets running pods finish. A job that needs another pod is stopped.
	SuspendPolicyDrain SuspendPolicy = "Drain"
)

// AttributeValue is the value of a tenant's attribute.
// +kubebuilder:validation:MaxLength=1024
// +kubebuilder:validation:XValidation:rule="!self.contains('\\u0000')",message="`attributes` must have values without NUL"
type AttributeValue string

// TenantNamespace says which namespace is a tenant's.
type TenantNamespace struct {
	// name of the namespace. Unset means tenant-<name>; set it only to adopt an existing namespace, whose annotation
	// tenantry.dev/adopt-by must name the Tenant. Immutable.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="self != 'default' && !self.startsWith('kube-')",message="`namespace.name` must not be default or start with kube-"
	Name string `json:"name,omitempty"`

	// deletionPolicy says what happens to the namespace when the Tenant is deleted. Unset means Delete. An adopted
	// namespace is always retained.
	// +optional
	// +default="Delete"
	DeletionPolicy NamespaceDeletionPolicy `json:"deletionPolicy,omitempty"`

	// labels are added to the namespace.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.matches('^([a-z0-9.-]+[.])?(tenantry[.]dev|kubernetes[.]io|k8s[.]io)/'))",message="`namespace.labels` must not use the prefixes tenantry.dev/, kubernetes.io/, k8s.io/ or those under them"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue())",message="`namespace.labels` must have valid label keys"
	Labels map[string]LabelValue `json:"labels,omitempty"`
}

// LabelValue is the value of a label.
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`
type LabelValue string

// NamespaceDeletionPolicy says what happens to a namespace when its Tenant is deleted.
// +kubebuilder:validation:Enum=Delete;Retain
type NamespaceDeletionPolicy string

const (
	// NamespaceDelete deletes the namespace and everything in it.
	NamespaceDelete NamespaceDeletionPolicy = "Delete"
	// NamespaceRetain keeps the namespace and removes the operator's objects, labels and annotations from it.
	NamespaceRetain NamespaceDeletionPolicy = "Retain"
)

// TenantMember is a user, group or service account with a role in the tenant's namespace.
type TenantMember struct {
	// role of the member. Viewer reads TenantJobs, Jobs, pods and their logs. Dispatcher may also create TenantJobs from
	// the templates that allow it, and cancel and delete those that no fan-out owns.
	// +required
	Role MemberRole `json:"role,omitempty"`

	// subject that has the role.
	// +required
	Subject MemberSubject `json:"subject,omitzero"`
}

// MemberRole is what a member may do.
// +kubebuilder:validation:Enum=Viewer;Dispatcher
type MemberRole string

const (
	// RoleViewer may read.
	RoleViewer MemberRole = "Viewer"
	// RoleDispatcher may read and dispatch.
	RoleDispatcher MemberRole = "Dispatcher"
)

// MemberSubject is a user, a group or a service account of another namespace.
// +kubebuilder:validation:XValidation:rule="has(self.__namespace__) == (self.kind == 'ServiceAccount')",message="`subject.namespace` must be set for a ServiceAccount and for nothing else"
// +kubebuilder:validation:XValidation:rule="self.kind == 'ServiceAccount' ? !format.dns1123Subdomain().validate(self.name).hasValue() : !self.name.startsWith('system:')",message="`subject.name` must be a DNS-1123 subdomain for a ServiceAccount, and must not start with system: for a User or Group"
// +kubebuilder:validation:XValidation:rule="self.kind != 'ServiceAccount' || self.name != 'tenant-runner'",message="`subject.name` must not be tenant-runner: a job's pod has no rights, and no member is another tenant's job"
type MemberSubject struct {
	// kind of the subject.
	// +required
	Kind SubjectKind `json:"kind,omitempty"`

	// namespace of a ServiceAccount.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace,omitempty"`

	// name of the subject. Kubernetes' own users and groups, which start with system:, can't be members.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`
}

// SubjectKind is the kind of a member.
// +kubebuilder:validation:Enum=User;Group;ServiceAccount
type SubjectKind string

// The kinds of subject, named as rbac.authorization.k8s.io names them.
const (
	SubjectUser           SubjectKind = "User"
	SubjectGroup          SubjectKind = "Group"
	SubjectServiceAccount SubjectKind = "ServiceAccount"
)

// TenantIsolation isolates the tenant's pods.
type TenantIsolation struct {
	// podSecurity is the Pod Security level of the namespace. Unset means Restricted.
	// +optional
	// +default="Restricted"
	PodSecurity PodSecurityLevel `json:"podSecurity,omitempty"`

	// egress rules, added to a default that denies everything but the cluster's DNS.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Egress []networkingv1.NetworkPolicyEgressRule `json:"egress,omitempty"`
}

// PodSecurityLevel is a level of the Pod Security Standards.
// +kubebuilder:validation:Enum=Restricted;Baseline
type PodSecurityLevel string

const (
	// PodSecurityRestricted is the level for untrusted workloads.
	PodSecurityRestricted PodSecurityLevel = "Restricted"
	// PodSecurityBaseline prevents known privilege escalations.
	PodSecurityBaseline PodSecurityLevel = "Baseline"
)

// TenantQuota is the quota of the tenant's namespace.
type TenantQuota struct {
	// hard limits, as in a ResourceQuota. What it does not name has a default: count/tenantjobs.tenantry.dev is 5000, and in the
	// phase Enforce services.nodeports and services.loadbalancers are 0. A limit can't be left out: a high number lifts it.
	// +optional
	Hard corev1.ResourceList `json:"hard,omitempty"`

	// containerDefaults apply to containers that do not set their own. Unset means requests of 100m CPU and 64Mi memory,
	// and no limits. In the phases Audit and Warn unset means no defaults.
	// +optional
	ContainerDefaults *ContainerDefaults `json:"containerDefaults,omitempty"`
}

// ContainerDefaults are resources for containers that do not set their own.
type ContainerDefaults struct {
	// requests by default.
	// +optional
	Requests corev1.ResourceList `json:"requests,omitempty"`

	// limits by default.
	// +optional
	Limits corev1.ResourceList `json:"limits,omitempty"`
}

// TenantJobLimits limits all jobs of the tenant together.
type TenantJobLimits struct {
	// maxConcurrent is how many of the tenant's jobs run at once; the others wait. Unset means no limit of its own.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	MaxConcurrent *int32 `json:"maxConcurrent,omitempty"`

	// weight is the tenant's share of a queue, relative to the weights of other tenants. Unset means 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight *int32 `json:"weight,omitempty"`
}

// TenantCredential is a credential for the tenant's jobs.
type TenantCredential struct {
	// name that templates use for it: a DNS-1123 label.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`

	// providerRef names the CredentialProvider that issues it.
	// +required
	ProviderRef LocalReference `json:"providerRef,omitzero"`

	// secretRef names the Secret in the operator's namespace that a provider of kind secret copies.
	// +optional
	SecretRef *LocalReference `json:"secretRef,omitempty"`

	// postgres says what is the tenant's own, for a provider of kind postgres whose tenants do not share their tables. Unset means
	// that they share them, and row security separates them. No two Tenants may name the same.
	// +optional
	Postgres *TenantPostgres `json:"postgres,omitempty"`
}

// TenantPostgres names the database or the schema that is the tenant's own.
// +kubebuilder:validation:XValidation:rule="has(self.database) || has(self.schema)",message="`postgres` must have database, schema or both"
type TenantPostgres struct {
	// database of the tenant. Unset means the provider's database.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="size(bytes(self)) <= 63",message="`database` must have at most 63 bytes"
	Database string `json:"database,omitempty"`

	// schema of the tenant. Unset means every schema of the tenant's database.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="size(bytes(self)) <= 63",message="`schema` must have at most 63 bytes"
	Schema string `json:"schema,omitempty"`
}

// Enforcement is a phase of moving an existing namespace over.
// +kubebuilder:validation:Enum=Audit;Warn;Enforce
type Enforcement string

const (
	// EnforcementAudit records what Enforce would refuse.
	EnforcementAudit Enforcement = "Audit"
	// EnforcementWarn also warns the client.
	EnforcementWarn Enforcement = "Warn"
	// EnforcementEnforce refuses.
	EnforcementEnforce Enforcement = "Enforce"
)

// TenantStatus is the observed state of a tenant.
type TenantStatus struct {
	// observedGeneration is the generation of the spec that this status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// namespace of the tenant. Unset until the tenant has it, and again while the namespace of a deleted Tenant is
	// released.
	// +optional
	Namespace *TenantNamespaceStatus `json:"namespace,omitempty"`

	// state is the value of the namespace's label tenantry.dev/state: active, suspended or deleting.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16
	State string `json:"state,omitempty"`

	// running is how many of the tenant's Jobs run. It is updated with a delay, so that short jobs cost no write.
	// +optional
	Running *int32 `json:"running,omitempty"`

	// copiedSecrets are the Secrets in the namespace that are copies of Secrets in the operator's namespace, or are about to be,
	// oldest first. One that no further run gets is deleted when no run has it any more.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=256
	CopiedSecrets []CopiedSecret `json:"copiedSecrets,omitempty"`

	// databases are the databases and schemas of spec.credentials that are this tenant's own. A Tenant that names one of them later is not
	// ready.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Databases []TenantDatabase `json:"databases,omitempty"`

	// conditions of the tenant: Ready, Suspended, Enforced, WorkloadsConform; Reconciling and Stalled while they apply.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// TenantNamespaceStatus is the namespace of the tenant.
type TenantNamespaceStatus struct {
	// name of the namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// uid of the namespace. Another namespace of the same name is not the tenant's.
	// +required
	UID types.UID `json:"uid,omitempty"`

	// adopted means that the namespace existed before the operator took it over, so that it is never deleted.
	// +optional
	Adopted bool `json:"adopted,omitempty"`
}

// CopiedSecret is a Secret in the tenant's namespace that is a copy of one version of a Secret in the operator's namespace.
type CopiedSecret struct {
	// name of the copy.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// credential is the name of the entry of spec.credentials that it was made for.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Credential string `json:"credential,omitempty"`

	// providerRef names the CredentialProvider of that entry.
	// +required
	ProviderRef LocalReference `json:"providerRef,omitzero"`

	// secretRef names the Secret in the operator's namespace.
	// +required
	SecretRef LocalReference `json:"secretRef,omitzero"`
}

// TenantDatabase is a database, or a schema of one.
type TenantDatabase struct {
	// server is the host and the port, as the CredentialProvider names them.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=262
	Server string `json:"server,omitempty"`

	// database on the server.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Database string `json:"database,omitempty"`

	// schema in the database. Unset means all of them.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Schema string `json:"schema,omitempty"`
}

// TenantList is a list of Tenants.
// +kubebuilder:object:root=true
type TenantList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Tenant `json:"items"`
}

// NamespaceName returns the name of the tenant's namespace, the default applied.
func (t *Tenant) NamespaceName() string {
	if t.Spec.Namespace != nil && t.Spec.Namespace.Name != "" {
		return t.Spec.Namespace.Name
	}
	return "tenant-" + t.Name
}

// ExternalID returns the application's own id of the tenant, the default applied.
func (t *Tenant) ExternalID() string {
	if t.Spec.ExternalID != "" {
		return t.Spec.ExternalID
	}
	return t.Name
}

// Suspended says whether the spec asks for suspension.
func (t *Tenant) Suspended() bool { return t.Spec.Suspend != nil && *t.Spec.Suspend }

// TimeZone returns the tenant's IANA time zone, the default applied.
func (t *Tenant) TimeZone() string {
	if t.Spec.TimeZone != "" {
		return t.Spec.TimeZone
	}
	return "Etc/UTC"
}
