package queue

// Counts returns the counts of one queue.
func (s *State) Counts(name string) Counts {
	q := s.queues[name]
	if q == nil {
		return Counts{}
	}
	c := Counts{Waiting: q.waiting, Running: q.running}
	if !q.byAge.empty() {
		c.Oldest = q.byAge.top().Created
	}
	return c
}

// AllCounts returns the counts of each queue that exists or in which something waits or runs, by name.
func (s *State) AllCounts() map[string]Counts {
	all := make(map[string]Counts, len(s.queues))
	for name := range s.queues {
		all[name] = s.Counts(name)
	}
	return all
}

// RunningByTenant is how many jobs of each tenant hold slots, by name. Tenants without such jobs are left out.
func (s *State) RunningByTenant() map[string]int {
	all := map[string]int{}
	for name, t := range s.tenants {
		if t.running > 0 {
			all[name] = t.running
		}
	}
	return all
}

// Waiting is how many jobs of a tenant wait.
func (s *State) Waiting(tenant string) int {
	n := 0
	if t := s.tenants[tenant]; t != nil {
		for f := range t.flows.all() {
			n += f.waiting
		}
	}
	return n
}
