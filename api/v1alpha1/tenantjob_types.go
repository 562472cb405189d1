package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TenantJob is one run of one template for one tenant. It is in the tenant's namespace, and its Job has the same name.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,shortName=tj,categories=tenantry
// +kubebuilder:printcolumn:name="Tenant",type=string,JSONPath=`.spec.tenantRef.name`
// +kubebuilder:printcolumn:name="Template",type=string,JSONPath=`.spec.templateRef.name`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Succeeded")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Succeeded")].message`
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || (self.metadata.name.size() <= 63 && !format.dns1123Label().validate(self.metadata.name).hasValue())",optionalOldSelf=true,message="`metadata.name` must be a DNS-1123 label of at most 63 characters"
type TenantJob struct {
	metav1.TypeMeta `json:",inline"`

	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what to run and for which tenant.
	// +required
	Spec TenantJobSpec `json:"spec,omitzero"`

	// status is the progress and the outcome of the run.
	// +optional
	// +default={"observedGeneration": -1}
	Status TenantJobStatus `json:"status,omitzero"`
}

// TenantJobSpec says what to run and for which tenant.
// +kubebuilder:validation:XValidation:rule="self.tenantRef == oldSelf.tenantRef",fieldPath=".tenantRef",message="`tenantRef` must not change"
// +kubebuilder:validation:XValidation:rule="self.templateRef == oldSelf.templateRef",fieldPath=".templateRef",message="`templateRef` must not change"
// +kubebuilder:validation:XValidation:rule="has(self.parameters) && has(oldSelf.parameters) ? self.parameters == oldSelf.parameters : (!has(self.parameters) || self.parameters.size() == 0) && (!has(oldSelf.parameters) || oldSelf.parameters.size() == 0)",fieldPath=".parameters",message="`parameters` must not change"
type TenantJobSpec struct {
	// tenantRef names the Tenant. It must be the tenant of the namespace. Immutable.
	// +required
	TenantRef TenantReference `json:"tenantRef,omitzero"`

	// templateRef names the TenantJobTemplate. Immutable.
	// +required
	TemplateRef LabelReference `json:"templateRef,omitzero"`

	// parameters for the template, by name: a letter, then letters and digits, at most 63. Immutable.
	// +optional
	// +mapType=atomic
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(name, name.matches('^[A-Za-z][A-Za-z0-9]{0,62}$'))",message="`parameters` must have names of at most 63 letters and digits, starting with a letter"
	Parameters map[string]ParameterValue `json:"parameters,omitempty"`

	// notBeforeTime is the earliest time at which it may start. Unset means now.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.getFullYear() >= 1970",message="`notBeforeTime` must be an RFC 3339 time such as 2026-11-24T02:00:00Z"
	NotBeforeTime *metav1.Time `json:"notBeforeTime,omitempty"`

	// maxWaitSeconds is how long limits may hold it, in seconds. After that it ends as Expired. Unset means the template's
	// maxWaitSeconds.
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxWaitSeconds *int32 `json:"maxWaitSeconds,omitempty"`

	// cancel ends it, whether it waits or runs. Unset means false.
	// +optional
	Cancel *bool `json:"cancel,omitempty"`
}

// TenantJobStatus is the progress and the outcome of a TenantJob.
type TenantJobStatus struct {
	// observedGeneration is the generation of the spec that this status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// jobRef names the Job in the same namespace.
	// +optional
	JobRef *LocalReference `json:"jobRef,omitempty"`

	// tenantUID is the UID of the Tenant that it ran for.
	// +optional
	TenantUID types.UID `json:"tenantUID,omitempty"`

	// templateGeneration is the generation of the template that it ran. While it waits, it is the one that first accepted its
	// parameters.
	// +optional
	TemplateGeneration int64 `json:"templateGeneration,omitempty"`

	// queuedTime is since when only a limit has held it. Unset while something else holds it, and after it has started.
	// +optional
	QueuedTime *metav1.Time `json:"queuedTime,omitempty"`

	// queuedSeconds is for how long only a limit held it before queuedTime. Both times count against maxWaitSeconds.
	// +optional
	QueuedSeconds int32 `json:"queuedSeconds,omitempty"`

	// startTime is when its Job was created.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// completionTime is when it ended.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// credentials that were created for it.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Credentials []CredentialStatus `json:"credentials,omitempty"`

	// conditions of the TenantJob: Succeeded; Reconciling and Stalled while they apply.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// CredentialStatus is the state of a credential that was created for a run.
type CredentialStatus struct {
	// name of the tenant's credential.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// issueTime is when it was issued.
	// +optional
	IssueTime *metav1.Time `json:"issueTime,omitempty"`

	// expirationTime is when it expires. Unset means that it does not expire by itself.
	// +optional
	ExpirationTime *metav1.Time `json:"expirationTime,omitempty"`

	// revocationTime is when it was revoked: nobody can log in with it any more. Unset until then, and for a credential that is the
	// tenant's own and not the run's.
	// +optional
	RevocationTime *metav1.Time `json:"revocationTime,omitempty"`
}

// TenantJobList is a list of TenantJobs.
// +kubebuilder:object:root=true
type TenantJobList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TenantJob `json:"items"`
}
