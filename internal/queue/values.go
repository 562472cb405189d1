package queue

import (
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Job is what the dispatcher knows of a TenantJob.
type Job struct {
	UID types.UID
	Key types.NamespacedName
	// Queue and Tenant are never empty. FanOut and Schedule are empty for a job that none of them made.
	Queue, Tenant, Template string
	FanOut, Schedule        string
	// Wave is the number of its wave in the fan-out.
	Wave int
	// Overlap is what happens to it when another run of its schedule holds a slot of its tenant.
	Overlap v1alpha1.ConcurrencyPolicy
	// Tick of its schedule, in whole minutes. Zero means that it is not known.
	Tick time.Time
	// CaughtUpFrom and CaughtUpTo are the first and the last of the ticks that its schedule has caught up on together with its
	// own: runs of these wait for each other, whatever Overlap says of others. Zero means that it has caught up on none.
	CaughtUpFrom, CaughtUpTo time.Time
	Priority                 v1alpha1.JobPriority
	Created                  time.Time
	// NotBefore is when it is due. Zero means at once.
	NotBefore time.Time
	// MaxWait is how long limits may hold it. Zero means for ever.
	MaxWait time.Duration
	// Waited is how much of MaxWait has passed already, before a restart for example. It is read only when the job is
	// added.
	Waited time.Duration
	// Held is the status message of what keeps this job from starting: its template is not ready, the policies are not in
	// force, its fan-out has not recorded it yet. Empty means nothing. Limits do not belong here.
	Held string
}

// Queue is what a TenantQueue allows. Zero means no limit.
type Queue struct {
	Name                                                   string
	MaxConcurrent, MaxConcurrentPerTenant, StartsPerMinute int32
	Suspended                                              bool
}

// Tenant is what a Tenant allows. A MaxConcurrent of zero means no limit, a Weight of zero means 1.
type Tenant struct {
	Name                  string
	MaxConcurrent, Weight int32
	// Held is the status message of what keeps all of its jobs from starting: it is suspended, it is not ready. Empty
	// means nothing.
	Held string
}

// FanOut is what a TenantFanOut allows.
type FanOut struct {
	Name string
	// MaxConcurrent is how many of its children may hold slots. Zero means no limit.
	MaxConcurrent int32
	// OpenWave is the last wave whose children may start.
	OpenWave int
	// Held is the status message of what keeps all of its children from starting: it is paused, it is being deleted. Empty
	// means nothing.
	Held string
}

// Action is what to do about a TenantJob.
type Action string

const (
	// ActionNone: nothing can start.
	ActionNone Action = ""
	// ActionStart: create its Job. Its slots are taken until Requeue or Remove.
	ActionStart Action = "Start"
	// ActionOverlapped: end it, since an earlier run of its schedule still runs for this tenant. State has removed it. A caller
	// that wants it to take the place of that run instead puts it back with an Overlap of Replace.
	ActionOverlapped Action = "Overlapped"
	// ActionReplace: stop the earlier runs of its schedule for this tenant. It waits until they are removed.
	ActionReplace Action = "Replace"
	// ActionExpire: end it, since limits have held it for its MaxWait. State has removed it.
	ActionExpire Action = "Expire"
)

// Decision is the answer of Next.
type Decision struct {
	Action Action
	Job    Job
	// Earlier are the runs that it overlaps with, for ActionOverlapped and ActionReplace.
	Earlier []types.UID
	// Hold is what held it, for ActionExpire.
	Hold Hold
	// At is when to call Next again if nothing changes before, for ActionNone. Zero means never.
	At time.Time
}

// Counts are the counts for a queue's status.
type Counts struct {
	Waiting, Running int
	// Oldest is when the oldest waiting job was created. Zero when none waits.
	Oldest time.Time
}
