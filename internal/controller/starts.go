package controller

import (
	"fmt"
	"sync"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Starts is the door through which every run goes: it decides whether a TenantJob may start now. It knows what the
// caches can't know yet, the starts in flight, and keeps a tenant's door shut while the tenant is suspended.
//
// Nothing in it needs to survive a restart: a start that was in flight is in the cache after the next sync, and a
// suspended tenant's namespace says so.
type Starts struct {
	mu       sync.Mutex
	idle     *sync.Cond
	closed   map[string]bool
	inFlight map[string]int
	// made are the starts whose TenantJob does not yet say so in its status, by the UID of the TenantJob.
	made map[types.UID]start
}

type start struct {
	job              types.NamespacedName
	tenant, template string
	// unsure is a start of which nobody knows whether there is a Job: the API server did not answer.
	unsure bool
}

// Outcome of a start.
type Outcome int

const (
	// NotMade: there is no Job.
	NotMade Outcome = iota
	// Made: there is a Job.
	Made
	// Unsure: there may be a Job, or be one soon. Its slot stays taken until the TenantJob begins again or is over.
	Unsure
)

// Hold is why a TenantJob may not start now. The zero value means that it may.
type Hold struct {
	// Limit that holds it, in words. Empty when it is something that passes by itself.
	Limit string
	// Brief means that it may pass without an event that reaches the TenantJob.
	Brief bool
}

// liveJobs returns the live Jobs of a namespace, and one by its name, as far as the cache knows.
type liveJobs interface {
	inNamespace(namespace string) ([]batchv1.Job, error)
	known(key types.NamespacedName) bool
}

// NewStarts returns a door that is open for all.
func NewStarts() *Starts {
	s := &Starts{closed: map[string]bool{}, inFlight: map[string]int{}, made: map[types.UID]start{}}
	s.idle = sync.NewCond(&s.mu)
	return s
}

// Begin asks whether a TenantJob may start now. If hold says nothing, its slot is taken, and the caller makes the Job and
// then calls end with what came of it.
func (s *Starts) Begin(tj *v1alpha1.TenantJob, tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate, jobs liveJobs) (end func(Outcome), hold Hold, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed[tenant.Name] {
		return nil, Hold{Brief: true}, nil
	}
	if limitOf(tenant) != nil || template.Spec.MaxConcurrentPerTenant != nil {
		taken, err := s.taken(tj.Namespace, tenant.Name, tj.UID, jobs)
		if err != nil {
			return nil, Hold{}, err
		}
		if limit := taken.limit(tenant, template); limit != "" {
			// Of a start of its own that may still arrive no event tells either.
			_, begun := s.made[tj.UID]
			return nil, Hold{Limit: limit, Brief: taken.unseen || begun}, nil
		}
	}
	s.made[tj.UID] = start{job: keyOf(tj), tenant: tenant.Name, template: template.Name}
	s.inFlight[tenant.Name]++
	return func(o Outcome) { s.end(tj.UID, tenant.Name, o) }, Hold{}, nil
}

func (s *Starts) end(uid types.UID, tenant string, o Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// It is not there when the TenantJob was deleted meanwhile.
	if m, there := s.made[uid]; there && o == Unsure {
		m.unsure = true
		s.made[uid] = m
	} else if o == NotMade {
		delete(s.made, uid)
	}
	if s.inFlight[tenant]--; s.inFlight[tenant] == 0 {
		delete(s.inFlight, tenant)
	}
	s.idle.Broadcast()
}

// Next returns those of a tenant's queued TenantJobs for which there is room, in the order in which they come. Nil
// templates are those that there is none of.
func (s *Starts) Next(queued []v1alpha1.TenantJob, tenant *v1alpha1.Tenant, templates map[string]*v1alpha1.TenantJobTemplate, jobs liveJobs) ([]v1alpha1.TenantJob, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(queued) == 0 {
		return nil, nil
	}
	taken, err := s.taken(queued[0].Namespace, tenant.Name, "", jobs)
	if err != nil {
		return nil, err
	}
	var next []v1alpha1.TenantJob
	for _, tj := range queued {
		template := templates[tj.Spec.TemplateRef.Name]
		begun, hasBegun := s.made[tj.UID]
		switch {
		// What was started says that it is queued until its status is written.
		case template == nil, taken.names[tj.Name], hasBegun && !begun.unsure:
		case hasBegun: // its slot is counted
			next = append(next, tj)
		case taken.limit(tenant, template) == "":
			taken.add(template.Name)
			next = append(next, tj)
		}
	}
	return next, nil
}

// slots are those that a tenant's Jobs hold.
type slots struct {
	ofTenant   int32
	ofTemplate map[string]int32
	// names of the Jobs that the cache knows.
	names map[string]bool
	// unseen means that starts are among them whose Jobs the cache does not know, so that no event tells of their end.
	unseen bool
}

// taken counts a tenant's slots, but for the one of the TenantJob that asks.
func (s *Starts) taken(namespace, tenant string, asks types.UID, jobs liveJobs) (slots, error) {
	taken := slots{ofTemplate: map[string]int32{}, names: map[string]bool{}}
	// Before the list: a Job that the cache learns of in between is counted twice, and not at all the other way round.
	for uid, m := range s.made {
		if uid != asks && m.tenant == tenant && !jobs.known(m.job) {
			taken.add(m.template)
			taken.unseen = true
		}
	}
	live, err := jobs.inNamespace(namespace)
	for i := range live {
		taken.add(live[i].Labels[v1alpha1.LabelTemplate])
		taken.names[live[i].Name] = true
	}
	return taken, err
}

func (s *slots) add(template string) {
	s.ofTenant++
	s.ofTemplate[template]++
}

// limit returns the limit that holds a TenantJob, in words. Empty means none.
func (s *slots) limit(tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate) string {
	ofTenant, ofTemplate := limitOf(tenant), template.Spec.MaxConcurrentPerTenant
	switch {
	case ofTemplate != nil && s.ofTemplate[template.Name] >= *ofTemplate:
		return fmt.Sprintf("template %s runs at most %d at once for a tenant (`spec.maxConcurrentPerTenant`)", template.Name, *ofTemplate)
	case ofTenant != nil && s.ofTenant >= *ofTenant:
		return fmt.Sprintf("tenant %s runs at most %d jobs at once (`spec.jobs.maxConcurrent`)", tenant.Name, *ofTenant)
	}
	return ""
}

func limitOf(tenant *v1alpha1.Tenant) *int32 {
	if tenant.Spec.Jobs == nil {
		return nil
	}
	return tenant.Spec.Jobs.MaxConcurrent
}

// Made says whether a TenantJob was started by this process and does not yet say so in its status.
func (s *Starts) Made(uid types.UID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, made := s.made[uid]
	return made && !m.unsure
}

// Forget a TenantJob whose status says that it was started or is over, or that is gone.
func (s *Starts) Forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.made, uid)
}

// Close shuts a tenant's door and waits for its starts in flight: when it returns, whoever lists the tenant's Jobs finds
// all there will be until Open.
func (s *Starts) Close(tenant string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed[tenant] = true
	for s.inFlight[tenant] > 0 {
		s.idle.Wait()
	}
}

// Open opens a tenant's door.
func (s *Starts) Open(tenant string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.closed, tenant)
}
