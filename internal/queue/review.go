package queue

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
	told     Hold
	reviewAt int
}

// Told is what is to be said of a TenantJob.
type Told struct {
	Job  Job
	Hold Hold
}

// Review looks at so many of those that wait, new ones first and then all in turn, and returns those that are held by
// something of which nothing was said yet: whatever was said last holds them no longer. Call it when Next has nothing
// to start, and write what it returns.
func (s *State) Review(n int) []Told {
	var told []Told
	look := func(e *entry) {
		if e.told.Kind != "" && s.holds(e, e.told) {
			return
		}
		if e.told = s.hold(e); e.told.Kind != "" {
			told = append(told, Told{e.Job, e.told})
		}
	}
	for ; n > 0 && len(s.unseen) > 0; n-- {
		e := s.unseen[0]
		s.unseen = s.unseen[1:]
		if e.reviewAt != 0 {
			look(e)
		}
	}
	for n = min(n, len(s.order)); n > 0; n-- {
		s.cursor = (s.cursor + 1) % len(s.order)
		look(s.order[s.cursor])
	}
	return told
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
