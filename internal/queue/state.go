package queue

import (
	"cmp"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// State is what waits, what holds slots, and the limits. It is fed with values, and Next decides. It is not safe for
// concurrent use.
type State struct {
	now     time.Time
	jobs    map[types.UID]*entry
	queues  map[string]*queue
	tenants map[string]*tenant
	fanOuts map[string]*fanOut
	// perTenant are the limits of templates.
	perTenant map[string]int32

	// ready are the queues in which something can start, the one that started the longest ago first.
	ready heap[*queue]
	// What passes by itself: jobs that come due, tenants that are tried again, queues that may start again, and groups
	// in which a job expires.
	due       heap[*entry]
	backedOff heap[*tenant]
	exhausted heap[*queue]
	expiring  heap[*group]

	// turns is the last turn that was given.
	turns uint64
	review
}

// queue is a TenantQueue.
type queue struct {
	Queue
	// known means that there is one, or that it is the one that needs no object.
	known   bool
	lines   map[string]*line
	groups  map[groupKey]*group
	running int
	waiting int
	// open are the groups in which something can start.
	open heap[*group]
	// oldest are those that wait.
	oldest heap[*entry]
	// idle are the lines without anything, kept until virtual time has caught up with them.
	idle heap[*line]
	// virtual time is the start tag of the last start.
	virtual int64
	// turn of its last start.
	turn     uint64
	starts   startLog
	notUntil time.Time

	readyAt, exhaustedAt int
}

// tenant is a Tenant.
type tenant struct {
	Tenant
	known bool
	// backoff is when it is tried again after a start that failed. Zero means that it is not held back.
	backoff time.Time
	// refusal is why the start failed, in words.
	refusal string
	running int
	// lines of the tenant, by queue.
	lines few[*line]
	// bins, by template.
	bins      few[*bin]
	schedules map[string]*scheduled

	backedOffAt int
}

// fanOut is a TenantFanOut.
type fanOut struct {
	FanOut
	known   bool
	running int
	groups  map[*group]struct{}
}

// bin counts the slots that a tenant's jobs of a template hold.
type bin struct {
	tenant   *tenant
	template string
	running  int
	lanes    map[*lane]struct{}
}

// scheduled are a tenant's jobs of a schedule.
type scheduled struct {
	running map[types.UID]struct{}
	waiting map[*entry]struct{}
}

// line is a tenant's in a queue.
type line struct {
	queue  *queue
	tenant *tenant
	// tag and turn say when it comes: the lowest tag first, and of equal ones the lowest turn.
	tag  int64
	turn uint64
	// ready counts those that have nothing but limits to wait for.
	ready, waiting, running int
	stalls                  map[groupKey]*stall

	idleAt int
}

// group are the waiting children of a fan-out's wave in a queue, or those that are nobody's children.
type group struct {
	queue *queue
	key   groupKey
	// fanOut is nil for those that are nobody's children.
	fanOut *fanOut
	// stalls are the parts of lines in which something can start, but for the fan-out.
	stalls heap[*stall]
	size   int
	// first is what the top of it looks like, so that the order of groups changes only when a group is moved.
	first offer

	clock
	expiry     heap[*entry]
	deadline   time.Time
	openAt     int
	expiringAt int
}

type groupKey struct {
	fanOut string
	wave   int
}

// offer is the job of a line that could start next.
type offer struct {
	tag  int64
	turn uint64
	job  *entry
}

// stall is the part of a line in a group.
type stall struct {
	line  *line
	group *group
	lanes map[string]*lane
	// open are the lanes in which something can start, but for limits of the tenant.
	open heap[*lane]

	stallAt int
}

// lane are a stall's jobs of one template.
type lane struct {
	stall *stall
	bin   *bin
	// jobs that have nothing but limits to wait for.
	jobs heap[*entry]
	size int

	laneAt int
}

// entry is a TenantJob that waits or holds slots.
type entry struct {
	Job
	queue  *queue
	tenant *tenant
	bin    *bin
	fanOut *fanOut
	// schedule is nil when it has none.
	schedule *scheduled
	line     *line
	// lane is nil when it holds slots.
	lane *lane
	// order is that in which jobs were first fed.
	order uint64
	// started is when it took its slots.
	started time.Time
	// replacing means that it waits for runs that are being stopped.
	replacing bool
	// isDue means that its NotBefore was reached.
	isDue bool
	stopwatch
	reviewed

	jobAt, dueAt, oldestAt, expiryAt int
}

// New returns a State that knows nothing but the time.
func New(now time.Time) *State {
	s := &State{
		now:       now,
		jobs:      map[types.UID]*entry{},
		queues:    map[string]*queue{},
		tenants:   map[string]*tenant{},
		fanOuts:   map[string]*fanOut{},
		perTenant: map[string]int32{},
	}
	s.ready = heap[*queue]{
		less:  func(a, b *queue) bool { return a.turn < b.turn || a.turn == b.turn && a.Name < b.Name },
		index: func(q *queue) *int { return &q.readyAt },
	}
	s.exhausted = heap[*queue]{
		less: func(a, b *queue) bool {
			return cmp.Or(a.notUntil.Compare(b.notUntil), cmp.Compare(a.Name, b.Name)) < 0
		},
		index: func(q *queue) *int { return &q.exhaustedAt },
	}
	s.backedOff = heap[*tenant]{
		less: func(a, b *tenant) bool {
			return cmp.Or(a.backoff.Compare(b.backoff), cmp.Compare(a.Name, b.Name)) < 0
		},
		index: func(t *tenant) *int { return &t.backedOffAt },
	}
	s.due = heap[*entry]{
		less: func(a, b *entry) bool {
			return cmp.Or(a.NotBefore.Compare(b.NotBefore), cmp.Compare(a.UID, b.UID)) < 0
		},
		index: func(e *entry) *int { return &e.dueAt },
	}
	s.expiring = heap[*group]{
		less: func(a, b *group) bool {
			return cmp.Or(a.deadline.Compare(b.deadline), cmp.Compare(a.queue.Name, b.queue.Name), a.key.compare(b.key)) < 0
		},
		index: func(g *group) *int { return &g.expiringAt },
	}
	return s
}

func (k groupKey) compare(other groupKey) int {
	return cmp.Or(cmp.Compare(k.fanOut, other.fanOut), cmp.Compare(k.wave, other.wave))
}
