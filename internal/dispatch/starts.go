package dispatch

import (
	"cmp"
	"context"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tenantry/tenantry/internal/kube"
)

// WriteTimeout is how long the making of a Job may take. It is less than what is left of a lease when its leader stops
// trying to renew it, so that no start of an old leader arrives when a new one counts.
const WriteTimeout = 5 * time.Second

const (
	// RushStarts is how many starts in two seconds are a rush, and RushLasts how long it lasts after that: the starts of a
	// fan-out come in bursts, one each time that its ledger is stored.
	RushStarts = 50
	RushLasts  = 4 * time.Second
	// deferFor is how long the first status of a run is deferred in a rush. After that statuses are written slowly as long as
	// it lasts: one for every startsPerStatus starts, so that they take little of whatever the API server can do.
	deferFor        = time.Minute
	startsPerStatus = 10
)

// starts are the starts of this process.
type starts struct {
	// assumed are the TenantJobs that were started and whose status, or whose Job in the cache, does not show it yet.
	assumed map[types.UID]*assumedStart
	rush    rush
}

// assumedStart is which TenantJob was started, and when.
type assumedStart struct {
	types.NamespacedName
	at time.Time
	// deferred means that the status about it waits, overdue that it has waited for long enough.
	deferred, overdue bool
}

func newStarts() starts { return starts{assumed: map[types.UID]*assumedStart{}} }

func (s *starts) isOverdue(uid types.UID) bool {
	start := s.assumed[uid]
	return start != nil && start.overdue
}

// undefer returns those whose deferred status is to be written now: all when the rush is over; before that few at a time of
// those that have been deferred for long, the first to start first.
func (s *starts) undefer(now time.Time) []types.NamespacedName {
	rush := s.rush.goesOn(now)
	var due []*assumedStart
	for _, start := range s.assumed {
		if start.deferred && (!rush || now.Sub(start.at) >= deferFor) {
			due = append(due, start)
		}
	}
	if most := s.rush.statuses(now); rush && len(due) > most {
		slices.SortFunc(due, func(a, b *assumedStart) int { return a.at.Compare(b.at) })
		due = due[:most]
	}
	keys := make([]types.NamespacedName, 0, len(due))
	for _, start := range due {
		start.deferred, start.overdue = false, rush
		keys = append(keys, start.NamespacedName)
	}
	return keys
}

// rush counts the starts of this second and of the one before.
type rush struct {
	second       int64
	now, earlier int
	// until is when it is over if no more start.
	until time.Time
}

func (r *rush) add(at time.Time) {
	r.advance(at)
	if r.now++; r.now+r.earlier >= RushStarts {
		r.until = at.Add(RushLasts)
	}
}

func (r *rush) goesOn(at time.Time) bool { return at.Before(r.until) }

// statuses is of about how many runs the status may be written in a second of the rush.
func (r *rush) statuses(at time.Time) int {
	r.advance(at)
	return max(1, (r.now+r.earlier)/2/startsPerStatus)
}

func (r *rush) advance(at time.Time) {
	switch second := at.Unix(); second - r.second {
	case 0:
	case 1:
		r.second, r.earlier, r.now = second, r.now, 0
	default:
		r.second, r.earlier, r.now = second, 0, 0
	}
}

// StartResult is what came of a start.
type StartResult int

const (
	// NotMade means that there is no Job, and the TenantJob itself waits for something else or is over.
	NotMade StartResult = iota
	// Refused means that there is no Job, and there would be none for others of the tenant, either.
	Refused
	// Made means that there is a Job.
	Made
	// Uncertain means that there may be a Job, or be one soon. Its slot stays taken until the Job is seen, or is certainly not
	// there when it can't be made any more.
	Uncertain
)

func (r StartResult) String() string {
	return [...]string{"NotMade", "Refused", "Made", "Uncertain"}[r]
}

// mayBegin says whether the start of an admitted TenantJob may begin.
func (d *Dispatcher) mayBegin(s *slot) bool {
	return d.synced && d.state.Held() == "" && !s.starting && !d.locked[s.job.Tenant] && d.lease.Leads()
}

// mayRepeat says whether a start whose result is uncertain may be tried again at once: only as long as the first attempt could
// take, or the slot of a tenant whose starts hang would never be given back.
func (d *Dispatcher) mayRepeat(s *slot) bool {
	now := d.clock.Now()
	return s.uncertain && now.Sub(s.startedAt) < WriteTimeout && d.mayBegin(s) && !now.Before(d.failures[s.job.Tenant].until)
}

// begin begins a start.
func (d *Dispatcher) begin(s *slot) Answer {
	uid := s.job.UID
	s.triedAt = d.clock.Now()
	if !s.uncertain {
		s.startedAt = s.triedAt
	}
	d.state.Made(uid)
	s.admitted, s.starting, s.uncertain = false, true, false
	delete(d.admitted, uid)
	d.beginTrial(s.job.Tenant) // It may have waited for a worker since it was admitted.
	d.removeChild(uid)
	d.startsUnderWay[s.job.Tenant]++
	d.admit()
	_, doubtful := d.doubtful[uid]
	return Answer{Doubtful: doubtful, Finish: func(r StartResult, why string) { d.finish(s, r, why) }}
}

// finish takes in what came of a start.
func (d *Dispatcher) finish(s *slot, r StartResult, why string) {
	defer d.lock()()
	d.startFinished(s.job.Tenant)
	d.log.V(2).Info("Finished a start", "tenantJob", klog.KRef(s.job.Namespace, s.job.Name), "result", r, "why", why)
	s.starting = false
	if r == Uncertain && s.cached {
		r = Made
	}
	switch r {
	case Made:
		d.started(s)
	case Uncertain:
		s.uncertain = true
		d.doubtful[s.job.UID] = struct{}{}
		d.unanswered[s.job.Tenant] = struct{}{}
		d.backOff(s.job.Tenant, why)
	case Refused:
		d.requeue(s)
		d.backOff(s.job.Tenant, why)
	case NotMade:
		d.requeue(s)
		d.endTrial(s.job.Tenant)
		if j, waits := d.state.Job(s.job.UID); waits {
			j.Held = why
			d.state.Put(j)
		}
	}
	switch {
	case r == NotMade || r == Refused:
		if s.orphaned {
			d.withdraw(s.job.UID)
		}
	case !s.endedAt.IsZero():
		d.releaseEnded(s)
	case s.orphaned && !s.cached:
		s.untracked = true
	}
	d.admit()
}

// started remembers a start until the status and the caches show it.
func (d *Dispatcher) started(s *slot) {
	now := d.clock.Now()
	d.state.Made(s.job.UID)
	d.rush.add(now)
	d.forgive(s.job.Tenant)
	delete(d.doubtful, s.job.UID)
	if !s.orphaned {
		d.assumed[s.job.UID] = &assumedStart{NamespacedName: s.job.NamespacedName, at: now}
	}
}

// uncertainStarts returns copies of the slots of which nobody knows whether there is a Job, and whose Job can't be made any
// more, the first to start first.
func (d *Dispatcher) uncertainStarts() []slot {
	defer d.lock()()
	var all []slot
	for _, s := range d.slotsByUID {
		if s.uncertain && !s.starting && !s.mayBeMade(d.clock.Now()) {
			all = append(all, *s)
		}
	}
	slices.SortFunc(all, func(a, b slot) int {
		return cmp.Or(a.startedAt.Compare(b.startedAt), cmp.Compare(a.job.UID, b.job.UID))
	})
	return all
}

// settleUncertain gives back the slots of starts that got no answer and made no Job. One that was made brings an event.
func (l *loop) settleUncertain(ctx context.Context) {
	for _, s := range l.uncertainStarts() {
		existing, err := kube.Find(ctx, l.live, s.job.NamespacedName, &batchv1.Job{})
		switch {
		case err != nil:
			log.FromContext(ctx).Error(err, "Finding out whether a start made a Job", "tenantJob", s.job.NamespacedName)
		case existing == nil || kube.ControllerUID(existing, "TenantJob") != s.job.UID:
			l.madeNone(s.job.UID)
		}
	}
}

// madeNone takes in that a start that got no answer has made no Job.
func (d *Dispatcher) madeNone(uid types.UID) {
	defer d.lock()()
	s := d.slot(uid)
	if s == nil || !s.uncertain || s.starting {
		return
	}
	d.log.V(2).Info("Found no Job of a start", "tenantJob", klog.KRef(s.job.Namespace, s.job.Name))
	d.requeue(s)
	if s.orphaned || s.decided {
		d.withdraw(uid)
	}
	d.admit()
}
