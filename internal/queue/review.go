package queue

import (
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// review goes round over all that wait, so that the words of their conditions are written once and stay true, and a
// thousand that wait cost no write while the same thing holds them.
type review struct {
	// unseen are those that nothing was told of yet. Some of them may wait no longer.
	unseen []*entry
	order  []*entry
	cursor int
}

// reviewed is a job's part in it.
type reviewed struct {
	// since is when it was first fed.
	since    time.Time
	told     Hold
	reviewAt int
}

// Told is what is to be said of a TenantJob.
type Told struct {
	Job  Job
	Hold Hold
}

// Review looks at n of those that wait, new ones first and then all in turn, and returns those, at most so many, that are
// held by something of which nothing was said yet: whatever was said last holds them no longer. Those that have not waited for the
// time settle are left out, since most of them start before that, and so is what HeldByItself: whoever fed it knows. Call
// it when Next has nothing to start, and write what it returns.
func (s *State) Review(n, most int, settle time.Duration) []Told {
	var told []Told
	look := func(e *entry) {
		if hold, news := s.tell(e, settle); news {
			told = append(told, Told{e.Job, hold})
		}
	}
	for ; n > 0 && len(s.unseen) > 0 && len(told) < most; n-- {
		e := s.unseen[0]
		if e.reviewAt != 0 && s.now.Before(e.since.Add(settle)) {
			break
		}
		s.unseen[0] = nil
		s.unseen = s.unseen[1:]
		if e.reviewAt != 0 {
			look(e)
		}
	}
	for n = min(n, len(s.order)); n > 0 && len(told) < most; n-- {
		s.cursor = (s.cursor + 1) % len(s.order)
		look(s.order[s.cursor])
	}
	return told
}

// Tell is what is to be said of a TenantJob that waits, when its condition says this now. What is said stays for as long
// as it is true. The zero Hold means that nothing is, as of one that has waited for less than the time settle.
func (s *State) Tell(uid types.UID, said string, settle time.Duration) Hold {
	e := s.jobs[uid]
	if e == nil || e.lane == nil {
		return Hold{}
	}
	if said != "" && (e.told.Kind == "" || e.told.Words() != said) {
		for _, rule := range holds {
			if h := rule(s, e); h.Kind != "" && h.Kind != HeldByItself && h.Words() == said {
				e.told = h
				return h
			}
		}
	}
	hold, _ := s.tell(e, settle)
	return hold
}

// tell returns what is to be said, and whether it was not said before.
func (s *State) tell(e *entry, settle time.Duration) (hold Hold, news bool) {
	if e.told.Kind != "" && s.holds(e, e.told) {
		return e.told, false
	}
	e.told = Hold{}
	if h := s.hold(e); h.Kind != HeldByItself && !s.now.Before(e.since.Add(settle)) {
		e.told = h
	}
	return e.told, e.told.Kind != ""
}

func (r *review) watch(e *entry) {
	r.order = append(r.order, e)
	e.reviewAt = len(r.order)
	if e.told.Kind == "" {
		r.unseen = append(r.unseen, e)
	}
}

func (r *review) unwatch(e *entry) {
	last := r.order[len(r.order)-1]
	r.order[e.reviewAt-1] = last
	last.reviewAt = e.reviewAt
	r.order[len(r.order)-1] = nil
	r.order = r.order[:len(r.order)-1]
	e.reviewAt = 0
}
