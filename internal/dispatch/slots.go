package dispatch

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/queue"
)

// slots are who holds one. The queue counts them; this is what frees them.
type slots struct {
	// slotsByUID has them by the UID of their TenantJob, slotsByJob by that of their Job as soon as it is known.
	slotsByUID, slotsByJob map[types.UID]*slot
	// admitted are those whose TenantJob is admitted and has not begun its start, and when they were.
	admitted map[types.UID]time.Time
	// emptied are the UIDs of Jobs that are being deleted and hold no slot any more, since none of their pods is left.
	emptied map[types.UID]struct{}
}

// slot is held by a TenantJob from its admission until its pods have ended.
type slot struct {
	job holder
	// admitted means that its start has not begun.
	admitted bool
	// starting means that its Job is being made. Of several attempts, startedAt is when the first began, and triedAt when the last
	// did.
	starting           bool
	startedAt, triedAt time.Time
	// uncertain means that nobody knows whether there is a Job: the API server did not answer.
	uncertain bool
	// cached means that the cache has, or had, its Job.
	cached bool
	// deletedAt is when its Job was deleted that is not gone: somebody's finalizer may hold it. Zero means that it was not.
	deletedAt time.Time
	// endedAt is when its Job was seen to have ended. Zero means that it has not.
	endedAt time.Time
	// decided means that the outcome of the TenantJob is known, orphaned that there is no TenantJob any more.
	decided, orphaned bool
	// untracked means that no event will tell of its end: the Job is gone while its pods may not be, or was never seen.
	untracked bool
	jobUID    types.UID
}

// mayBeMade says whether the Job of a start whose result is uncertain may still be made.
func (s *slot) mayBeMade(now time.Time) bool {
	return s.uncertain && now.Sub(s.triedAt) < WriteTimeout
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

func newSlots() slots {
	return slots{slotsByUID: map[types.UID]*slot{}, slotsByJob: map[types.UID]*slot{}, admitted: map[types.UID]time.Time{}, emptied: map[types.UID]struct{}{}}
}

// slot is that of a TenantJob. Nil means that it has none.
func (s *slots) slot(uid types.UID) *slot { return s.slotsByUID[uid] }

// addAdmitted gives a slot to a TenantJob that is admitted.
func (s *slots) addAdmitted(j queue.Job, now time.Time) {
	s.slotsByUID[j.UID] = &slot{job: holderOf(j), admitted: true}
	s.admitted[j.UID] = now
}

// admittedSince is how many were admitted after a time and have not begun their start.
func (s *slots) admittedSince(since time.Time) int {
	n := 0
	for _, at := range s.admitted {
		if at.After(since) {
			n++
		}
	}
	return n
}

// slotOf is that of a Job. A Job that has lost its owner reference is known by its own UID. An owner reference counts only on a
// Job with the namespace and the name of the TenantJob: anybody can write one elsewhere. Nil means that the Job has no slot.
func (s *slots) slotOf(j *batchv1.Job) *slot {
	if byJob := s.slotsByJob[j.UID]; byJob != nil {
		return byJob
	}
	if owned := s.slotsByUID[kube.ControllerUID(j, "TenantJob")]; owned != nil && owned.job.NamespacedName == kube.KeyOf(j) {
		return owned
	}
	return nil
}

// addRunning gives a slot to a run whose Job exists.
func (s *slots) addRunning(j queue.Job, jobUID types.UID) *slot {
	delete(s.admitted, j.UID)
	added := &slot{job: holderOf(j)}
	s.slotsByUID[j.UID] = added
	s.setJob(added, jobUID)
	return added
}

// setJob notes which Job a slot is held by.
func (s *slots) setJob(slot *slot, jobUID types.UID) {
	delete(s.slotsByJob, slot.jobUID)
	slot.jobUID = jobUID
	s.slotsByJob[jobUID] = slot
}

func (s *slots) removeSlot(slot *slot) {
	delete(s.slotsByUID, slot.job.UID)
	delete(s.slotsByJob, slot.jobUID)
	delete(s.admitted, slot.job.UID)
}

// releaseEnded releases the slot of a run whose Job has ended. That of a fan-out's child stays taken until its outcome
// counts, so that the failure that spends the budget is the last to start anything; its controller is about to report it.
func (d *Dispatcher) releaseEnded(s *slot) {
	if d.fanOut(s.job.FanOut) == nil || s.decided || s.orphaned {
		d.release(s)
		return
	}
	s.untracked = true // If the TenantJob were gone unnoticed, no event would release it.
}

// release gives a slot to the next.
func (d *Dispatcher) release(s *slot) {
	d.removeSlot(s)
	d.state.Remove(s.job.UID)
}
