package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TenantSchedule is a cron expression that creates fan-outs.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=tsch,categories=tenantry
// +kubebuilder:printcolumn:name="Schedule",type=string,JSONPath=`.spec.schedule`
// +kubebuilder:printcolumn:name="Last",type=date,JSONPath=`.status.lastScheduleTime`
// +kubebuilder:printcolumn:name="Last-Result",type=string,JSONPath=`.status.conditions[?(@.type=="LastRunSucceeded")].reason`
// +kubebuilder:printcolumn:name="Next",type=string,JSONPath=`.status.nextScheduleTimes[0]`
// +kubebuilder:printcolumn:name="Suspended",type=boolean,JSONPath=`.spec.suspend`
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || (self.metadata.name.size() <= 40 && !format.dns1123Label().validate(self.metadata.name).hasValue())",optionalOldSelf=true,message="`metadata.name` must be a DNS-1123 label of at most 40 characters"
type TenantSchedule struct {
	metav1.TypeMeta `json:",inline"`

	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says when to run, what, and for which tenants.
	// +required
	Spec TenantScheduleSpec `json:"spec,omitzero"`

	// status says what ran, and when the next ticks are.
	// +optional
	// +default={"observedGeneration": -1}
	Status TenantScheduleStatus `json:"status,omitzero"`
}

// TenantScheduleSpec says when to run, what, and for which tenants.
// +kubebuilder:validation:XValidation:rule="!has(self.timeZoneFrom) || self.timeZoneFrom != 'Tenant' || self.schedule.matches('^(@(daily|weekly|monthly|yearly)|[0-9]{1,2} [0-9]{1,2} .*)$')",message="`schedule` must have at most one tick a day with timeZoneFrom: Tenant: a single minute and a single hour"
type TenantScheduleSpec struct {
	// schedule is a cron expression of five fields (minute, hour, day of month, month, day of week), or @hourly, @daily,
	// @weekly, @monthly, @yearly.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=100
	// +kubebuilder:validation:XValidation:rule="self.matches('^@(hourly|daily|weekly|monthly|yearly)$') || self.matches('^([0-9*,/-]+) ([0-9*,/-]+) ([0-9*,/-]+) ([0-9A-Za-z*,/-]+) ([0-9A-Za-z*,/-]+)$')",message="`schedule` must be five fields separated by one space, or @hourly, @daily, @weekly, @monthly, @yearly; TZ=, CRON_TZ= and @every are not accepted"
	// +kubebuilder:validation:XValidation:rule="self.startsWith('@') || self.split(' ').size() != 5 || [0, 1, 2].all(i, self.split(' ')[i].split(',').all(p, p.matches('^([*]|[0-9]{1,2}(-[0-9]{1,2})?)(/[1-9][0-9]?)?$') && (p.startsWith('*') || (int(p.split('/')[0].split('-')[0]) >= [0, 0, 1][i] && int(p.split('/')[0].split('-')[0]) <= [59, 23, 31][i] && (!p.contains('-') || (int(p.split('/')[0].split('-')[1]) <= [59, 23, 31][i] && int(p.split('/')[0].split('-')[0]) <= int(p.split('/')[0].split('-')[1])))))))",message="`schedule` must have minutes 0-59, hours 0-23, days 1-31; ranges low-high; steps of at least 1"
	// +kubebuilder:validation:XValidation:rule="self.startsWith('@') || self.split(' ').size() != 5 || (self.split(' ')[3].lowerAscii().matches('^([*]|([1-9]|0[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)(-([1-9]|0[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))?)(/[1-9][0-9]?)?(,([*]|([1-9]|0[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)(-([1-9]|0[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))?)(/[1-9][0-9]?)?)*$') && self.split(' ')[3].lowerAscii().replace('jan', '1').replace('feb', '2').replace('mar', '3').replace('apr', '4').replace('may', '5').replace('jun', '6').replace('jul', '7').replace('aug', '8').replace('sep', '9').replace('oct', '10').replace('nov', '11').replace('dec', '12').split(',').all(p, !p.contains('-') || int(p.split('/')[0].split('-')[0]) <= int(p.split('/')[0].split('-')[1])))",message="`schedule` must have months 1-12 or jan-dec; ranges low-high; steps of at least 1"
	// +kubebuilder:validation:XValidation:rule="self.startsWith('@') || self.split(' ').size() != 5 || (self.split(' ')[4].lowerAscii().matches('^([*]|(0?[0-7]|sun|mon|tue|wed|thu|fri|sat)(-(0?[0-7]|sun|mon|tue|wed|thu|fri|sat))?)(/[1-9])?(,([*]|(0?[0-7]|sun|mon|tue|wed|thu|fri|sat)(-(0?[0-7]|sun|mon|tue|wed|thu|fri|sat))?)(/[1-9])?)*$') && self.split(' ')[4].lowerAscii().replace('sun', '0').replace('mon', '1').replace('tue', '2').replace('wed', '3').replace('thu', '4').replace('fri', '5').replace('sat', '6').split(',').all(p, !p.contains('-') || int(p.split('/')[0].split('-')[0]) <= int(p.split('/')[0].split('-')[1])))",message="`schedule` must have days of the week 0-7 or sun-sat; ranges low-high; steps of at least 1"
	// +kubebuilder:validation:XValidation:rule="self.startsWith('@') || self.split(' ').size() != 5 || !self.split(' ')[4].matches('(^|,)[*](/1)?(,|$)') || !self.split(' ')[2].matches('^(30|31)(-(30|31))?(/[1-9][0-9]?)?(,(30|31)(-(30|31))?(/[1-9][0-9]?)?)*$') || !self.split(' ')[3].lowerAscii().replace('jan', '1').replace('feb', '2').replace('mar', '3').replace('apr', '4').replace('may', '5').replace('jun', '6').replace('jul', '7').replace('aug', '8').replace('sep', '9').replace('oct', '10').replace('nov', '11').replace('dec', '12').matches('^[0-9]{1,2}(-[0-9]{1,2})?(/[1-9][0-9]?)?(,[0-9]{1,2}(-[0-9]{1,2})?(/[1-9][0-9]?)?)*$') || [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].exists(m, (!(m in [4, 6, 9, 11]) || self.split(' ')[2].matches('(^|,)30')) && self.split(' ')[3].lowerAscii().replace('jan', '1').replace('feb', '2').replace('mar', '3').replace('apr', '4').replace('may', '5').replace('jun', '6').replace('jul', '7').replace('aug', '8').replace('sep', '9').replace('oct', '10').replace('nov', '11').replace('dec', '12').split(',').exists(p, int(p.split('/')[0].split('-')[0]) <= m && m <= (p.contains('-') ? int(p.split('/')[0].split('-')[1]) : p.contains('/') ? 12 : int(p)) && (!p.contains('/') || (m - int(p.split('/')[0].split('-')[0])) % int(p.split('/')[1]) == 0)))",message="`schedule` must not name a date that never comes"
	Schedule string `json:"schedule,omitempty"`

	// timeZone is the IANA time zone of the schedule. Unset means Etc/UTC.
	// +optional
	// +default="Etc/UTC"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self == oldSelf.orValue('') || (self.matches('^[A-Z]') && self != 'Local' && !self.contains(':') && timestamp('2026-01-01T00:00:00Z').getFullYear(self) > 0)",optionalOldSelf=true,message="`timeZone` must be an IANA time zone such as Europe/Berlin"
	TimeZone string `json:"timeZone,omitempty"`

	// timeZoneFrom says in whose time zone the schedule is read. Unset means Schedule.
	// +optional
	// +default="Schedule"
	TimeZoneFrom TimeZoneSource `json:"timeZoneFrom,omitempty"`

	// suspend means that the schedule creates no more fan-outs. Ticks in that time do not run later. Unset means false.
	// +optional
	Suspend *bool `json:"suspend,omitempty"`

	// startingDeadlineSeconds is how late a tick may still run, in seconds. A later one is missed. Unset means no deadline.
	// +optional
	// +kubebuilder:validation:Minimum=1
	StartingDeadlineSeconds *int32 `json:"startingDeadlineSeconds,omitempty"`

	// catchUpLimit is how many of the late ticks run, the newest of them. Unset means 1.
	// +optional
	// +default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	CatchUpLimit *int32 `json:"catchUpLimit,omitempty"`

	// concurrencyPolicy says what happens when a tenant's run of an earlier tick still runs. Unset means Forbid.
	// +optional
	// +default="Forbid"
	ConcurrencyPolicy ConcurrencyPolicy `json:"concurrencyPolicy,omitempty"`

	// fanOutTemplate is the TenantFanOut that each tick creates.
	// +required
	FanOutTemplate FanOutTemplate `json:"fanOutTemplate,omitzero"`

	// successfulFanOutsHistoryLimit is how many fan-outs that succeeded are kept. Unset means 3.
	// +optional
	// +default=3
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	SuccessfulFanOutsHistoryLimit *int32 `json:"successfulFanOutsHistoryLimit,omitempty"`

	// failedFanOutsHistoryLimit is how many fan-outs that did not succeed are kept. Unset means 3.
	// +optional
	// +default=3
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	FailedFanOutsHistoryLimit *int32 `json:"failedFanOutsHistoryLimit,omitempty"`
}

// TimeZoneSource says in whose time zone a schedule is read.
// +kubebuilder:validation:Enum=Schedule;Tenant
type TimeZoneSource string

const (
	// TimeZoneFromSchedule reads the schedule in its own time zone: one instant for all tenants.
	TimeZoneFromSchedule TimeZoneSource = "Schedule"
	// TimeZoneFromTenant reads it in each tenant's time zone: the same local time for all tenants.
	TimeZoneFromTenant TimeZoneSource = "Tenant"
)

// ConcurrencyPolicy says what happens when a tenant's earlier run still runs.
// +kubebuilder:validation:Enum=Allow;Forbid;Replace
type ConcurrencyPolicy string

const (
	// ConcurrencyAllow runs both at once.
	ConcurrencyAllow ConcurrencyPolicy = "Allow"
	// ConcurrencyForbid skips the new one.
	ConcurrencyForbid ConcurrencyPolicy = "Forbid"
	// ConcurrencyReplace stops the old one and then starts the new one.
	ConcurrencyReplace ConcurrencyPolicy = "Replace"
)

// FanOutTemplate is the TenantFanOut that each tick creates.
type FanOutTemplate struct {
	// metadata that is put on the TenantFanOut.
	// +optional
	Metadata *FanOutTemplateMetadata `json:"metadata,omitempty"`

	// spec of the TenantFanOut.
	// +required
	Spec TenantFanOutSpec `json:"spec,omitzero"`
}

// FanOutTemplateMetadata is put on a TenantFanOut.
type FanOutTemplateMetadata struct {
	// labels of it, other than the operator's own tenantry.dev/*.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('tenantry.dev/') && !format.qualifiedName().validate(k).hasValue())",message="`fanOutTemplate.metadata.labels` must have valid label keys, and none that start with tenantry.dev/"
	Labels map[string]LabelValue `json:"labels,omitempty"`

	// annotations of it, other than the operator's own tenantry.dev/*.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('tenantry.dev/') && !format.qualifiedName().validate(k).hasValue())",message="`fanOutTemplate.metadata.annotations` must have valid keys, and none that start with tenantry.dev/"
	Annotations map[string]AnnotationValue `json:"annotations,omitempty"`
}

// AnnotationValue is the value of an annotation.
// +kubebuilder:validation:MaxLength=4096
type AnnotationValue string

// TenantScheduleStatus says what ran, and when the next ticks are.
type TenantScheduleStatus struct {
	// observedGeneration is the generation of the spec that this status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// effectiveTime is when the schedule was created, its times were last edited, or it was last resumed. Ticks until then
	// never run. An edit of fields that do not say when the ticks are leaves it as it is.
	// +optional
	EffectiveTime *metav1.Time `json:"effectiveTime,omitempty"`

	// effectiveSchedule is when the ticks have been since effectiveTime: the schedule and its time zone. It is "suspended"
	// while there are none. The operator compares it with the spec to find out whether an edit has changed that.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	EffectiveSchedule string `json:"effectiveSchedule,omitempty"`

	// lastScheduleTime is the last tick that created a fan-out. It never goes back: no tick until then creates another one.
	// +optional
	LastScheduleTime *metav1.Time `json:"lastScheduleTime,omitempty"`

	// lastSuccessfulTime is when a fan-out last succeeded. One of which all tenants were skipped is no success.
	// +optional
	LastSuccessfulTime *metav1.Time `json:"lastSuccessfulTime,omitempty"`

	// nextScheduleTimes are the next five ticks, also while the schedule is suspended, when they will not run.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=5
	NextScheduleTimes []metav1.Time `json:"nextScheduleTimes,omitempty"`

	// missed counts the ticks that did not run.
	// +optional
	Missed *MissedTicks `json:"missed,omitempty"`

	// active fan-outs, which have not ended.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=100
	Active []LocalReference `json:"active,omitempty"`

	// conditions of the schedule: Ready, LastRunSucceeded; Reconciling and Stalled while they apply.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// MissedTicks counts the ticks that did not run.
type MissedTicks struct {
	// count of missed ticks since the schedule was created.
	// +required
	// +kubebuilder:validation:Minimum=0
	Count int64 `json:"count"`

	// lastTime is the newest missed tick.
	// +optional
	LastTime *metav1.Time `json:"lastTime,omitempty"`

	// lastReason is why it was missed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	LastReason string `json:"lastReason,omitempty"`
}

// TenantScheduleList is a list of TenantSchedules.
// +kubebuilder:object:root=true
type TenantScheduleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TenantSchedule `json:"items"`
}
