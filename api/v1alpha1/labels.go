package v1alpha1

// Labels that the operator sets. Nobody else may: the prefix tenantry.dev/ is the operator's.
const (
	// LabelTenant names the Tenant, on its namespace and on every object in it that is Tenantry's.
	LabelTenant = "tenantry.dev/tenant"
	// LabelState is on a tenant's namespace: one of StateActive, StateSuspended, StateDeleting.
	LabelState = "tenantry.dev/state"
	// LabelEnforcement is on a tenant's namespace: audit, warn or enforce.
	LabelEnforcement = "tenantry.dev/enforcement"
	// LabelManaged is "true" on what the operator makes and keeps in a tenant's namespace.
	LabelManaged = "tenantry.dev/managed"
	// LabelTemplate names the TenantJobTemplate, on TenantJob, Job and pod.
	LabelTemplate = "tenantry.dev/template"
	// LabelQueue names the TenantQueue, on TenantJob, Job and pod.
	LabelQueue = "tenantry.dev/queue"
	// LabelFanOut names the TenantFanOut, on TenantJob, Job and pod.
	LabelFanOut = "tenantry.dev/fan-out"
	// LabelSchedule names the TenantSchedule, on TenantFanOut, TenantJob, Job and pod.
	LabelSchedule = "tenantry.dev/schedule"

	// TagPrefix starts the labels that users put on a TenantJob and that the operator copies to its Job and pods.
	TagPrefix = "tag.tenantry.dev/"
)

// Annotations.
const (
	// AnnotationAdoptBy on an existing namespace, with a Tenant's name as value, is the platform's consent that this
	// Tenant may take the namespace over. The Tenant's spec.namespace.name is the other half.
	AnnotationAdoptBy = "tenantry.dev/adopt-by"
	// AnnotationAdopted is "true" on a namespace that the operator adopted and so must never delete.
	AnnotationAdopted = "tenantry.dev/adopted"
	// AnnotationTenantUID on a tenant's namespace is the UID of the Tenant that it belongs to. A Tenant made again
	// under the same name has another one.
	AnnotationTenantUID = "tenantry.dev/tenant-uid"
	// AnnotationDesiredHash on an object that the operator makes is the hash of what it wants there, so that a restart
	// compares and does not write.
	AnnotationDesiredHash = "tenantry.dev/desired-hash"
	// AnnotationMemberTemplates on a tenant's namespace lists, comma separated and sorted, the TenantJobTemplates that
	// the tenant's members may dispatch.
	AnnotationMemberTemplates = "tenantry.dev/member-templates"
	// AnnotationProtected "true" on a Tenant keeps it from being deleted.
	AnnotationProtected = "tenantry.dev/protected"
	// AnnotationScheduledTime on a TenantFanOut is the tick of the schedule that made it, in RFC 3339; on its TenantJobs,
	// when the tick came for that tenant.
	AnnotationScheduledTime = "tenantry.dev/scheduled-time"
	// AnnotationTimeZoneFrom is "Tenant" on a TenantFanOut whose tick comes for each tenant at that time on its own clock.
	AnnotationTimeZoneFrom = "tenantry.dev/time-zone-from"
	// AnnotationCaughtUpTo on a TenantFanOut is the newest of the missed ticks that were made up for at once, in RFC 3339:
	// ticks until then do not supersede it.
	AnnotationCaughtUpTo = "tenantry.dev/caught-up-to"
	// AnnotationTemplateGeneration on a Job is the generation of the TenantJobTemplate that it was built from.
	AnnotationTemplateGeneration = "tenantry.dev/template-generation"
)

// Values of LabelState.
const (
	// StateActive means that jobs may run.
	StateActive = "active"
	// StateSuspended means that no pod may be created or bound.
	StateSuspended = "suspended"
	// StateDeleting means that the Tenant is being deleted.
	StateDeleting = "deleting"
)

// Finalizers.
const (
	// FinalizerTenant is on a Tenant until its jobs are gone and its namespace is deleted or released.
	FinalizerTenant = "tenantry.dev/tenant"
	// FinalizerCredentials is on a TenantJob from before a credential is issued until it is revoked.
	FinalizerCredentials = "tenantry.dev/credentials"
)

// Names of what the operator makes in every tenant's namespace.
const (
	// RunnerServiceAccount is the service account that a tenant's pods run as. It has no rights.
	RunnerServiceAccount = "tenant-runner"
)
