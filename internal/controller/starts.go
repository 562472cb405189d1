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

// Begin asks whether a TenantJob may start now. If not, held says which limit holds it. If so, its slot is taken, and
// the caller makes the Job and then calls end with whether there is one.
func (s *Starts) Begin(tj *v1alpha1.TenantJob, tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate, jobs liveJobs) (end func(made bool), held string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed[tenant.Name] {
		return nil, fmt.Sprintf("tenant %s is being suspended", tenant.Name), nil
	}
	if held, err := s.limit(tj, tenant, template, jobs); held != "" || err != nil {
		return nil, held, err
	}
	s.made[tj.UID] = start{job: keyOf(tj), tenant: tenant.Name, template: template.Name}
	s.inFlight[tenant.Name]++
	return func(made bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !made {
			delete(s.made, tj.UID)
		}
		if s.inFlight[tenant.Name]--; s.inFlight[tenant.Name] == 0 {
			delete(s.inFlight, tenant.Name)
		}
		s.idle.Broadcast()
	}, "", nil
}

// limit returns the limit that holds a TenantJob, in words. Empty means none.
func (s *Starts) limit(tj *v1alpha1.TenantJob, tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate, jobs liveJobs) (string, error) {
	var tenantLimit *int32
	if tenant.Spec.Jobs != nil {
		tenantLimit = tenant.Spec.Jobs.MaxConcurrent
	}
	templateLimit := template.Spec.MaxConcurrentPerTenant
	if tenantLimit == nil && templateLimit == nil {
		return "", nil
	}
	live, err := jobs.inNamespace(tj.Namespace)
	if err != nil {
		return "", err
	}
	var ofTenant, ofTemplate int32
	for i := range live {
		ofTenant++
		if live[i].Labels[v1alpha1.LabelTemplate] == template.Name {
			ofTemplate++
		}
	}
	for _, m := range s.made {
		if m.tenant != tenant.Name || jobs.known(m.job) {
			continue
		}
		ofTenant++
		if m.template == template.Name {
			ofTemplate++
		}
	}
	switch {
	case templateLimit != nil && ofTemplate >= *templateLimit:
		return fmt.Sprintf("template %s runs at most %d at once for a tenant (`spec.maxConcurrentPerTenant`)", template.Name, *templateLimit), nil
	case tenantLimit != nil && ofTenant >= *tenantLimit:
		return fmt.Sprintf("tenant %s runs at most %d jobs at once (`spec.jobs.maxConcurrent`)", tenant.Name, *tenantLimit), nil
	}
	return "", nil
}

// Made says whether a TenantJob was started by this process and does not yet say so in its status.
func (s *Starts) Made(uid types.UID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, made := s.made[uid]
	return made
}

// Forget a TenantJob whose status says that it was started, or that is gone.
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
