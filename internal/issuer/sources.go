package issuer

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/job"
)

const (
	// workersPerSource is how many credentials of a source are issued or revoked at once. Most of the time they wait for the API server:
	// a provider bounds its connections itself.
	workersPerSource = 16
	// firstHold and lastHold are for how long nothing is issued after a failure: the first time, and at most.
	firstHold, lastHold = time.Second, time.Minute
	// firstRetry and lastRetry are after how long a revocation is tried again: the first time, and at most.
	firstRetry, lastRetry = time.Second, time.Minute
	// lifetimeMargin is for how long a credential lives after the deadline of its run, at most.
	lifetimeMargin = 10 * time.Minute
	// lookAgain is after which time a TenantJob that waits for a source is looked at again, should nobody request it.
	lookAgain = 30 * time.Second
	// listingLasts is for how long a list of what lives at a source is used again.
	listingLasts = time.Second
)

// Source is a provider that a CredentialProvider configures.
type Source struct {
	// Name and UID of the CredentialProvider.
	Name string
	UID  types.UID
	// Capabilities of the provider, and why its kind refuses what a tenant or a template says. See credential.Kind.
	Capabilities credential.Capabilities
	Refuses      func(credential.TenantsEntry) string
	// Provider is nil while it can't be configured. Nothing can be issued or revoked then.
	Provider credential.Provider
	// Blocked is why it must not issue. It is empty when it may.
	Blocked string
}

// source is a Source, and what was found out about it.
type source struct {
	name     string
	uid      types.UID
	can      credential.Capabilities
	refuses  func(credential.TenantsEntry) string
	provider credential.Provider
	blocked  string
	queue    workqueue.TypedRateLimitingInterface[item]
	// hold is of the source, and holds are of its tenants.
	hold  hold
	holds map[types.UID]hold
	// listed is what lived at the source, and listedAt when the list began.
	listed   []credential.Issued
	listedAt time.Time
	stop     context.CancelFunc
	// What was done.
	issues, issueFailures, revocations, revocationFailures uint64
}

// hold is for how long nothing is issued after a failure, and why.
type hold struct {
	why   string
	until time.Time
	after time.Duration
}

func (h hold) next(why string, now time.Time) hold {
	after := min(max(2*h.after, firstHold), lastHold)
	return hold{why, now.Add(after), after}
}

func (s *source) perRun() bool { return s != nil && s.can.PerRun }

// isOf says whether a tenant has a credential of the source.
func (s *source) isOf(tenant *v1alpha1.Tenant) bool {
	for _, c := range tenant.Spec.Credentials {
		if c.ProviderRef.Name == s.name {
			return true
		}
	}
	return false
}

// blocks says why nothing can be issued for a tenant now. Nil means that it can.
func (s *source) blocks(tenant types.UID, now time.Time) *job.Credentials {
	switch of := s.holds[tenant]; {
	case !s.canIssue():
		return &job.Credentials{Trouble: job.UnclearTrouble, RetryAfter: lookAgain, Blocked: fmt.Sprintf("CredentialProvider %s is not ready: %s", s.name, s.blocked)}
	case now.Before(s.hold.until):
		return &job.Credentials{Trouble: job.UnclearTrouble, RetryAfter: s.hold.until.Sub(now), Blocked: fmt.Sprintf("CredentialProvider %s: %s", s.name, s.hold.why)}
	case now.Before(of.until):
		return &job.Credentials{Trouble: job.TenantsTrouble, RetryAfter: of.until.Sub(now), Blocked: fmt.Sprintf("CredentialProvider %s: %s", s.name, of.why)}
	}
	return nil
}

// lifetime is how long a credential for a run of a template lives at most: a little longer than the run may, and no longer than the
// source allows.
func (s *source) lifetime(template *v1alpha1.TenantJobTemplate) time.Duration {
	deadline := time.Duration(ptr.Deref(template.Spec.JobTemplate.Spec.ActiveDeadlineSeconds, job.DefaultActiveDeadlineSeconds)) * time.Second
	lifetime := max(deadline+lifetimeMargin, s.can.MinLifetime)
	if most := s.can.MaxLifetime; most > 0 {
		lifetime = min(lifetime, most)
	}
	return lifetime
}

// SetSource tells the Issuer how a CredentialProvider is now.
func (i *Issuer) SetSource(to Source) {
	i.mu.Lock()
	defer i.mu.Unlock()
	s := i.sources[to.Name]
	if s == nil || s.uid != to.UID {
		if s != nil {
			s.stop()
		}
		s = i.newSource(to.Name, to.UID)
		i.sources[to.Name] = s
	}
	couldIssue, couldRevoke := s.canIssue(), s.provider != nil
	s.can, s.refuses, s.provider, s.blocked = to.Capabilities, to.Refuses, to.Provider, to.Blocked
	switch {
	case s.canIssue() && !couldIssue:
		s.hold = hold{}
		i.retry(s, func(c *runCredential) bool { return c.state == pending || c.mustBeRevoked() })
		i.wakeSweep()
		i.requestWaiting()
	case s.provider != nil && !couldRevoke: // A provider that must not issue, for example one that is being deleted, revokes all the same.
		i.retry(s, (*runCredential).mustBeRevoked)
		i.wakeSweep()
	}
}

func (s *source) canIssue() bool { return s.provider != nil && s.blocked == "" }

// retry has workers try some of the credentials of a source again at once.
func (i *Issuer) retry(s *source, which func(*runCredential) bool) {
	for uid, r := range i.runs {
		for name, c := range r.credentials {
			if c.source == s.name && which(c) {
				s.queue.Forget(item{uid, name})
				s.queue.Add(item{uid, name})
			}
		}
	}
}

// RemoveSource tells the Issuer that a CredentialProvider is gone.
func (i *Issuer) RemoveSource(name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if s := i.sources[name]; s != nil {
		s.stop()
		delete(i.sources, name)
	}
}

// newSource returns a source with its workers. They run once the Issuer does.
func (i *Issuer) newSource(name string, uid types.UID) *source {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[item](firstRetry, lastRetry)
	s := &source{name: name, uid: uid, queue: workqueue.NewTypedRateLimitingQueue(limiter), holds: map[types.UID]hold{}}
	s.stop = s.queue.ShutDown
	if i.work != nil {
		i.startWorkers(s)
	}
	return s
}

// failed notes that a source could not issue, and for whom nothing is issued now.
func (i *Issuer) failed(s *source, tenant types.UID, err error) {
	now := i.clock.Now()
	e := credential.AsError(err)
	if e == nil || isTenants(e.Reason) {
		s.holds[tenant] = s.holds[tenant].next(credential.MessageOf(err), now)
		return
	}
	if !now.Before(s.hold.until) {
		s.hold = s.hold.next(e.Message, now)
		i.refresh(s.name)
	}
}

// succeeded ends the holds of a source and of a tenant, since something was issued.
func (s *source) succeeded(tenant types.UID) {
	s.hold = hold{}
	delete(s.holds, tenant)
}

// isTenants says whether a reason concerns one tenant and says nothing of others: only what a server says of every connection does.
func isTenants(reason string) bool {
	switch reason {
	case v1alpha1.ReasonUnreachable, v1alpha1.ReasonTLSFailed, v1alpha1.ReasonAuthenticationFailed, v1alpha1.ReasonUnsupportedVersion, v1alpha1.ReasonSchemaNotInstalled:
		return false
	}
	return true
}
