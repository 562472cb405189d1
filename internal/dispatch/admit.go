package dispatch

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/queue"
)

const (
	// maxAdmitted is how many TenantJobs are admitted within admissionLasts and have not begun their start: the order in
	// which they start is that of the queue and not that of the work queue, and a limit that is lowered finds few that are
	// about to start.
	maxAdmitted    = 64
	admissionLasts = time.Second
)

// admit admits everybody who may start now, and has starts reserved where that is needed before.
func (d *Dispatcher) admit() {
	d.admitNext()
	for _, name := range d.state.Unreserved() {
		d.queueRequests.send(name)
	}
}

func (d *Dispatcher) admitNext() {
	now := d.clock.Now()
	if !d.admits(now) {
		return
	}
	for recent := d.admittedSince(now.Add(-admissionLasts)); recent < maxAdmitted; {
		decision := d.state.Next(now)
		j := decision.Job
		switch decision.Action {
		case queue.ActionNone:
			d.wakeUp(decision.At)
			return
		case queue.ActionStart:
			if d.putOffTrial(j, now) {
				continue
			}
			d.addAdmitted(j, now)
			d.beginTrial(j.Tenant)
			recent++
			d.log.V(2).Info("Admitted", "tenantJob", klog.KRef(j.Key.Namespace, j.Key.Name), "queue", j.Queue)
			if j.UID != d.asking {
				d.requestFirst(j.Key)
			}
		case queue.ActionOverlapped:
			if d.allGiveWay(decision.Earlier, j) {
				j.Overlap = v1alpha1.ConcurrencyReplace
				d.state.Put(j)
				continue
			}
			d.end(j, v1alpha1.ReasonOverlapped, d.overlapMessage(j, decision.Earlier))
		case queue.ActionExpire:
			d.end(j, v1alpha1.ReasonExpired, fmt.Sprintf("did not start within %d seconds: %s", j.MaxWait/time.Second, decision.Hold.Message()))
		case queue.ActionReplace:
			for _, uid := range decision.Earlier {
				if earlier, known := d.state.Job(uid); known {
					d.end(earlier, v1alpha1.ReasonReplaced, fmt.Sprintf("TenantJob %s, a later run of schedule %s, takes its place", j.Key.Name, j.Schedule))
				}
			}
		}
	}
	d.wakeUp(now.Add(admissionLasts))
}

// admits says whether anybody may be admitted, and logs when that changes.
func (d *Dispatcher) admits(now time.Time) bool {
	holdsBack := ""
	switch {
	case !d.synced:
		holdsBack = "what runs is not known yet"
	case d.state.Held() != "":
		holdsBack = d.state.Held()
	case d.awaitsReports(now):
		holdsBack = "not all TenantJobs have been reconciled since the restart"
		d.wakeUp(d.reportsUntil)
	case !d.lease.Leads():
		holdsBack = "the lease is not certain"
		d.wakeUp(now.Add(admissionLasts))
	}
	if holdsBack != d.holdsBack {
		if d.holdsBack = holdsBack; holdsBack != "" {
			d.log.V(2).Info("Admits nothing", "why", holdsBack)
		} else {
			d.log.V(2).Info("Admits TenantJobs")
		}
	}
	return holdsBack == ""
}

// end has a TenantJob end instead of starting, or although it runs.
func (d *Dispatcher) end(j queue.Job, reason, message string) {
	d.removeChild(j.UID)
	if _, ends := d.ends[j.UID]; !ends {
		d.ends[j.UID] = End{reason, message}
		d.log.V(2).Info("Ends", "tenantJob", klog.KRef(j.Key.Namespace, j.Key.Name), "reason", reason)
		if j.UID != d.asking {
			d.requestFirst(j.Key)
		}
	}
}

// revokeAdmission takes the admission of a TenantJob back, if its start has not begun: it waits again.
func (d *Dispatcher) revokeAdmission(uid types.UID) {
	if s := d.slot(uid); s != nil && s.admitted {
		d.removeSlot(s)
		d.state.Revoke(uid)
		d.addChild(s.job)
		d.endTrial(s.job.Tenant)
	}
}

// revokeAdmissions does so for all, after a limit has changed: admit admits again whoever may still start.
func (d *Dispatcher) revokeAdmissions() {
	for uid := range d.admitted {
		d.revokeAdmission(uid)
	}
}

// requeue takes a slot back of which there is no Job. Its TenantJob waits again.
func (d *Dispatcher) requeue(s *slot) {
	d.removeSlot(s)
	d.state.Requeue(s.job.UID)
	d.addChild(s.job)
}
