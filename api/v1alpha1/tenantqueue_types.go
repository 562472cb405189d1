package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TenantQueue is a queue in which TenantJobs wait. It has limits, is fair between tenants, and can be suspended. The queue
// "default" needs no object; without one it has no limits.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=tq,categories=tenantry
// +kubebuilder:printcolumn:name="Waiting",type=integer,JSONPath=`.status.waiting`
// +kubebuilder:printcolumn:name="Running",type=integer,JSONPath=`.status.running`
// +kubebuilder:printcolumn:name="Oldest",type=date,JSONPath=`.status.oldestWaitingTime`
// +kubebuilder:printcolumn:name="Suspended",type=boolean,JSONPath=`.spec.suspend`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || (self.metadata.name.size() <= 63 && !format.dns1123Label().validate(self.metadata.name).hasValue())",optionalOldSelf=true,message="`metadata.name` must be a DNS-1123 label of at most 63 characters"
type TenantQueue struct {
	metav1.TypeMeta `json:",inline"`

	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec has the queue's limits. Unset means that there are none.
	// +optional
	// +default={}
	Spec TenantQueueSpec `json:"spec,omitzero"`

	// status says what waits and runs.
	// +optional
	// +default={"observedGeneration": -1}
	Status TenantQueueStatus `json:"status,omitzero"`
}

// TenantQueueSpec has a queue's limits.
type TenantQueueSpec struct {
	// suspend means that nothing of the queue starts; what runs goes on. Unset means false.
	// +optional
	Suspend *bool `json:"suspend,omitempty"`

	// maxConcurrent is how many of the queue's jobs run at once. Unset means no limit of its own.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MaxConcurrent *int32 `json:"maxConcurrent,omitempty"`

	// maxConcurrentPerTenant is how many of the queue's jobs run at once for one tenant. Unset means no limit of its own.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MaxConcurrentPerTenant *int32 `json:"maxConcurrentPerTenant,omitempty"`

	// startsPerMinute is how many of the queue's jobs start in any sixty seconds. Unset means no limit of its own.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	StartsPerMinute *int32 `json:"startsPerMinute,omitempty"`
}

// TenantQueueStatus says what waits and runs.
type TenantQueueStatus struct {
	// observedGeneration is the generation of the spec that this status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// waiting is how many TenantJobs wait in the queue. Unset until they are counted.
	// +optional
	Waiting *int32 `json:"waiting,omitempty"`

	// running is how many TenantJobs of the queue run. Unset until they are counted.
	// +optional
	Running *int32 `json:"running,omitempty"`

	// oldestWaitingTime is when the oldest TenantJob that waits was created. Unset when none waits.
	// +optional
	OldestWaitingTime *metav1.Time `json:"oldestWaitingTime,omitempty"`

	// starts are those that startsPerMinute counts. They are written down before they are made, so that a new leader of the operator
	// exceeds the limit no more than an old one. Unset without that limit.
	// +optional
	Starts *RecordedStarts `json:"starts,omitempty"`

	// conditions of the queue: Ready; Reconciling and Stalled while they apply.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RecordedStarts are the starts in a queue that has startsPerMinute.
type RecordedStarts struct {
	// time is when they were written down.
	// +required
	Time metav1.MicroTime `json:"time,omitzero"`

	// reserved is how many starts may have been made since.
	// +required
	// +kubebuilder:validation:Minimum=0
	Reserved *int32 `json:"reserved,omitempty"`

	// recent are the starts of the minute before.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Recent []RecordedStart `json:"recent,omitempty"`
}

// RecordedStart is a number of starts.
type RecordedStart struct {
	// time after which none of them was made.
	// +required
	Time metav1.Time `json:"time,omitzero"`

	// count of the starts.
	// +required
	// +kubebuilder:validation:Minimum=1
	Count int32 `json:"count,omitempty"`
}

// TenantQueueList is a list of TenantQueues.
// +kubebuilder:object:root=true
type TenantQueueList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TenantQueue `json:"items"`
}
