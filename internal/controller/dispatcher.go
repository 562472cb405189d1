package controller

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/queue"
)

const (
	// callsAtOnce is how many TenantJobs are called within callLasts and have not begun: the order in which they start
	// is that of the queue and not that of the work queue, and a limit that is lowered finds few that are on their way.
	callsAtOnce = 64
	callLasts   = time.Second
	// startsOfRush is how many starts in two seconds are a rush, and rushLasts how long it lasts after that: the starts of a
	// fan-out come in bursts, each when its ledger was written.
	startsOfRush = 50
	rushLasts    = 2 * flushInterval
	// hushFor is how long the first words about a run wait in a rush. After that they come slowly, as long as it lasts: one
	// for every startsPerWord starts, so that they take little of whatever the API server can do.
	hushFor       = time.Minute
	startsPerWord = 10
	// firstRetryAfter and lastRetryAfter are when a tenant is tried again after a start that was refused.
	firstRetryAfter = 2 * time.Second
	lastRetryAfter  = 5 * time.Minute
)

// Dispatcher is the one place that decides which TenantJob starts next. It feeds what the watches bring into a
// queue.State, calls the TenantJobs whose turn it is, and knows what the caches can't know yet: the starts in flight.
//
// Nothing in it needs to survive a restart. Slots are counted by what holds them: live Jobs, pods that have not ended of
// Jobs that are gone, and starts under way. It calls nobody before it has read all of them from the API server, and no
// more once its process has lost its lease.
//
//	TenantJob controller ──Ask──► called: make the Job ──Begun──► slot ──Job over, pods gone──► free
//	                       Wait, Over, Forget
//	TenantFanOut controller ──OpenFanOut, CloseFanOut──► which children may start
//	Tenant controller ──Close, Open──► the tenant's door, for suspension
type Dispatcher struct {
	clock clock.PassiveClock
	// live reads from the API server.
	live client.Reader
	// leads says whether this process may still start anything.
	leads func() bool

	mu    sync.Mutex
	idle  *sync.Cond
	state *queue.State
	// open means that everything that holds a slot is known.
	open bool
	// unheard are the TenantJobs of which nobody has said since the restart how they stand. None is called before all are
	// heard, or the first to speak would not wait its turn; or until the time is over. Heard are those that have spoken
	// before it was open.
	unheard, heard map[types.UID]struct{}
	unheardUntil   time.Time

	slots map[types.UID]*slot
	// calls are the slots of those that were called and have not begun, and when they were.
	calls map[types.UID]time.Time
	// made are the TenantJobs that this process has started and whose status does not say so yet.
	made map[types.UID]*started
	// verdicts on TenantJobs that are to end.
	verdicts map[types.UID]Verdict
	tenants  map[string]queue.Tenant
	// closed are the tenants whose door is shut, inFlight their starts that have begun and not ended.
	closed   map[string]bool
	inFlight map[string]int
	refusals map[string]refusal
	rush     rush
	fanOuts  map[string]*openFanOut
	// children that wait, by fan-out.
	children map[string]map[types.UID]child

	// enqueue has a TenantJob looked at. Before it is there, those called are kept.
	enqueue func(summons)
	called  []summons
	// wake has the loop look at what has come.
	wake chan struct{}
	// wakeAt is when the next one can start by itself.
	wakeAt time.Time
}

// Verdict is the outcome with which a TenantJob is to end.
type Verdict struct{ Reason, Message string }

// Answer to a TenantJob that asks.
type Answer struct {
	// Begun is set when its start has begun: make the Job, and call this with what came of it and, if there is no Job, why.
	Begun func(came Outcome, why string)
	// End is the outcome with which it is to end instead. Nil means none.
	End *Verdict
	// Hold is what to say of it while it waits. The zero value means nothing.
	Hold queue.Hold
	// Waited is the time that counts against its maxWaitSeconds.
	Waited time.Duration
	// Again is when to ask again. Zero means when it is called.
	Again time.Duration
}

// Outcome of a start.
type Outcome int

const (
	// NotMade: there is no Job, and the TenantJob itself waits for something else or is over.
	NotMade Outcome = iota
	// Refused: there is no Job, and there would be none for others of the tenant, either.
	Refused
	// Made: there is a Job.
	Made
	// Unsure: there may be a Job, or be one soon. Its slot stays taken until the TenantJob begins again or is over.
	Unsure
)

// NewDispatcher returns one that knows nothing yet. It reads from the API server through live.
func NewDispatcher(c clock.PassiveClock, live client.Reader, leads func() bool) *Dispatcher {
	if leads == nil {
		leads = func() bool { return true }
	}
	d := &Dispatcher{
		clock: c, live: live, leads: leads,
		state: queue.New(c.Now()), unheard: map[types.UID]struct{}{}, heard: map[types.UID]struct{}{},
		slots: map[types.UID]*slot{}, calls: map[types.UID]time.Time{}, made: map[types.UID]*started{}, verdicts: map[types.UID]Verdict{},
		tenants: map[string]queue.Tenant{}, closed: map[string]bool{}, inFlight: map[string]int{}, refusals: map[string]refusal{},
		fanOuts: map[string]*openFanOut{}, children: map[string]map[types.UID]child{},
		wake: make(chan struct{}, 1),
	}
	d.idle = sync.NewCond(&d.mu)
	return d
}

// Ask whether a TenantJob may start now that nothing but limits can hold. Said is what its condition says of what holds
// it, if it does.
func (d *Dispatcher) Ask(j queue.Job, said string) Answer {
	defer d.lock()()
	d.hear(j.UID)
	if s := d.slots[j.UID]; s != nil && !s.called {
		if s.unsure && d.mayBegin(s) {
			return d.begin(s)
		}
		return Answer{Again: job.SettleAfter}
	}
	if verdict, ends := d.verdicts[j.UID]; ends {
		return Answer{End: &verdict}
	}
	if end := d.join(&j, ""); end != nil {
		d.withdraw(j.UID)
		return Answer{End: end}
	}
	d.state.Put(j)
	d.dispatch()
	verdict, ends := d.verdicts[j.UID]
	switch s := d.slots[j.UID]; {
	case ends:
		return Answer{End: &verdict}
	case s != nil && d.mayBegin(s):
		return d.begin(s)
	case s != nil, !d.open:
		return Answer{Again: job.SettleAfter}
	}
	return Answer{Hold: d.state.StatusHold(j.UID, said, job.SettleAfter), Waited: d.state.Waited(j.UID)}
}

// Wait says that a TenantJob waits for something that is no limit, as its Held says. A job without a queue is known to
// wait and no more.
func (d *Dispatcher) Wait(j queue.Job) {
	defer d.lock()()
	d.hear(j.UID)
	if s := d.slots[j.UID]; s != nil && !s.called {
		return
	}
	d.uncall(j.UID)
	_ = d.join(&j, j.Held)
	if j.Queue == "" {
		d.state.Remove(j.UID)
	} else {
		d.state.Put(j)
	}
	d.dispatch()
}

// Over says that a TenantJob has its outcome, before anything else is started in its place.
func (d *Dispatcher) Over(uid types.UID, child *ChildOutcome) {
	defer d.lock()()
	if child != nil {
		d.record(*child)
	}
	d.withdraw(uid)
	if s := d.slots[uid]; s != nil {
		s.decided = true
		switch {
		case s.inFlight:
		case !s.endedAt.IsZero():
			d.vacate(s)
		case !s.seen: // A Job that the cache has never shown may not show up any more.
			s.lost = true
		}
	}
	d.dispatch()
}

// Runs says that a TenantJob has its Job.
func (d *Dispatcher) Runs(uid types.UID) {
	defer d.lock()()
	d.hear(uid)
	d.dispatch()
}

// withdraw a TenantJob that waits.
func (d *Dispatcher) withdraw(uid types.UID) {
	d.hear(uid)
	d.uncall(uid)
	if d.slots[uid] == nil {
		d.leave(uid)
		d.state.Remove(uid)
	}
}

// Made says whether a TenantJob was started by this process and does not yet say so in its status.
func (d *Dispatcher) Made(uid types.UID) bool {
	defer d.lock()()
	_, made := d.made[uid]
	return made
}

// Settles is for how long the cache may well not have the Job yet of a TenantJob that this process has started. Zero means
// that it should, or that there is none.
func (d *Dispatcher) Settles(uid types.UID) time.Duration {
	defer d.lock()()
	s, made := d.made[uid]
	if !made {
		return 0
	}
	return max(0, s.at.Add(job.SettleAfter).Sub(d.clock.Now()))
}

// Replaced says whether a TenantJob that runs is to be stopped for a later run of its schedule.
func (d *Dispatcher) Replaced(uid types.UID) *Verdict {
	defer d.lock()()
	if v, ends := d.verdicts[uid]; ends && d.slots[uid] != nil {
		return &v
	}
	return nil
}

// Forget that a TenantJob was started, or is to end: its status says so, and the cache has its Job, or it is over.
func (d *Dispatcher) Forget(uid types.UID, isOver bool) {
	defer d.lock()()
	delete(d.made, uid)
	if isOver {
		delete(d.verdicts, uid)
	}
}

// Holding says whether a TenantJob holds a slot: its Job is being made, is live, or its pods have not ended.
func (d *Dispatcher) Holding(uid types.UID) bool {
	defer d.lock()()
	s := d.slots[uid]
	return s != nil && !s.called
}

// Counts of every queue in which something waits or runs, or of which there is an object, by name. Nil until all that wait
// are known.
func (d *Dispatcher) Counts() map[string]queue.Counts {
	defer d.lock()()
	if !d.open || d.listens() {
		return nil
	}
	return d.state.AllCounts()
}

// listens says whether there are TenantJobs of which nobody has said yet how they stand, and it is worth waiting for them.
func (d *Dispatcher) listens() bool {
	return len(d.unheard) > 0 && d.clock.Now().Before(d.unheardUntil)
}

// RunningByTenant is how many TenantJobs of each tenant hold slots.
func (d *Dispatcher) RunningByTenant() map[string]int {
	defer d.lock()()
	return d.state.RunningByTenant()
}

// Waiting is how many TenantJobs of a tenant wait.
func (d *Dispatcher) Waiting(tenant string) int {
	defer d.lock()()
	return d.state.Waiting(tenant)
}

// Hush says whether the words about a TenantJob that this process has started are to wait: in a rush, starts come first. It
// is looked at again when that is over, or some time after hushFor.
func (d *Dispatcher) Hush(uid types.UID) bool {
	defer d.lock()()
	s := d.made[uid]
	if s == nil || s.overdue || !d.rush.on(d.clock.Now()) {
		return false
	}
	s.hushed = true
	return true
}

// Rushes says whether so many start just now that all else had better wait.
func (d *Dispatcher) Rushes() bool {
	defer d.lock()()
	return d.rush.on(d.clock.Now())
}

// Close shuts a tenant's door and waits for its starts in flight: when it returns, whoever lists the tenant's Jobs finds
// all there will be until Open.
func (d *Dispatcher) Close(tenant string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed[tenant] {
		d.closed[tenant] = true
		d.setTenant(d.tenants[tenant])
	}
	for d.inFlight[tenant] > 0 {
		d.idle.Wait()
	}
}

// Open opens a tenant's door.
func (d *Dispatcher) Open(tenant string) {
	defer d.lock()()
	if d.closed[tenant] {
		delete(d.closed, tenant)
		d.setTenant(d.tenants[tenant])
		d.dispatch()
	}
}

// lock takes the lock and tells the time.
func (d *Dispatcher) lock() (unlock func()) {
	d.mu.Lock()
	d.state.Advance(d.clock.Now())
	return d.mu.Unlock
}
