package v1alpha1

// Condition types that several kinds share. kstatus and Argo CD read them.
const (
	// ConditionReady is True when the object can be used, False when it can't (the message says what to change), Unknown
	// while that is being found out.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the operator works on the object, and absent otherwise.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when only a person can help: a user's error or a failed run. It is absent otherwise.
	ConditionStalled = "Stalled"
	// ConditionSucceeded of a TenantJob or TenantFanOut is True or False when it has ended, Unknown before.
	ConditionSucceeded = "Succeeded"
)

// Condition types of a Tenant.
const (
	// ConditionSuspended is True when the tenant is suspended and no pod and no live credential is left, Unknown while
	// runs are being stopped, False when jobs may run.
	ConditionSuspended = "Suspended"
	// ConditionEnforced is True when the admission policies are in force for the tenant's namespace.
	ConditionEnforced = "Enforced"
	// ConditionWorkloadsConform is False in the phases Audit and Warn while Jobs or CronJobs without tenant context are
	// in the tenant's namespace; the message lists them.
	ConditionWorkloadsConform = "WorkloadsConform"
)

// Condition types of a TenantFanOut and of a TenantSchedule.
const (
	// ConditionPlanned of a TenantFanOut is True when its tenants are resolved and written down for good.
	ConditionPlanned = "Planned"
	// ConditionPaused of a TenantFanOut is True when nothing new starts: suspended, or its failure budget is exceeded.
	ConditionPaused = "Paused"
	// ConditionLastRunSucceeded of a TenantSchedule is the result of the newest fan-out that has ended.
	ConditionLastRunSucceeded = "LastRunSucceeded"
)

// Reasons of a Tenant's conditions.
const (
	// ReasonReady: the namespace and everything in it is as the spec says.
	ReasonReady = "Ready"
	// ReasonProgressing: the operator is bringing the object to what the spec says.
	ReasonProgressing = "Progressing"
	// ReasonNamespaceConflict: the namespace exists and nobody has consented to its adoption, or it may never be adopted.
	ReasonNamespaceConflict = "NamespaceConflict"
	// ReasonNamespaceTerminating: the namespace is being deleted; it is made again when it is gone.
	ReasonNamespaceTerminating = "NamespaceTerminating"
	// ReasonInvalidSpec: the API server refused an object built from the spec; the message says which field to change.
	ReasonInvalidSpec = "InvalidSpec"
	// ReasonActive: the tenant is not suspended.
	ReasonActive = "Active"
	// ReasonSuspended: no pod and no live credential is left.
	ReasonSuspended = "Suspended"
	// ReasonStoppingJobs: the tenant's runs are being stopped.
	ReasonStoppingJobs = "StoppingJobs"
	// ReasonDrainingJobs: the tenant's runs may finish before it is suspended.
	ReasonDrainingJobs = "DrainingJobs"
	// ReasonDeletingPods: the tenant's pods have not ended yet.
	ReasonDeletingPods = "DeletingPods"
	// ReasonDeletingNamespace: the Tenant is being deleted and waits for its namespace to go.
	ReasonDeletingNamespace = "DeletingNamespace"
)

// Reasons of a TenantJobTemplate's Ready condition, beside ReasonReady.
const (
	// ReasonInvalidTemplate: the API server refuses the Job or the pod built from the template.
	ReasonInvalidTemplate = "InvalidTemplate"
	// ReasonReservedVariable: the template sets an environment variable that belongs to the operator.
	ReasonReservedVariable = "ReservedVariable"
	// ReasonPodSecurity: the pod does not conform to the pod security level.
	ReasonPodSecurity = "PodSecurity"
)

// Reasons of the condition Succeeded of a TenantJob while it is Unknown: it waits.
const (
	// ReasonPending: the operator has not decided about it yet.
	ReasonPending = "Pending"
	// ReasonNotYetDue: spec.notBeforeTime lies ahead.
	ReasonNotYetDue = "NotYetDue"
	// ReasonQueued: a limit holds it; the message names the limit.
	ReasonQueued = "Queued"
	// ReasonTenantSuspended: the tenant is suspended. The condition is Unknown for a TenantJob that waits, and False for a
	// fan-out's child that never started.
	ReasonTenantSuspended = "TenantSuspended"
	// ReasonTenantNotReady: the Tenant is not Ready or does not exist. A TenantJob waits for it; a fan-out counts a tenant
	// as skipped that has no usable namespace when its TenantJob is to be created.
	ReasonTenantNotReady = "TenantNotReady"
	// ReasonTemplateNotFound: there is no such TenantJobTemplate.
	ReasonTemplateNotFound = "TemplateNotFound"
	// ReasonTemplateNotReady: the TenantJobTemplate's Ready condition is not True.
	ReasonTemplateNotReady = "TemplateNotReady"
	// ReasonPolicyNotEnforced: the admission policies are not in force.
	ReasonPolicyNotEnforced = "PolicyNotEnforced"
	// ReasonIssuingCredentials: the run's credentials are being made.
	ReasonIssuingCredentials = "IssuingCredentials"
)

// Reasons of the condition Succeeded of a TenantJob while it is Unknown: it runs.
const (
	// ReasonStarting: the Job exists and no pod of it is running yet; the message is the pod's own reason.
	ReasonStarting = "Starting"
	// ReasonRunning: a pod is running.
	ReasonRunning = "Running"
)

// Reasons of the condition Succeeded of a TenantJob that has ended: True with Completed, False with all others.
const (
	// ReasonCompleted: the Job completed. Of a fan-out: every tenant succeeded.
	ReasonCompleted = "Completed"
	// ReasonJobFailed: the Job failed; the message is the Job's own.
	ReasonJobFailed = "JobFailed"
	// ReasonDeadlineExceeded: the Job ran longer than its activeDeadlineSeconds.
	ReasonDeadlineExceeded = "DeadlineExceeded"
	// ReasonPodsRefused: the API server refused the Job's pods for two minutes (quota, pod security).
	ReasonPodsRefused = "PodsRefused"
	// ReasonExpired: it was eligible and did not start within maxWaitSeconds.
	ReasonExpired = "Expired"
	// ReasonCredentialsFailed: its credentials could not be issued.
	ReasonCredentialsFailed = "CredentialsFailed"
	// ReasonInvalidParameters: its parameters are not those that the template declares.
	ReasonInvalidParameters = "InvalidParameters"
	// ReasonTenantMismatch: its tenantRef is not the tenant of its namespace.
	ReasonTenantMismatch = "TenantMismatch"
	// ReasonNameConflict: a stranger's object has the name that its Job, or itself, would have.
	ReasonNameConflict = "NameConflict"
	// ReasonDeleted: a person deleted it, or its Job.
	ReasonDeleted = "Deleted"
	// ReasonStoppedBySuspension: it ran when its tenant was suspended.
	ReasonStoppedBySuspension = "StoppedBySuspension"
	// ReasonCancelled: spec.cancel.
	ReasonCancelled = "Cancelled"
	// ReasonReplaced: a later tick of its schedule replaced it.
	ReasonReplaced = "Replaced"
	// ReasonSuperseded: it still waited when the next tick of its schedule came.
	ReasonSuperseded = "Superseded"
	// ReasonOverlapped: an earlier tick of its schedule still ran for this tenant.
	ReasonOverlapped = "Overlapped"
	// ReasonTenantDeleted: the tenant was deleted before it started.
	ReasonTenantDeleted = "TenantDeleted"
)

// Counter is a counter of a TenantFanOut's status.counts. A planned tenant counts in one of them from when its run has
// ended.
type Counter string

const (
	// CounterSucceeded counts the tenants whose run succeeded.
	CounterSucceeded Counter = "Succeeded"
	// CounterFailed counts the tenants whose run failed. Each of them spends the failure budget.
	CounterFailed Counter = "Failed"
	// CounterSkipped counts the tenants whose run did not start, or was stopped, without a failure. They do not spend the
	// failure budget.
	CounterSkipped Counter = "Skipped"
)

// counters has the counter of each reason that the condition Succeeded of a TenantJob has when the run has ended. It is
// the only place that says so. A counter never changes once it is released, since stored ledgers contain it.
var counters = map[string]Counter{
	ReasonCompleted: CounterSucceeded,

	ReasonJobFailed:           CounterFailed,
	ReasonDeadlineExceeded:    CounterFailed,
	ReasonPodsRefused:         CounterFailed,
	ReasonExpired:             CounterFailed,
	ReasonCredentialsFailed:   CounterFailed,
	ReasonInvalidParameters:   CounterFailed,
	ReasonTenantMismatch:      CounterFailed,
	ReasonNameConflict:        CounterFailed,
	ReasonDeleted:             CounterFailed,
	ReasonStoppedBySuspension: CounterFailed,

	ReasonCancelled:       CounterSkipped,
	ReasonReplaced:        CounterSkipped,
	ReasonSuperseded:      CounterSkipped,
	ReasonOverlapped:      CounterSkipped,
	ReasonTenantSuspended: CounterSkipped,
	ReasonTenantNotReady:  CounterSkipped,
	ReasonTenantDeleted:   CounterSkipped,
}

// CounterOf returns the counter in which a tenant counts whose run ended with a reason. It returns false for a reason that
// ends no run, and for one that this version does not know.
func CounterOf(reason string) (Counter, bool) {
	counter, ends := counters[reason]
	return counter, ends
}

// Reasons of a TenantFanOut's conditions, beside those above.
const (
	// ReasonSealed: the plan is written down for good.
	ReasonSealed = "Sealed"
	// ReasonCompletedWithFailures: some tenants failed, within the failure budget.
	ReasonCompletedWithFailures = "CompletedWithFailures"
	// ReasonSomeFailed: some tenants failed and there is no failure budget.
	ReasonSomeFailed = "SomeFailed"
	// ReasonTooManyFailed: more tenants failed than the failure budget allows.
	ReasonTooManyFailed = "TooManyFailed"
	// ReasonFailureBudgetExceeded: the fan-out is paused until a person resumes it.
	ReasonFailureBudgetExceeded = "FailureBudgetExceeded"
	// ReasonSourceGone: the fan-out that retryOf names, or its ledger, does not exist.
	ReasonSourceGone = "SourceGone"
	// ReasonLedgerLost: the record of who has run is gone or can't be read, so nothing more is started.
	ReasonLedgerLost = "LedgerLost"
)

// Reasons of a TenantSchedule's condition Ready, beside ReasonReady.
const (
	// ReasonInvalidSchedule: nobody can tell when the ticks are; the message says which field to change.
	ReasonInvalidSchedule = "InvalidSchedule"
	// ReasonInvalidFanOut: the API server refuses the fan-outs that it would make; the message is the API server's own.
	ReasonInvalidFanOut = "InvalidFanOut"
)

// Reasons of a TenantSchedule's condition LastRunSucceeded while it is Unknown, beside ReasonRunning, while the first
// fan-out has not ended, and ReasonDeleted, when it never will. True and False have the fan-out's own.
const (
	// ReasonNeverRun: no tick has made a fan-out yet.
	ReasonNeverRun = "NeverRun"
)
