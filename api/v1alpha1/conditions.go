package v1alpha1

// Condition types that several kinds share. kstatus and Argo CD read them.
const (
	// ConditionReady is True when the object can be used, False when it can't (the message says what to change), and
	// Unknown while the operator does not know.
	ConditionReady = "Ready"
	// ConditionReconciling is True while the operator works on the object, and absent otherwise.
	ConditionReconciling = "Reconciling"
	// ConditionStalled is True when a person has to act: after a user's error or a failed run. It is absent otherwise.
	ConditionStalled = "Stalled"
	// ConditionSucceeded of a TenantJob or TenantFanOut is Unknown until it has ended, then True or False.
	ConditionSucceeded = "Succeeded"
)

// Condition types of a Tenant.
const (
	// ConditionSuspended is True when the tenant is suspended and no pod and no live credential is left, Unknown while
	// its runs are being stopped or the Tenant is being deleted, and False when jobs may run.
	ConditionSuspended = "Suspended"
	// ConditionEnforced is True when the admission policies are in force, and the tenant is in the phase Enforce.
	ConditionEnforced = "Enforced"
	// ConditionWorkloadsConform is False while the tenant's namespace has workloads that are no runs of the tenant. The message lists
	// them, and who created them. In the phases Audit and Warn they work as before.
	ConditionWorkloadsConform = "WorkloadsConform"
)

// Condition types of a TenantFanOut and of a TenantSchedule.
const (
	// ConditionPlanned of a TenantFanOut is True when its tenants are selected and its plan is sealed.
	ConditionPlanned = "Planned"
	// ConditionPaused of a TenantFanOut is True while nothing new starts: it is suspended, or its failure budget is
	// exceeded.
	ConditionPaused = "Paused"
	// ConditionLastRunSucceeded of a TenantSchedule is the result of the newest fan-out that has ended.
	ConditionLastRunSucceeded = "LastRunSucceeded"
)

// Reasons of a Tenant's conditions.
const (
	// ReasonReady: the namespace and everything in it are as the spec says.
	ReasonReady = "Ready"
	// ReasonProgressing: the operator is changing the namespace to what the spec says.
	ReasonProgressing = "Progressing"
	// ReasonNamespaceConflict: the namespace exists and no platform user has allowed its adoption, or it may never be
	// adopted, or an object in the adopted namespace has a name that the operator needs and is somebody else's.
	ReasonNamespaceConflict = "NamespaceConflict"
	// ReasonNamespaceTerminating: the namespace is being deleted; the operator creates it again when it is gone.
	ReasonNamespaceTerminating = "NamespaceTerminating"
	// ReasonInvalidSpec: the API server refused an object built from the spec; the message says which field to change.
	ReasonInvalidSpec = "InvalidSpec"
	// ReasonActive: the tenant is not suspended.
	ReasonActive = "Active"
	// ReasonPoliciesInForce: the API server refuses in the tenant's namespace what is no run of the tenant. Other reasons of the
	// condition Enforced are ReasonPolicyNotEnforced and, in the phases in which such workloads are not refused, Audit and Warn.
	ReasonPoliciesInForce = "PoliciesInForce"
	// ReasonConform: all workloads in the namespace are runs of the tenant.
	ReasonConform = "Conform"
	// ReasonForeignWorkloads: some workloads in the namespace are no runs of the tenant.
	ReasonForeignWorkloads = "ForeignWorkloads"
	// ReasonSuspended: no pod and no live credential is left.
	ReasonSuspended = "Suspended"
	// ReasonStoppingJobs: the tenant's runs are being stopped.
	ReasonStoppingJobs = "StoppingJobs"
	// ReasonDrainingJobs: the tenant's runs may finish before it is suspended.
	ReasonDrainingJobs = "DrainingJobs"
	// ReasonDeletingPods: the tenant's pods have not ended yet.
	ReasonDeletingPods = "DeletingPods"
	// ReasonDeletingNamespace: the Tenant is being deleted and waits until its namespace is gone.
	ReasonDeletingNamespace = "DeletingNamespace"
)

// Reasons of a TenantJobTemplate's Ready condition, beside ReasonReady and, while it can't be checked, ReasonProgressing.
const (
	// ReasonInvalidTemplate: the API server or the operator refuses the template; the message says which field to change.
	ReasonInvalidTemplate = "InvalidTemplate"
	// ReasonReservedVariable: the template sets an environment variable that belongs to the operator.
	ReasonReservedVariable = "ReservedVariable"
	// ReasonPodSecurity: the pod does not conform to the pod security level.
	ReasonPodSecurity = "PodSecurity"
)

// Reasons of a CredentialProvider's Ready condition, beside ReasonReady and, while it is being tried, ReasonProgressing. The message
// says what to change.
const (
	// ReasonSecretNotFound: a Secret that the spec names is not in the operator's namespace, or lacks a key.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonUnreachable: the server can't be reached: its name does not resolve, or nothing answers in time.
	ReasonUnreachable = "Unreachable"
	// ReasonTLSFailed: the server offers no TLS, or a certificate that is not accepted: its name, its CA, or it has expired.
	ReasonTLSFailed = "TLSFailed"
	// ReasonAuthenticationFailed: the server refuses the user name or the password.
	ReasonAuthenticationFailed = "AuthenticationFailed"
	// ReasonPermissionDenied: the operator's role at the server lacks a right.
	ReasonPermissionDenied = "PermissionDenied"
	// ReasonUnsupportedVersion: the server is too old.
	ReasonUnsupportedVersion = "UnsupportedVersion"
	// ReasonDatabaseNotFound: the database, or the tenant's schema, does not exist.
	ReasonDatabaseNotFound = "DatabaseNotFound"
	// ReasonSchemaNotInstalled: the database lacks the schema tenantry, or has an older one.
	ReasonSchemaNotInstalled = "SchemaNotInstalled"
	// ReasonNotIsolated: a credential of one tenant could reach more than that tenant's data; the message names each object with the
	// statement that mends it.
	ReasonNotIsolated = "NotIsolated"
	// ReasonServerError: the server answers with an error that is none of the above.
	ReasonServerError = "ServerError"
	// ReasonRevokingCredentials: the CredentialProvider is being deleted and waits until its credentials are revoked.
	ReasonRevokingCredentials = "RevokingCredentials"
)

// Reasons of the condition Succeeded of a TenantJob while it is Unknown: it waits.
const (
	// ReasonPending: the Job of an earlier TenantJob of the same name is still being deleted.
	ReasonPending = "Pending"
	// ReasonNotYetDue: spec.notBeforeTime is in the future.
	ReasonNotYetDue = "NotYetDue"
	// ReasonQueued: a limit holds it; the message names the limit.
	ReasonQueued = "Queued"
	// ReasonTenantSuspended: the tenant is suspended. The condition is Unknown for a TenantJob that waits, and False for a
	// fan-out's child that never started.
	ReasonTenantSuspended = "TenantSuspended"
	// ReasonTenantNotReady: the Tenant is not Ready or does not exist. A TenantJob waits for it, a fan-out's child no longer than
	// two minutes, or ten while the operator makes the Tenant ready: then the condition is False. A fan-out counts a tenant as
	// skipped that has no usable namespace when its TenantJob is to be created.
	ReasonTenantNotReady = "TenantNotReady"
	// ReasonTemplateNotFound: there is no such TenantJobTemplate.
	ReasonTemplateNotFound = "TemplateNotFound"
	// ReasonTemplateNotReady: the TenantJobTemplate's Ready condition is not True, or it was changed and does not accept the
	// TenantJob any more.
	ReasonTemplateNotReady = "TemplateNotReady"
	// ReasonPolicyNotEnforced: an admission policy is not in force, and until it is no run of any tenant starts. The message says
	// which policy, and why.
	ReasonPolicyNotEnforced = "PolicyNotEnforced"
	// ReasonIssuingCredentials: the run's credentials are being issued, or can't be issued now, or the tenant lacks one; the message
	// says which.
	ReasonIssuingCredentials = "IssuingCredentials"
)

// Reasons of the condition Succeeded of a TenantJob while it is Unknown: it runs.
const (
	// ReasonStarting: the Job exists and no pod of it runs yet; the message is the pod's own reason, or by whom the Job is suspended.
	ReasonStarting = "Starting"
	// ReasonRunning: a pod runs.
	ReasonRunning = "Running"
)

// Reasons of the condition Succeeded of a TenantJob that has ended: True with Completed, False with all others.
const (
	// ReasonCompleted: the Job completed. Of a fan-out: every tenant succeeded.
	ReasonCompleted = "Completed"
	// ReasonJobFailed: the Job failed, or the API server refused it; the message is the Job's or the API server's.
	ReasonJobFailed = "JobFailed"
	// ReasonDeadlineExceeded: the Job ran longer than its activeDeadlineSeconds.
	ReasonDeadlineExceeded = "DeadlineExceeded"
	// ReasonPodsRefused: the Job had no pod for two minutes, mostly because the API server refused its pods (quota, pod
	// security). Of a fan-out's child also: the API server refused its Job, or the TenantJob itself, for that long, or for ten
	// minutes where the tenant may not be the cause.
	ReasonPodsRefused = "PodsRefused"
	// ReasonExpired: limits held it for maxWaitSeconds. Of a fan-out: the tenant's own time was longer ago than the
	// schedule's startingDeadlineSeconds; or its tick was, and it had no plan by then.
	ReasonExpired = "Expired"
	// ReasonCredentialsFailed: its tenant lacks a credential that its template names, or it could not be issued. Only a fan-out's
	// child ends so; others wait.
	ReasonCredentialsFailed = "CredentialsFailed"
	// ReasonInvalidParameters: its parameters are not those that the template declares, or its name is too long for the
	// template's Indexed Job; and the template has not changed since it was created.
	ReasonInvalidParameters = "InvalidParameters"
	// ReasonTenantMismatch: its tenantRef is not the tenant of its namespace.
	ReasonTenantMismatch = "TenantMismatch"
	// ReasonNameConflict: an object that is not its own has the name of its Job, or of the TenantJob itself.
	ReasonNameConflict = "NameConflict"
	// ReasonDeleted: the TenantJob or its Job was deleted before it ended, or its owner reference to its fan-out was removed.
	ReasonDeleted = "Deleted"
	// ReasonStoppedBySuspension: it was stopped because its tenant was suspended.
	ReasonStoppedBySuspension = "StoppedBySuspension"
	// ReasonCancelled: it was cancelled by spec.cancel, or it was a fan-out's child that somebody has changed before its start,
	// or that was left behind when the fan-out was deleted. Of a fan-out: some of its TenantJobs were.
	ReasonCancelled = "Cancelled"
	// ReasonReplaced: a later tick of its schedule replaced it.
	ReasonReplaced = "Replaced"
	// ReasonSuperseded: it still waited when the next tick of its schedule came. Of a fan-out: as many of its TenantJobs did as
	// have run, or more, or it was paused; or it had no plan by then.
	ReasonSuperseded = "Superseded"
	// ReasonOverlapped: an earlier run of its schedule still ran for this tenant.
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
	// ReasonSealed: the plan is stored and never changes.
	ReasonSealed = "Sealed"
	// ReasonCompletedWithFailures: some tenants failed, within the failure budget.
	ReasonCompletedWithFailures = "CompletedWithFailures"
	// ReasonSomeFailed: some tenants failed and there is no failure budget.
	ReasonSomeFailed = "SomeFailed"
	// ReasonTooManyFailed: more tenants failed than the failure budget allows.
	ReasonTooManyFailed = "TooManyFailed"
	// ReasonFailureBudgetExceeded: the fan-out is paused until a person resumes it.
	ReasonFailureBudgetExceeded = "FailureBudgetExceeded"
	// ReasonSourceRunning: the fan-out that retryOf names has not ended; this one waits for it.
	ReasonSourceRunning = "SourceRunning"
	// ReasonSourceGone: the fan-out that retryOf names does not exist, or its plan or ledger can't be read.
	ReasonSourceGone = "SourceGone"
	// ReasonLedgerLost: the plan or the ledger is gone or can't be read, so the operator does not know which tenants have
	// run, and starts nothing more.
	ReasonLedgerLost = "LedgerLost"
)

// Reasons of a TenantSchedule's condition Ready, beside ReasonReady. It also has ReasonTemplateNotFound,
// ReasonTemplateNotReady and ReasonInvalidParameters: its fan-outs can't run, and the message says what to change.
const (
	// ReasonInvalidSchedule: the schedule or its time zone can't be read; the message says which field to change.
	ReasonInvalidSchedule = "InvalidSchedule"
	// ReasonInvalidFanOut: the API server refuses the fan-outs of the schedule; the message is the API server's.
	ReasonInvalidFanOut = "InvalidFanOut"
)

// Reasons of a TenantSchedule's condition LastRunSucceeded while it is Unknown. It also has ReasonRunning while the first
// fan-out has not ended, and ReasonDeleted if that was deleted before it ended. With True and False it has the reason of the
// fan-out.
const (
	// ReasonNeverRun: no tick has created a fan-out yet.
	ReasonNeverRun = "NeverRun"
)
