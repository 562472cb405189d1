package v1alpha1

// Labels that the operator sets. Others must not use the prefix tenantry.dev/.
const (
	// LabelTenant names the Tenant, on its namespace and on all of Tenantry's objects in it.
	LabelTenant = "tenantry.dev/tenant"
	// LabelState is on a tenant's namespace: one of StateActive, StateSuspended, StateDeleting.
	LabelState = "tenantry.dev/state"
	// LabelEnforcement is on a tenant's namespace: audit, warn or enforce.
	LabelEnforcement = "tenantry.dev/enforcement"
	// LabelManaged is "true" on a tenant's namespace and on the objects that the operator keeps in it.
	LabelManaged = "tenantry.dev/managed"
	// LabelTemplate names the TenantJobTemplate, on TenantJob, Job and pod.
	LabelTemplate = "tenantry.dev/template"
	// LabelQueue names the TenantQueue, on TenantJob, Job and pod.
	LabelQueue = "tenantry.dev/queue"
	// LabelFanOut names the TenantFanOut, on TenantJob, Job and pod.
	LabelFanOut = "tenantry.dev/fan-out"
	// LabelSchedule names the TenantSchedule, on TenantFanOut, TenantJob, Job and pod.
	LabelSchedule = "tenantry.dev/schedule"

	// TagPrefix is the prefix of labels that users put on a TenantJob. The operator copies them to its Job and pods.
	TagPrefix = "tag.tenantry.dev/"
)

// Annotations.
const (
	// AnnotationAdoptBy on an existing namespace allows the Tenant that it names to adopt the namespace. The Tenant's
	// spec.namespace.name must name the namespace, too.
	AnnotationAdoptBy = "tenantry.dev/adopt-by"
	// AnnotationAdopted is "true" on a namespace that the operator adopted, and so never deletes.
	AnnotationAdopted = "tenantry.dev/adopted"
	// AnnotationBeforeAdoption on an adopted namespace says, in JSON, which values its labels had that the operator has
	// taken over, and which of its objects had a name of the operator's. The release restores these labels.
	AnnotationBeforeAdoption = "tenantry.dev/before-adoption"
	// AnnotationTenantUID on a tenant's namespace is the UID of its Tenant. A Tenant that is created again under the
	// same name has another UID.
	AnnotationTenantUID = "tenantry.dev/tenant-uid"
	// AnnotationDesiredHash on a tenant's namespace is the hash of the desired state, so that a restarted operator
	// compares it and writes nothing.
	AnnotationDesiredHash = "tenantry.dev/desired-hash"
	// AnnotationMemberTemplates on a tenant's namespace lists, comma separated and sorted, the TenantJobTemplates that
	// the tenant's members may dispatch.
	AnnotationMemberTemplates = "tenantry.dev/member-templates"
	// AnnotationProtected "true" on a Tenant is to protect it from deletion. Not used yet.
	AnnotationProtected = "tenantry.dev/protected"
	// AnnotationScheduledTime on a TenantFanOut is the tick that created it, in RFC 3339. On its TenantJobs it is the time
	// of the tick for that tenant.
	AnnotationScheduledTime = "tenantry.dev/scheduled-time"
	// AnnotationTimeZoneFrom is "Tenant" on a TenantFanOut whose schedule is read in each tenant's own time zone.
	AnnotationTimeZoneFrom = "tenantry.dev/time-zone-from"
	// AnnotationCaughtUpFrom on a TenantFanOut of a late tick is the oldest of the ticks that ran together with it, in RFC
	// 3339. Their runs wait for each other.
	AnnotationCaughtUpFrom = "tenantry.dev/caught-up-from"
	// AnnotationCaughtUpTo on a TenantFanOut of a late tick is the newest of the ticks that ran together with it, in RFC
	// 3339. Ticks until that time do not supersede it.
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
	// FinalizerTenant stays on a Tenant until its jobs are gone and its namespace is deleted or released.
	FinalizerTenant = "tenantry.dev/tenant"
	// FinalizerCredentials is on a TenantJob from before a credential is issued for it until that is revoked, and on a
	// CredentialProvider that has issued credentials until all are revoked.
	FinalizerCredentials = "tenantry.dev/credentials"
)

// Names of objects that the operator creates in every tenant's namespace.
const (
	// RunnerServiceAccount is the service account that a tenant's pods run as. It has no rights.
	RunnerServiceAccount = "tenant-runner"
)
