package v1alpha1

import (
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TenantJobTemplate says what to run: a pod template with typed parameters, a queue, and the credentials that it needs.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=tjt,categories=tenantry
// +kubebuilder:printcolumn:name="Queue",type=string,JSONPath=`.spec.queueRef.name`
// +kubebuilder:printcolumn:name="Priority",type=string,JSONPath=`.spec.priority`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || (self.metadata.name.size() <= 63 && !format.dns1123Label().validate(self.metadata.name).hasValue())",optionalOldSelf=true,message="`metadata.name` must be a DNS-1123 label of at most 63 characters"
type TenantJobTemplate struct {
	metav1.TypeMeta `json:",inline"`

	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what runs.
	// +required
	Spec TenantJobTemplateSpec `json:"spec,omitzero"`

	// status says whether the template can run.
	// +optional
	// +default={"observedGeneration": -1}
	Status TenantJobTemplateStatus `json:"status,omitzero"`
}

// TenantJobTemplateSpec says what runs.
type TenantJobTemplateSpec struct {
	// description for people.
	// +optional
	// +kubebuilder:validation:MinLength=0
	// +kubebuilder:validation:MaxLength=1024
	Description string `json:"description,omitempty"`

	// queueRef names the TenantQueue in which its jobs wait. Unset means "default".
	// +optional
	QueueRef *LabelReference `json:"queueRef,omitempty"`

	// priority orders the waiting jobs of one tenant. It is never compared with other tenants' priorities. Unset means
	// Medium.
	// +optional
	// +default="Medium"
	Priority JobPriority `json:"priority,omitempty"`

	// maxConcurrentPerTenant is how many jobs of the template run at once for one tenant; the others wait. Unset means no
	// limit of its own.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	MaxConcurrentPerTenant *int32 `json:"maxConcurrentPerTenant,omitempty"`

	// maxWaitSeconds is how long limits may hold a TenantJob, in seconds. After that it ends as Expired. Unset means for
	// ever. A TenantJob's own maxWaitSeconds takes precedence.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxWaitSeconds *int32 `json:"maxWaitSeconds,omitempty"`

	// parameters that a TenantJob may set or has to set.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	Parameters []Parameter `json:"parameters,omitempty"`

	// credentials of its tenant that the pod gets. It gets no others.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Credentials []TemplateCredential `json:"credentials,omitempty"`

	// memberDispatch lets members of some tenants create TenantJobs from this template. Unset means of no tenant.
	// +optional
	MemberDispatch *MemberDispatch `json:"memberDispatch,omitempty"`

	// ttlSecondsAfterFinished is how long a TenantJob that succeeded is kept, in seconds. Unset means until its owner is
	// deleted.
	// +optional
	// +kubebuilder:validation:Minimum=0
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`

	// failedTTLSecondsAfterFinished is how long a TenantJob that ended without success is kept, in seconds. Unset means until its
	// owner is deleted, and for one without an owner until somebody deletes it: a GitOps tool that still has its manifest would
	// create it again, and it would run a second time.
	// +optional
	// +kubebuilder:validation:Minimum=0
	FailedTTLSecondsAfterFinished *int32 `json:"failedTTLSecondsAfterFinished,omitempty"`

	// jobTemplate is the template of the Job. Its activeDeadlineSeconds, if unset, is a day.
	// +required
	JobTemplate batchv1.JobTemplateSpec `json:"jobTemplate,omitzero"`
}

// JobPriority orders the waiting jobs of one tenant.
// +kubebuilder:validation:Enum=High;Medium;Low
type JobPriority string

// The priorities.
const (
	PriorityHigh   JobPriority = "High"
	PriorityMedium JobPriority = "Medium"
	PriorityLow    JobPriority = "Low"
)

// Parameter of a template.
// +kubebuilder:validation:XValidation:rule="!(has(self.required) && self.required && has(self.default))",message="`default` must not be set on a required parameter"
// +kubebuilder:validation:XValidation:rule="!has(self.default) || !has(self.enum) || self.default in self.enum",message="`default` must be one of enum"
type Parameter struct {
	// name by which a TenantJob sets it: a letter, then letters and digits.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z][A-Za-z0-9]*$`
	Name string `json:"name,omitempty"`

	// env is the environment variable that has the value in the pod. Unset means the name in upper snake case: GRACE_DAYS
	// for graceDays.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_]*$`
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('TENANTRY_') && !(self in ['TENANT_ID', 'TENANT_NAME', 'SERVICE_BINDING_ROOT'])",message="`env` must not be TENANT_ID, TENANT_NAME, SERVICE_BINDING_ROOT or start with TENANTRY_: they belong to the operator"
	Env string `json:"env,omitempty"`

	// type of the value. Unset means String.
	// +optional
	// +default="String"
	Type ParameterType `json:"type,omitempty"`

	// description for people.
	// +optional
	// +kubebuilder:validation:MinLength=0
	// +kubebuilder:validation:MaxLength=1024
	Description string `json:"description,omitempty"`

	// required means that a TenantJob has to set it. Unset means false.
	// +optional
	Required *bool `json:"required,omitempty"`

	// default is the value if a TenantJob does not set one. If it is unset and the parameter is not required, the variable
	// is not set.
	// +optional
	Default *ParameterValue `json:"default,omitempty"`

	// pattern is an RE2 expression that some part of the value must match; anchor it with ^ and $.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Pattern string `json:"pattern,omitempty"`

	// enum lists the values that are allowed. Unset means any.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Enum []ParameterValue `json:"enum,omitempty"`

	// tag puts the value on the TenantJob, its Job and pods as the label tag.tenantry.dev/<name>. Unset means false.
	// +optional
	Tag *bool `json:"tag,omitempty"`
}

// ParameterType is the type of a parameter's value.
// +kubebuilder:validation:Enum=String;Integer;Boolean
type ParameterType string

const (
	// ParameterString is any text.
	ParameterString ParameterType = "String"
	// ParameterInteger is a decimal integer of 64 bits.
	ParameterInteger ParameterType = "Integer"
	// ParameterBoolean is true or false.
	ParameterBoolean ParameterType = "Boolean"
)

// TemplateCredential is a credential that the pod gets.
type TemplateCredential struct {
	// name of the tenant's credential.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`

	// env sets environment variables from keys of the credential, for images that can't read files.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Env []CredentialEnv `json:"env,omitempty"`
}

// CredentialEnv sets an environment variable from a key of a credential.
type CredentialEnv struct {
	// name of the variable.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^[A-Za-z_][A-Za-z0-9_]*$`
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('TENANTRY_') && !(self in ['TENANT_ID', 'TENANT_NAME', 'SERVICE_BINDING_ROOT'])",message="`env.name` must not be TENANT_ID, TENANT_NAME, SERVICE_BINDING_ROOT or start with TENANTRY_: they belong to the operator"
	Name string `json:"name,omitempty"`

	// key of the credential.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	Key string `json:"key,omitempty"`
}

// MemberDispatch says which tenants' members may dispatch a template.
type MemberDispatch struct {
	// tenantSelector selects these Tenants by their labels. An empty selector selects all.
	// +required
	TenantSelector *metav1.LabelSelector `json:"tenantSelector,omitempty"`
}

// TenantJobTemplateStatus says whether a template can run.
type TenantJobTemplateStatus struct {
	// observedGeneration is the generation of the spec that this status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// conditions of the template: Ready; Reconciling and Stalled while they apply.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// TenantJobTemplateList is a list of TenantJobTemplates.
// +kubebuilder:object:root=true
type TenantJobTemplateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TenantJobTemplate `json:"items"`
}

// DefaultQueue is the queue of templates that name none.
const DefaultQueue = "default"

// QueueName returns the name of the template's queue, the default applied.
func (t *TenantJobTemplate) QueueName() string {
	if t.Spec.QueueRef != nil {
		return t.Spec.QueueRef.Name
	}
	return DefaultQueue
}
