package controller

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/queue"
)

// slot is held by a TenantJob whose turn has come, until its pods have ended.
type slot struct {
	job holder
	// called means that it was called and has not begun.
	called bool
	// inFlight means that its Job is being made.
	inFlight bool
	// unsure means that nobody knows whether there is a Job: the API server did not answer.
	unsure bool
	// seen means that the cache has its Job.
	seen bool
	// endedAt is when its Job was seen to have ended. Zero means that it has not.
	endedAt time.Time
	// decided means that the outcome of the TenantJob is known, orphaned that there is no TenantJob any more.
	decided, orphaned bool
	// lost means that no event will tell of its end: the Job is gone while its pods may not be, or was never seen.
	lost   bool
	jobUID types.UID
}

// started is which TenantJob was started, and when.
type started struct {
	types.NamespacedName
	at time.Time
	// hushed means that the words about it wait, overdue that they have waited for long enough.
	hushed, overdue bool
}

// rush counts the starts of this second and of the one before.
type rush struct {
	second       int64
	now, earlier int
	// until is when it is over if no more start.
	until time.Time
}

func (r *rush) add(at time.Time) {
	r.turn(at)
	if r.now++; r.now+r.earlier >= startsOfRush {
		r.until = at.Add(rushLasts)
	}
}

func (r *rush) on(at time.Time) bool { return at.Before(r.until) }

// words is about how many something may be said in a second of the rush.
func (r *rush) words(at time.Time) int {
	r.turn(at)
	return max(1, (r.now+r.earlier)/2/startsPerWord)
}

func (r *rush) turn(at time.Time) {
	switch second := at.Unix(); second - r.second {
	case 0:
	case 1:
		r.second, r.earlier, r.now = second, r.now, 0
	default:
		r.second, r.earlier, r.now = second, 0, 0
	}
}

// holder is what has to be known of a TenantJob that holds a slot. The queue has the rest.
type holder struct {
	types.NamespacedName
	UID            types.UID
	Tenant, FanOut string
}

func holderOf(j queue.Job) holder {
	return holder{NamespacedName: j.Key, UID: j.UID, Tenant: j.Tenant, FanOut: j.FanOut}
}

// summons are for a TenantJob to be looked at.
type summons struct {
	types.NamespacedName
	priority int
}

// refusal is how often in a row starts of a tenant were refused.
type refusal struct {
	times int
	until time.Time
}

// mayBegin says whether the start of one that was called may begin.
func (d *Dispatcher) mayBegin(s *slot) bool {
	return d.open && !s.inFlight && !d.closed[s.job.Tenant] && d.leads()
}

// begin a start.
func (d *Dispatcher) begin(s *slot) Answer {
	uid := s.job.UID
	s.called, s.inFlight, s.unsure = false, true, false
	delete(d.calls, uid)
	d.leave(uid)
	d.inFlight[s.job.Tenant]++
	d.dispatch()
	return Answer{Begun: func(o Outcome, why string) { d.end(uid, o, why) }}
}

func (d *Dispatcher) end(uid types.UID, o Outcome, why string) {
	defer d.lock()()
	s := d.slots[uid]
	tenant := s.job.Tenant
	if d.inFlight[tenant]--; d.inFlight[tenant] == 0 {
		delete(d.inFlight, tenant)
	}
	d.idle.Broadcast()
	s.inFlight = false
	switch o {
	case Made:
		d.rush.add(d.clock.Now())
		delete(d.refusals, tenant)
		if !s.orphaned {
			d.made[uid] = &started{NamespacedName: s.job.NamespacedName, at: d.clock.Now()}
		}
	case Unsure:
		s.unsure = true
	case NotMade, Refused:
		d.back(uid)
		if o == Refused {
			d.holdBack(tenant, why)
		} else if j, waits := d.state.Job(uid); waits {
			j.Held = why
			d.state.Put(j)
		}
	}
	switch {
	case o == NotMade || o == Refused:
		if s.orphaned {
			d.withdraw(uid)
		}
	case !s.endedAt.IsZero():
		d.vacate(s)
	case s.orphaned && !s.seen:
		s.lost = true
	}
	d.dispatch()
}

// holdBack keeps a tenant from starting for a while, the longer the more often in a row it was refused.
func (d *Dispatcher) holdBack(tenant, why string) {
	r, now := d.refusals[tenant], d.clock.Now()
	if !now.Before(r.until) {
		r.times++
		r.until = now.Add(min(firstRetryAfter<<min(r.times-1, 10), lastRetryAfter))
		d.refusals[tenant] = r
	}
	d.state.BackOff(tenant, r.until, why)
}

// uncall takes back that a TenantJob was called.
func (d *Dispatcher) uncall(uid types.UID) {
	if s := d.slots[uid]; s != nil && s.called {
		d.back(uid)
	}
}

// uncallAll takes it back for all, after a limit has changed: dispatch calls again whoever may still start.
func (d *Dispatcher) uncallAll() {
	for uid := range d.calls {
		d.uncall(uid)
	}
}

func (d *Dispatcher) back(uid types.UID) {
	s := d.slots[uid]
	delete(d.slots, uid)
	delete(d.calls, uid)
	d.state.Requeue(uid)
	d.enlist(s.job)
}

// vacate gives the slot of a run whose Job has ended to the next. That of a fan-out's child stays taken until its outcome
// counts, so that the failure that spends the budget is the last to start anything; the controller is about to say it.
func (d *Dispatcher) vacate(s *slot) {
	if d.fanOuts[s.job.FanOut] == nil || s.decided || s.orphaned {
		d.release(s.job.UID)
		return
	}
	s.lost = true // Were the TenantJob gone and nobody had noticed, nothing would tell.
}

// release gives a slot to the next.
func (d *Dispatcher) release(uid types.UID) {
	delete(d.slots, uid)
	d.state.Remove(uid)
}

// hear notes that a TenantJob has said how it stands.
func (d *Dispatcher) hear(uid types.UID) {
	if !d.open {
		d.heard[uid] = struct{}{}
	}
	delete(d.unheard, uid)
}

// dispatch calls everybody who may start now.
func (d *Dispatcher) dispatch() {
	now := d.clock.Now()
	switch {
	case !d.open:
		return
	case d.listens():
		d.wakeUp(d.unheardUntil)
		return
	case !d.leads():
		d.wakeUp(now.Add(callLasts))
		return
	}
	calling := 0
	for _, at := range d.calls {
		if now.Sub(at) < callLasts {
			calling++
		}
	}
	for calling < callsAtOnce {
		decision := d.state.Next(now)
		j := decision.Job
		switch decision.Action {
		case queue.ActionNone:
			d.wakeUp(decision.At)
			return
		case queue.ActionStart:
			d.slots[j.UID] = &slot{job: holderOf(j), called: true}
			d.calls[j.UID] = now
			calling++
			d.call(j.Key)
		case queue.ActionOverlapped:
			d.sentence(j, v1alpha1.ReasonOverlapped, fmt.Sprintf("an earlier run of schedule %s still runs for tenant %s", j.Schedule, j.Tenant))
		case queue.ActionExpire:
			d.sentence(j, v1alpha1.ReasonExpired, fmt.Sprintf("did not start within %d seconds: %s", j.MaxWait/time.Second, decision.Hold.Message()))
		case queue.ActionReplace:
			for _, uid := range decision.Earlier {
				if earlier, known := d.state.Job(uid); known {
					d.sentence(earlier, v1alpha1.ReasonReplaced, fmt.Sprintf("TenantJob %s, a later run of schedule %s, takes its place", j.Key.Name, j.Schedule))
				}
			}
		}
	}
	d.wakeUp(now.Add(callLasts))
}

// sentence has a TenantJob end.
func (d *Dispatcher) sentence(j queue.Job, reason, message string) {
	d.leave(j.UID)
	if _, sentenced := d.verdicts[j.UID]; !sentenced {
		d.verdicts[j.UID] = Verdict{reason, message}
		d.call(j.Key)
	}
}

// call has a TenantJob looked at, before those that have just been made.
func (d *Dispatcher) call(key types.NamespacedName) { d.look(summons{key, calledFirst}) }

// remind has a TenantJob looked at when there is nothing better to do: something else is to be said of it.
func (d *Dispatcher) remind(key types.NamespacedName) { d.look(summons{key, toldLast}) }

func (d *Dispatcher) look(s summons) {
	if d.enqueue == nil {
		d.called = append(d.called, s)
		return
	}
	d.enqueue(s)
}

// CallThrough has those that are called looked at through enqueue.
func (d *Dispatcher) CallThrough(enqueue func(summons)) {
	defer d.lock()()
	d.enqueue = enqueue
	for _, s := range d.called {
		enqueue(s)
	}
	d.called = nil
}

// wakeUp has the loop look again at a time, if it would not before. Zero means never.
func (d *Dispatcher) wakeUp(at time.Time) {
	if at.IsZero() || !d.wakeAt.IsZero() && !at.Before(d.wakeAt) {
		return
	}
	d.wakeAt = at
	select {
	case d.wake <- struct{}{}:
	default:
	}
}
