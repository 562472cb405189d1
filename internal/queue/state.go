package queue

import (
	"cmp"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// State has the TenantJobs that wait, those that hold slots, and the limits. Callers keep it up to date, and Next
// decides. It is not safe for concurrent use.
type State struct {
	now     time.Time
	jobs    map[types.UID]*entry
	queues  map[string]*queue
	tenants map[string]*tenant
	fanOuts map[string]*fanOut
	// templateLimits are how many jobs of a template one tenant may run at once.
	templateLimits map[string]int32

	// startable has the queues in which something can start. The one whose last start is the longest ago is first.
	startable heap[*queue]

	// The other heaps have what changes as time passes.

	// notDue has the jobs whose NotBefore is ahead.
	notDue heap[*entry]
	// backedOff has the tenants that back off after a failed start.
	backedOff heap[*tenant]
	// rateLimited has the queues that startsPerMinute holds.
	rateLimited heap[*queue]
	// expiring has the waveQueues in which a job expires if nothing changes.
	expiring heap[*waveQueue]

	// reservesStarts is what ReserveStarts sets, and unreserved the queues that Unreserved returns next.
	reservesStarts bool
	unreserved     []string

	// held is what holds all jobs. Empty means that nothing does.
	held string

	// lastSequence is the last sequence number that was given out.
	lastSequence uint64
	review       review
}

// queue is a TenantQueue.
type queue struct {
	Queue
	// exists is true if there is such a TenantQueue, and always for the default queue, which needs none.
	exists  bool
	flows   map[string]*flow
	waves   map[waveKey]*waveQueue
	running int
	waiting int
	// startable has the waveQueues in which something can start.
	startable heap[*waveQueue]
	// byAge has all waiting jobs, the oldest first.
	byAge heap[*entry]
	// idle has the flows without any jobs. They are kept until virtual time reaches their start tags.
	idle heap[*flow]
	// virtualTime is the start tag of the last start.
	virtualTime int64
	// sequence is the sequence number of the last start.
	sequence         uint64
	starts           startLog
	rateLimitedUntil time.Time
	// reserved is how many starts may be made before a record of starts is stored again. See State.ReserveStarts.
	reserved int
	// unreserved is true while the next start waits for that.
	unreserved bool

	startableIndex, rateLimitedIndex int
}

// tenant is a Tenant.
type tenant struct {
	Tenant
	exists bool
	// backoffUntil is when the tenant may start jobs again after a failed start.
	backoffUntil time.Time
	// backoffMessage is the status message for that time. Empty means the general one.
	backoffMessage string
	running        int
	// flows of the tenant, by queue.
	flows smallMap[*flow]
	// usages of the tenant, by template.
	usages    smallMap[*templateUsage]
	schedules map[string]*scheduleRuns

	backedOffIndex int
}

// fanOut is a TenantFanOut.
type fanOut struct {
	FanOut
	exists  bool
	running int
	waves   map[*waveQueue]struct{}
}

// templateUsage counts the slots that a tenant's jobs of one template hold.
type templateUsage struct {
	template string
	running  int
	// queues are those in which jobs of this tenant and template wait.
	queues map[*templateQueue]struct{}
}

// scheduleRuns are a tenant's jobs of one schedule.
type scheduleRuns struct {
	running map[types.UID]*entry
	waiting map[*entry]struct{}
}

// flow is a tenant in a queue.
type flow struct {
	queue  *queue
	tenant *tenant
	// The flow with the lowest startTag starts next; of equal ones, the flow with the lowest sequence.
	startTag int64
	sequence uint64
	// ready counts the waiting jobs that are in the ready heaps.
	ready, waiting, running int
	queues                  map[waveKey]*flowQueue

	idleIndex int
}

// waveQueue has a queue's waiting jobs of one wave of a fan-out, or those without a fan-out.
type waveQueue struct {
	queue *queue
	key   waveKey
	// fanOut is nil for jobs without a fan-out.
	fanOut *fanOut
	// startable has the flowQueues in which something can start unless the fan-out or the queue holds it.
	startable heap[*flowQueue]
	waiting   int
	// head is the job that would start next. It is a copy, so that the order of waveQueues changes only when a waveQueue
	// is moved in the queue's heap.
	head head

	clock
	// expiring has the jobs whose stopwatch runs and that have a MaxWait.
	expiring heap[*entry]
	// deadline is when the first of these jobs expires.
	deadline time.Time

	startableIndex, expiringIndex int
}

type waveKey struct {
	fanOut string
	wave   int
}

// head is the first job of a waveQueue, with what its flow is sorted by.
type head struct {
	startTag int64
	sequence uint64
	job      *entry
}

// flowQueue has a tenant's jobs in a waveQueue.
type flowQueue struct {
	flow      *flow
	wave      *waveQueue
	templates map[string]*templateQueue
	// startable has the templateQueues in which something can start unless the tenant, the fan-out or the queue holds it.
	startable heap[*templateQueue]

	startableIndex int
}

// templateQueue has a flowQueue's jobs of one template.
type templateQueue struct {
	flow  *flowQueue
	usage *templateUsage
	// ready has the jobs that nothing of their own holds: they are due, have no Held and replace no run.
	ready   heap[*entry]
	waiting int

	startableIndex int
}

// entry is a TenantJob that waits or holds slots.
type entry struct {
	Job
	queue  *queue
	tenant *tenant
	usage  *templateUsage
	// fanOut is nil for a job without a fan-out.
	fanOut *fanOut
	// schedule is nil for a job without a schedule.
	schedule *scheduleRuns
	flow     *flow
	// templateQueue is nil while the job holds slots.
	templateQueue *templateQueue
	// sequence is the order in which State got to know the jobs.
	sequence uint64
	// started is when the job took its slots.
	started time.Time
	// cost is what its start added to the start tag of its flow, and turn the sequence number that the flow had before.
	cost int64
	turn uint64
	// replacing is true while the job waits for the runs that are being stopped for it.
	replacing bool
	// isDue is true once NotBefore has passed.
	isDue bool
	stopwatch
	// knownSince is when State got to know the job.
	knownSince time.Time
	// statusHold is what the job's status message says. The zero value means that it says nothing.
	statusHold Hold

	readyIndex, notDueIndex, ageIndex, expiringIndex, reviewIndex int
}

// New returns a State that knows only the time.
func New(now time.Time) *State {
	s := &State{
		now:            now,
		jobs:           map[types.UID]*entry{},
		queues:         map[string]*queue{},
		tenants:        map[string]*tenant{},
		fanOuts:        map[string]*fanOut{},
		templateLimits: map[string]int32{},
	}
	s.startable = heap[*queue]{
		less:  func(a, b *queue) bool { return a.sequence < b.sequence || a.sequence == b.sequence && a.Name < b.Name },
		index: func(q *queue) *int { return &q.startableIndex },
	}
	s.rateLimited = heap[*queue]{
		less: func(a, b *queue) bool {
			return cmp.Or(a.rateLimitedUntil.Compare(b.rateLimitedUntil), cmp.Compare(a.Name, b.Name)) < 0
		},
		index: func(q *queue) *int { return &q.rateLimitedIndex },
	}
	s.backedOff = heap[*tenant]{
		less: func(a, b *tenant) bool {
			return cmp.Or(a.backoffUntil.Compare(b.backoffUntil), cmp.Compare(a.Name, b.Name)) < 0
		},
		index: func(t *tenant) *int { return &t.backedOffIndex },
	}
	s.notDue = heap[*entry]{
		less: func(a, b *entry) bool {
			return cmp.Or(a.NotBefore.Compare(b.NotBefore), cmp.Compare(a.UID, b.UID)) < 0
		},
		index: func(e *entry) *int { return &e.notDueIndex },
	}
	s.expiring = heap[*waveQueue]{
		less: func(a, b *waveQueue) bool {
			return cmp.Or(a.deadline.Compare(b.deadline), cmp.Compare(a.queue.Name, b.queue.Name), a.key.compare(b.key)) < 0
		},
		index: func(w *waveQueue) *int { return &w.expiringIndex },
	}
	return s
}

// nextSequence gives out the next sequence number.
func (s *State) nextSequence() uint64 {
	s.lastSequence++
	return s.lastSequence
}

// waits is true for a job that waits, false for one that holds slots.
func (e *entry) waits() bool { return e.templateQueue != nil }

func (k waveKey) compare(other waveKey) int {
	return cmp.Or(cmp.Compare(k.fanOut, other.fanOut), cmp.Compare(k.wave, other.wave))
}
