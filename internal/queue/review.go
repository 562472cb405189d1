package queue

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// review finds waiting jobs whose status message is out of date. A status message stays as long as what it names holds
// the job, so that a thousand waiting jobs cost no write while the same limit holds them.
type review struct {
	// waiting has all waiting jobs, in no particular order.
	waiting []*entry
	// cursor is the index in waiting of the job that was reviewed last.
	cursor int
	// unreviewed has the jobs that began to wait without a status message and are not reviewed yet. Some of them may no
	// longer wait.
	unreviewed []*entry
}

// StaleStatus is a TenantJob whose status message is out of date, and what the message should say.
type StaleStatus struct {
	Job  Job
	Hold Hold
}

// Review reviews n waiting jobs, first the new ones and then all of them by turns. It returns those, at most as many as
// most, whose status message is out of date: none was set, or what it names holds the job no longer. It leaves out jobs
// that have waited for less than settle, since most of them start before that, and jobs held by HeldByItself, since the
// caller sets that message. Call it when Next has nothing to start, and write what it returns.
func (s *State) Review(n, most int, settle time.Duration) []StaleStatus {
	var stale []StaleStatus
	check := func(e *entry) {
		if hold, changed := s.updateStatusHold(e, settle); changed {
			stale = append(stale, StaleStatus{e.Job, hold})
		}
	}
	r := &s.review
	for ; n > 0 && len(r.unreviewed) > 0 && len(stale) < most; n-- {
		e := r.unreviewed[0]
		if e.waits() && s.now.Before(e.knownSince.Add(settle)) {
			break
		}
		r.unreviewed[0] = nil
		r.unreviewed = r.unreviewed[1:]
		if e.waits() {
			check(e)
		}
	}
	for n = min(n, len(r.waiting)); n > 0 && len(stale) < most; n-- {
		r.cursor = (r.cursor + 1) % len(r.waiting)
		check(r.waiting[r.cursor])
	}
	return stale
}

// StatusHold is what the status message of a waiting TenantJob should say. The current message stays as long as what it
// names holds the job. The zero Hold means no message, as for a job that has waited for less than settle.
func (s *State) StatusHold(uid types.UID, current string, settle time.Duration) Hold {
	e := s.jobs[uid]
	if e == nil || !e.waits() {
		return Hold{}
	}
	if current != "" && (e.statusHold.Kind == "" || e.statusHold.Message() != current) {
		for _, rule := range holdRules {
			if h := rule(s, e); h.Kind != "" && h.Kind != HeldByItself && h.Message() == current {
				e.statusHold = h
				return h
			}
		}
	}
	hold, _ := s.updateStatusHold(e, settle)
	return hold
}

// updateStatusHold returns what the status message of a job should say, and whether that is a new message.
func (s *State) updateStatusHold(e *entry, settle time.Duration) (hold Hold, changed bool) {
	if e.statusHold.Kind != "" && s.isHeldBy(e, e.statusHold) {
		return e.statusHold, false
	}
	e.statusHold = Hold{}
	if h := s.firstHold(e); h.Kind != HeldByItself && !s.now.Before(e.knownSince.Add(settle)) {
		e.statusHold = h
	}
	return e.statusHold, e.statusHold.Kind != ""
}

func (r *review) add(e *entry) {
	r.waiting = append(r.waiting, e)
	e.reviewIndex = len(r.waiting) - 1
	if e.statusHold.Kind == "" {
		r.unreviewed = append(r.unreviewed, e)
	}
}

func (r *review) remove(e *entry) {
	end := len(r.waiting) - 1
	last := r.waiting[end]
	r.waiting[e.reviewIndex], last.reviewIndex = last, e.reviewIndex
	r.waiting[end] = nil
	r.waiting = r.waiting[:end]
}
