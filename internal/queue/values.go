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
	// Queue and Tenant are never empty. FanOut and Schedule are when it is nobody's child.
	Queue, Tenant, Template string
	FanOut, Schedule        string
	// Wave of its fan-out that it belongs to.
	Wave int
	// Overlap says what becomes of it when another run of its schedule holds a slot of its tenant.
	Overlap  v1alpha1.ConcurrencyPolicy
	Priority v1alpha1.JobPriority
	Created  time.Time
	// NotBefore is when it is due. Zero means at once.
	NotBefore time.Time
	// MaxWait is how long limits may hold it. Zero means for ever.
	MaxWait time.Duration
	// Waited is how much of it had passed when it came to be known, before a restart say. It is read once.
	Waited time.Duration
	// Held is what keeps this one from starting, in words for its condition: its template is not ready, the policies are
	// not in force, its fan-out has not written down that it was made. Empty means nothing. Limits are not among it.
	Held string
}

// Queue is what a TenantQueue allows. Zero means no limit.
type Queue struct {
	Name                                                   string
	MaxConcurrent, MaxConcurrentPerTenant, StartsPerMinute int32
	Suspended                                              bool
}

// Tenant is what a Tenant allows. A zero MaxConcurrent means no limit, a zero Weight 1.
type Tenant struct {
	Name                  string
	MaxConcurrent, Weight int32
	// Held is what keeps all of its jobs from starting, in words: it is suspended, it is not ready. Empty means nothing.
	Held string
}

// FanOut is what a TenantFanOut allows.
type FanOut struct {
	Name string
	// MaxConcurrent of its children, in tenants. Zero means no limit.
	MaxConcurrent int32
	// OpenWave is the last wave whose children may start.
	OpenWave int
	// Held is what keeps all of its children from starting, in words: it is paused, it is being deleted. Empty means
	// nothing.
	Held string
}

// Action is what is to be done about a TenantJob.
type Action string

const (
	// ActionNone: nothing can start.
	ActionNone Action = ""
	// ActionStart: make its Job. Its slots are taken: Back or Remove gives them back.
	ActionStart Action = "Start"
	// ActionOverlapped: end it, an earlier run of its schedule still runs for this tenant. It is forgotten.
	ActionOverlapped Action = "Overlapped"
	// ActionReplace: stop the earlier runs of its schedule for this tenant. It waits until they are removed.
	ActionReplace Action = "Replace"
	// ActionExpire: end it, limits have held it for its MaxWait. It is forgotten.
	ActionExpire Action = "Expire"
)

// Decision is what comes next.
type Decision struct {
	Action Action
	Job    Job
	// Earlier are the runs that it overlaps with, for ActionOverlapped and ActionReplace.
	Earlier []types.UID
	// Hold is what held it, for ActionExpire.
	Hold Hold
	// At is when to ask again if nothing is fed before, for ActionNone. Zero means never.
	At time.Time
}

// Counts are those of a queue's status.
type Counts struct {
	Waiting, Running int
	// Oldest is when the oldest that waits was made. Zero when none waits.
	Oldest time.Time
}

// Place is where a TenantJob stands among those that have nothing but limits to wait for. 1 is next.
type Place struct {
	// InTenant is its place among its own tenant's in the queue, OfTenant how many there are.
	InTenant, OfTenant int
	// InQueue is about its place among all in the queue, as if there were no limits but the queue's. OfQueue is how many
	// there are.
	InQueue, OfQueue int
}
