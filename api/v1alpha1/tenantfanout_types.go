package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TenantFanOut runs one template for many tenants. It has a sealed plan, waves, a failure budget, and shows its progress.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=tfo,categories=tenantry
// +kubebuilder:printcolumn:name="Total",type=integer,JSONPath=`.status.counts.total`
// +kubebuilder:printcolumn:name="Succeeded",type=integer,JSONPath=`.status.counts.succeeded`
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.counts.failed`
// +kubebuilder:printcolumn:name="Skipped",type=integer,JSONPath=`.status.counts.skipped`
// +kubebuilder:printcolumn:name="Waiting",type=integer,JSONPath=`.status.counts.waiting`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Succeeded")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Succeeded")].message`
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || (self.metadata.name.size() <= 63 && !format.dns1123Label().validate(self.metadata.name).hasValue())",optionalOldSelf=true,message="`metadata.name` must be a DNS-1123 label of at most 63 characters"
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !has(self.spec.tenants.retryOf) || self.spec.tenants.retryOf.name != self.metadata.name",optionalOldSelf=true,message="`spec.tenants.retryOf.name` must name another TenantFanOut"
// +kubebuilder:validation:XValidation:rule="self.spec.templateRef == oldSelf.spec.templateRef",fieldPath=".spec.templateRef",message="`spec.templateRef` must not change"
// +kubebuilder:validation:XValidation:rule="has(self.spec.parameters) && has(oldSelf.spec.parameters) ? self.spec.parameters == oldSelf.spec.parameters : (!has(self.spec.parameters) || self.spec.parameters.size() == 0) && (!has(oldSelf.spec.parameters) || oldSelf.spec.parameters.size() == 0)",fieldPath=".spec.parameters",message="`spec.parameters` must not change"
// +kubebuilder:validation:XValidation:rule="has(self.spec.tenants.all) == has(oldSelf.spec.tenants.all) && (!has(self.spec.tenants.all) || self.spec.tenants.all == oldSelf.spec.tenants.all) && has(self.spec.tenants.selector) == has(oldSelf.spec.tenants.selector) && (!has(self.spec.tenants.selector) || self.spec.tenants.selector == oldSelf.spec.tenants.selector) && has(self.spec.tenants.names) == has(oldSelf.spec.tenants.names) && (!has(self.spec.tenants.names) || self.spec.tenants.names == oldSelf.spec.tenants.names) && has(self.spec.tenants.retryOf) == has(oldSelf.spec.tenants.retryOf) && (!has(self.spec.tenants.retryOf) || self.spec.tenants.retryOf == oldSelf.spec.tenants.retryOf) && (has(self.spec.tenants.exclude) && has(oldSelf.spec.tenants.exclude) ? self.spec.tenants.exclude == oldSelf.spec.tenants.exclude : (!has(self.spec.tenants.exclude) || self.spec.tenants.exclude.size() == 0) && (!has(oldSelf.spec.tenants.exclude) || oldSelf.spec.tenants.exclude.size() == 0))",fieldPath=".spec.tenants",message="`spec.tenants` must not change"
// +kubebuilder:validation:XValidation:rule="has(self.spec.strategy) && has(self.spec.strategy.waves) && has(oldSelf.spec.strategy) && has(oldSelf.spec.strategy.waves) ? self.spec.strategy.waves == oldSelf.spec.strategy.waves && self.spec.strategy.waves.map(w, w.name) == oldSelf.spec.strategy.waves.map(w, w.name) : !(has(self.spec.strategy) && has(self.spec.strategy.waves) && self.spec.strategy.waves.size() > 0) && !(has(oldSelf.spec.strategy) && has(oldSelf.spec.strategy.waves) && oldSelf.spec.strategy.waves.size() > 0)",fieldPath=".spec.strategy.waves",message="`spec.strategy.waves` must not change"
type TenantFanOut struct {
	metav1.TypeMeta `json:",inline"`

	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says what to run and for which tenants.
	// +required
	Spec TenantFanOutSpec `json:"spec,omitzero"`

	// status is the progress of the fan-out.
	// +optional
	// +default={"observedGeneration": -1}
	Status TenantFanOutStatus `json:"status,omitzero"`
}

// TenantFanOutSpec says what to run and for which tenants.
type TenantFanOutSpec struct {
	// templateRef names the TenantJobTemplate. Immutable.
	// +required
	TemplateRef LabelReference `json:"templateRef,omitzero"`

	// parameters for the template, by name, the same for every tenant. Immutable.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(name, name.matches('^[A-Za-z][A-Za-z0-9]{0,62}$'))",message="`parameters` must have names of at most 63 letters and digits, starting with a letter"
	Parameters map[string]ParameterValue `json:"parameters,omitempty"`

	// tenants to run for, as they are when the plan is sealed. Immutable.
	// +required
	Tenants TenantSelection `json:"tenants,omitzero"`

	// strategy says in what order, how many at once, and when to pause. Unset means all at once, with no failure budget.
	// +optional
	Strategy *FanOutStrategy `json:"strategy,omitempty"`

	// suspend pauses it: nothing new starts, what runs may finish. Unset means false.
	// +optional
	Suspend *bool `json:"suspend,omitempty"`

	// spreadSeconds spreads the starts over a window of that length. A tenant always has the same place in it. Unset means
	// 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	SpreadSeconds *int32 `json:"spreadSeconds,omitempty"`

	// ttlSecondsAfterFinished is how long it is kept after it has ended, in seconds. Unset means until it is deleted.
	// +optional
	// +kubebuilder:validation:Minimum=0
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`
}

// TenantSelection selects tenants.
// +kubebuilder:validation:XValidation:rule="[has(self.all), has(self.selector), has(self.names), has(self.retryOf)].filter(x, x).size() == 1",message="`tenants` must have exactly one of all, selector, names, retryOf"
type TenantSelection struct {
	// all selects all tenants. It has to be true; to leave everything out does not mean all.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self",message="`all` must be true or left out"
	All *bool `json:"all,omitempty"`

	// selector selects tenants by their labels.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// names of tenants.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=10000
	Names []TenantName `json:"names,omitempty"`

	// retryOf selects the tenants of another fan-out that have one of the outcomes. This one waits until that has ended.
	// +optional
	RetryOf *RetryOf `json:"retryOf,omitempty"`

	// exclude removes these tenants from the selection.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1000
	Exclude []TenantName `json:"exclude,omitempty"`
}

// RetryOf selects tenants by their outcome in another fan-out.
type RetryOf struct {
	// name of the fan-out.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`

	// outcomes to retry. Unset means Failed.
	// +optional
	// +listType=set
	// +default=["Failed"]
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	Outcomes []RetryOutcome `json:"outcomes,omitempty"`
}

// RetryOutcome is an outcome that can be retried.
// +kubebuilder:validation:Enum=Failed;Skipped
type RetryOutcome string

const (
	// RetryFailed retries those that failed.
	RetryFailed RetryOutcome = "Failed"
	// RetrySkipped retries those that were skipped.
	RetrySkipped RetryOutcome = "Skipped"
)

// FanOutStrategy says in what order, how many at once, and when to pause.
type FanOutStrategy struct {
	// maxConcurrent is how many of the fan-out's TenantJobs run at once, a number or a percentage of the planned tenants.
	// Unset means no limit of its own.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^(100|[1-9][0-9]?)%$`
	// +kubebuilder:validation:XValidation:rule="type(self) == string || (self >= 1 && self <= 1000000)",message="`maxConcurrent` must be a number from 1 to 1000000 or a percentage from 1% to 100%"
	MaxConcurrent *intstr.IntOrString `json:"maxConcurrent,omitempty"`

	// waves run in order. A wave begins when all tenants of the wave before it have an outcome. Tenants that are in no wave
	// come last. A tenant is in the first wave that selects it. Immutable.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Waves []Wave `json:"waves,omitempty"`

	// maxFailures is the failure budget of the whole fan-out, a number or a percentage of the planned tenants. When more
	// tenants fail, the fan-out pauses. Unset means no budget.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^(100|[1-9]?[0-9])%$`
	// +kubebuilder:validation:XValidation:rule="type(self) == string || (self >= 0 && self <= 1000000)",message="`maxFailures` must be a number from 0 to 1000000 or a percentage from 0% to 100%"
	MaxFailures *intstr.IntOrString `json:"maxFailures,omitempty"`
}

// Wave is a part of the planned tenants.
// +kubebuilder:validation:XValidation:rule="has(self.selector) != has(self.size)",message="`waves` must each have exactly one of selector and size"
type Wave struct {
	// name of the wave: a DNS-1123 label.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`

	// selector puts tenants with these labels into the wave.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`

	// size is how many of the tenants that are in no wave yet are put into this one, a number or a percentage of the planned
	// tenants.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^(100|[1-9][0-9]?)%$`
	// +kubebuilder:validation:XValidation:rule="type(self) == string || (self >= 1 && self <= 1000000)",message="`size` must be a number from 1 to 1000000 or a percentage from 1% to 100%"
	Size *intstr.IntOrString `json:"size,omitempty"`

	// maxFailures is the failure budget of the wave, a number or a percentage of the tenants in it. Unset means no budget of
	// its own.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:Pattern=`^(100|[1-9]?[0-9])%$`
	// +kubebuilder:validation:XValidation:rule="type(self) == string || (self >= 0 && self <= 1000000)",message="`maxFailures` must be a number from 0 to 1000000 or a percentage from 0% to 100%"
	MaxFailures *intstr.IntOrString `json:"maxFailures,omitempty"`
}

// TenantFanOutStatus is the progress of a fan-out. Its size does not grow with the number of tenants.
type TenantFanOutStatus struct {
	// observedGeneration is the generation of the spec that this status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// counts of the planned tenants. Each tenant is counted in total and in one other counter.
	// +optional
	Counts *FanOutCounts `json:"counts,omitempty"`

	// reasons of the tenants that did not succeed, the most frequent first.
	// +optional
	// +listType=map
	// +listMapKey=reason
	// +kubebuilder:validation:MaxItems=16
	Reasons []ReasonCount `json:"reasons,omitempty"`

	// unsuccessfulTenants are the first hundred tenants that did not succeed, failed before skipped. The ledger has all of
	// them.
	// +optional
	// +listType=map
	// +listMapKey=tenant
	// +kubebuilder:validation:MaxItems=100
	UnsuccessfulTenants []UnsuccessfulTenant `json:"unsuccessfulTenants,omitempty"`

	// templateGeneration is the generation of the template in the plan.
	// +optional
	TemplateGeneration int64 `json:"templateGeneration,omitempty"`

	// wave whose tenants may start now. Empty when that is the tenants that are in no wave.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Wave string `json:"wave,omitempty"`

	// startTime is when the plan was sealed.
	// +optional
	StartTime *metav1.Time `json:"startTime,omitempty"`

	// completionTime is when the last tenant had an outcome.
	// +optional
	CompletionTime *metav1.Time `json:"completionTime,omitempty"`

	// conditions of the fan-out: Planned, Paused, Succeeded; Reconciling and Stalled while they apply.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// FanOutCounts counts the planned tenants.
type FanOutCounts struct {
	// total is how many tenants are planned.
	// +required
	// +kubebuilder:validation:Minimum=0
	Total int32 `json:"total"`

	// waiting is how many have not started.
	// +required
	// +kubebuilder:validation:Minimum=0
	Waiting int32 `json:"waiting"`

	// running is how many have started and not ended.
	// +required
	// +kubebuilder:validation:Minimum=0
	Running int32 `json:"running"`

	// succeeded is how many have succeeded.
	// +required
	// +kubebuilder:validation:Minimum=0
	Succeeded int32 `json:"succeeded"`

	// failed is how many have failed.
	// +required
	// +kubebuilder:validation:Minimum=0
	Failed int32 `json:"failed"`

	// skipped is how many will not run or were stopped, without a failure.
	// +required
	// +kubebuilder:validation:Minimum=0
	Skipped int32 `json:"skipped"`
}

// ReasonCount counts the tenants with a reason.
type ReasonCount struct {
	// reason as in the TenantJob's condition Succeeded.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// count of tenants.
	// +required
	// +kubebuilder:validation:Minimum=0
	Count int32 `json:"count"`
}

// UnsuccessfulTenant is a tenant that did not succeed, and why.
type UnsuccessfulTenant struct {
	// tenant is its name.
	// +required
	Tenant TenantName `json:"tenant,omitempty"`

	// reason as in the TenantJob's condition Succeeded.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// message as in the TenantJob's condition Succeeded, cut to 200 bytes or less.
	// +optional
	// +kubebuilder:validation:MinLength=0
	// +kubebuilder:validation:MaxLength=200
	Message string `json:"message,omitempty"`
}

// TenantFanOutList is a list of TenantFanOuts.
// +kubebuilder:object:root=true
type TenantFanOutList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TenantFanOut `json:"items"`
}
