package dispatch

import (
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/queue"
)

// Dispatcher is the one place that decides which TenantJob starts next. It feeds what the watches bring into a
// queue.State, admits the TenantJobs that are next, and knows what the caches can't know yet: the starts under way.
//
// Nothing in it needs to survive a restart. Slots are counted by what holds them: live Jobs, pods that have not ended of
// Jobs that are gone, and starts under way. It admits nobody before it has read all of them from the API server, and no
// more once its process has lost its lease.
type Dispatcher struct {
	log   logr.Logger
	clock clock.Clock
	// live reads from the API server.
	live client.Reader
	// tenantJob reads from the cache. Nil means that it has no such TenantJob.
	tenantJob func(types.NamespacedName) *v1alpha1.TenantJob
	lease     Leadership

	mu    sync.Mutex
	state *queue.State
	slots
	starts
	tenants
	fanOuts
	restart
	requests
	// ends are those of TenantJobs that are to end and do not have their outcome yet.
	ends map[types.UID]End
	wake
}

// Leadership is what a process knows of its lease. *Lease implements it.
type Leadership interface {
	// Leads says whether this process may still start anything: it has its lease for long enough to make a Job.
	Leads() bool
	// OthersRenewal is when another process last renewed or released the lease. Zero means that there was none.
	OthersRenewal() time.Time
}

// NoLease is the Leadership of a process that runs without leader election. It always leads.
type NoLease struct{}

// Leads implements Leadership.
func (NoLease) Leads() bool { return true }

// OthersRenewal implements Leadership.
func (NoLease) OthersRenewal() time.Time { return time.Time{} }

// New returns a Dispatcher that knows nothing yet. It reads from the API server through live.
func New(log logr.Logger, c clock.Clock, live client.Reader, lease Leadership) *Dispatcher {
	d := &Dispatcher{
		log: log, clock: c, live: live, lease: lease, state: queue.New(c.Now()),
		slots: newSlots(), starts: newStarts(), fanOuts: newFanOuts(), restart: newRestart(),
		ends: map[types.UID]End{}, wake: newWake(),
	}
	d.tenantJob = func(types.NamespacedName) *v1alpha1.TenantJob { return nil }
	d.state.ReserveStarts()
	d.tenants = newTenants(&d.mu, c)
	return d
}

// Standing is what the Dispatcher knows of a TenantJob.
type Standing struct {
	// Started means that this process has made its Job, which its status or the caches may not show yet.
	Started bool
	// Settles is for how long the cache may still lack that Job. Zero means that the cache should have it.
	Settles time.Duration
	// Replaced is how it is to end, although it runs, for a later run of its schedule. Nil means that it is not.
	Replaced *End
	// Deferred means that what its status says of its start is to be written later: so many start now that starts come
	// first, and short runs are over by then. It is requested again when the rush is over, or has lasted for long.
	Deferred bool
	// FanOut is what its fan-out says of it, and Template the one that the fan-out has sealed. Both are nil for one that is
	// nobody's child, and while nothing is known of its fan-out.
	FanOut   *job.FanOut
	Template *v1alpha1.TenantJobTemplate
}

// End is the outcome with which a TenantJob is to end.
type End struct{ Reason, Message string }

// Standing returns what is known of a TenantJob. It changes nothing.
func (d *Dispatcher) Standing(tj *v1alpha1.TenantJob) Standing {
	defer d.lock()()
	now := d.clock.Now()
	var s Standing
	if start := d.assumed[tj.UID]; start != nil {
		s.Started, s.Settles = true, max(0, start.at.Add(job.SettleAfter).Sub(now))
	}
	s.Deferred = d.rush.goesOn(now) && !d.isOverdue(tj.UID)
	if end, ends := d.ends[tj.UID]; ends && d.slot(tj.UID) != nil {
		s.Replaced = &end
	}
	s.FanOut, s.Template = d.child(tj)
	return s
}

// Answer to a TenantJob that asks.
type Answer struct {
	// Finish is set when its start may begin: make the Job, and call this with what came of it and, if there is no Job, why.
	Finish func(result StartResult, why string)
	// Doubtful means, of one whose start may begin, that its Job may have been made before, and deleted: find out whether it was.
	Doubtful bool
	// Admitted means, after Prepare, that the TenantJob is next and has its slot: prepare its start and call Ask.
	Admitted bool
	// End is the outcome with which it is to end instead. Nil means none.
	End *End
	// Hold is what its status has to say of what holds it. The zero value means nothing.
	Hold queue.Hold
	// Waited is the time that counts against its maxWaitSeconds.
	Waited time.Duration
	// ServerInTrouble means that the starts of several tenants get no answer, and none succeeds: that Hold is not its tenant's fault.
	ServerInTrouble bool
	// Again is when to ask again. Zero means when it is requested.
	Again time.Duration
}

// Ask asks whether a TenantJob may start now. Only limits may hold it: for one that waits for something else there is Wait.
// Message is what its status says of the limit that holds it, empty if it says nothing of one.
func (d *Dispatcher) Ask(j queue.Job, message string) Answer { return d.ask(j, message, d.begin) }

// Prepare asks the same for a TenantJob of which something has to be made before its Job can be, and begins no start. One that is
// admitted keeps its slot until it asks, waits or ends.
func (d *Dispatcher) Prepare(j queue.Job, message string) Answer {
	return d.ask(j, message, func(*slot) Answer { return Answer{Admitted: true} })
}

func (d *Dispatcher) ask(j queue.Job, message string, begin func(*slot) Answer) Answer {
	defer d.lock()()
	d.reported(j.UID)
	if s := d.slot(j.UID); s != nil && !s.admitted {
		if d.mayRepeat(s) {
			return begin(s)
		}
		return Answer{Again: job.SettleAfter}
	}
	if end, ends := d.ends[j.UID]; ends {
		return Answer{End: &end}
	}
	if end := d.applyFanOut(&j, ""); end != nil {
		d.withdraw(j.UID)
		return Answer{End: end}
	}
	d.state.Put(j)
	d.asking = j.UID
	d.admit()
	d.asking = ""
	end, ends := d.ends[j.UID]
	switch s := d.slot(j.UID); {
	case ends:
		return Answer{End: &end}
	case s != nil && d.mayBegin(s):
		return begin(s)
	case s != nil, !d.synced:
		return Answer{Again: job.SettleAfter}
	}
	return Answer{
		Hold: d.state.StatusHold(j.UID, message, job.SettleAfter), Waited: d.state.Waited(j.UID), ServerInTrouble: d.serverInTrouble(),
	}
}

// Wait says that a TenantJob waits for something that is no limit, as its Held says. A job without a queue is known to
// wait and no more.
func (d *Dispatcher) Wait(j queue.Job) {
	defer d.lock()()
	d.reported(j.UID)
	if s := d.slot(j.UID); s != nil && !s.admitted {
		return
	}
	d.revokeAdmission(j.UID)
	_ = d.applyFanOut(&j, j.Held)
	if j.Queue == "" {
		d.state.Remove(j.UID)
	} else {
		d.state.Put(j)
	}
	d.admit()
}

// Report is what was found out about a TenantJob in one pass of its controller. The zero value says nothing.
type Report struct {
	UID types.UID
	// Running means that it has its Job.
	Running bool
	// Deferred means that its status does not say so yet, since Standing asked for that.
	Deferred bool
	// Over means that it has its outcome, or is being deleted, and Outcome is what that is for its fan-out. Nil means that
	// it is nobody's child.
	Over    bool
	Outcome *ChildOutcome
	// Settled means that its status and the caches, as they were read, show all of its start: the TenantJob says that it
	// was started or is over, and its Job is in the cache, or gone. OverInCache means that they show its outcome.
	Settled, OverInCache bool
}

// Report takes in what was found out about a TenantJob. It has to come before its status is written, since another one may
// start as soon as that is.
func (d *Dispatcher) Report(r Report) {
	defer d.lock()()
	if r.Settled {
		delete(d.assumed, r.UID)
	}
	if r.OverInCache {
		delete(d.ends, r.UID)
	}
	switch {
	case r.Over:
		d.over(r.UID, r.Outcome)
	case r.Running:
		d.reported(r.UID)
	default:
		return
	}
	if start := d.assumed[r.UID]; r.Deferred && start != nil {
		start.deferred = true
	}
	d.admit()
}

// over takes in that a TenantJob has its outcome, before anything else is started in its place.
func (d *Dispatcher) over(uid types.UID, outcome *ChildOutcome) {
	if outcome != nil {
		d.recordOutcome(*outcome)
	}
	d.withdraw(uid)
	if s := d.slot(uid); s != nil {
		s.decided = true
		switch {
		case s.starting:
		case !s.endedAt.IsZero():
			d.releaseEnded(s)
		case !s.cached: // If the cache never shows the Job, no event releases the slot.
			s.untracked = true
		}
	}
}

// withdraw takes a TenantJob that waits out of the queue.
func (d *Dispatcher) withdraw(uid types.UID) {
	d.reported(uid)
	delete(d.doubtful, uid)
	d.revokeAdmission(uid)
	if d.slot(uid) == nil {
		d.removeChild(uid)
		d.state.Remove(uid)
	}
}

// Absence is the time in which no process started anything before this one did: from the last renewal of the lease by another until
// this one knew what runs. It is empty when that is not known.
func (d *Dispatcher) Absence() (from, until time.Time) {
	defer d.lock()()
	if from = d.lease.OthersRenewal(); from.IsZero() {
		return from, from
	}
	if until = d.syncedAt; until.IsZero() {
		until = d.clock.Now()
	}
	return from, until
}

// HoldAll keeps everybody from starting, for the reason in the message, until it is called with an empty one. The starts under way
// go on.
func (d *Dispatcher) HoldAll(message string) {
	defer d.lock()()
	d.state.HoldAll(message)
	if message != "" {
		d.revokeAdmissions()
	}
	d.admit()
}

// Holding says whether a TenantJob holds a slot: its Job is being made, is live, or its pods have not ended.
func (d *Dispatcher) Holding(uid types.UID) bool {
	defer d.lock()()
	s := d.slot(uid)
	return s != nil && !s.admitted
}

// HasSlot says whether a TenantJob holds a slot or is admitted to one.
func (d *Dispatcher) HasSlot(uid types.UID) bool {
	defer d.lock()()
	return d.slot(uid) != nil
}

// Waiting is how many TenantJobs of a tenant wait.
func (d *Dispatcher) Waiting(tenant string) int {
	defer d.lock()()
	return d.state.Waiting(tenant)
}

// Rushing says whether so many TenantJobs start now that all other writes had better wait.
func (d *Dispatcher) Rushing() bool {
	defer d.lock()()
	return d.rush.goesOn(d.clock.Now())
}

// Counts of every queue in which something waits or runs, or of which there is an object, by name. Nil until all that wait
// are known.
func (d *Dispatcher) Counts() map[string]queue.Counts {
	defer d.lock()()
	if !d.synced || d.awaitsReports(d.clock.Now()) {
		return nil
	}
	return d.state.AllCounts()
}

// RunningByTenant is how many TenantJobs of each tenant hold slots.
func (d *Dispatcher) RunningByTenant() map[string]int {
	defer d.lock()()
	return d.state.RunningByTenant()
}

// lock takes the lock and tells the queue the time.
func (d *Dispatcher) lock() (unlock func()) {
	d.mu.Lock()
	d.state.Advance(d.clock.Now())
	return d.mu.Unlock
}
