package issuer

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/metrics"
)

// Issuer issues and revokes the credentials of runs. Its methods return at once, but for those with a context.
type Issuer struct {
	kube.Client
	log   logr.Logger
	clock clock.WithTicker
	// tenantJob finds the TenantJob of a run in the cache. Nil means that there is none.
	tenantJob func(credential.Run) *v1alpha1.TenantJob
	// jobs reads Jobs from the cache.
	jobs kube.JobLister

	mu sync.Mutex
	// cluster is the UID of the cluster. It is empty before Start.
	cluster types.UID
	// work ends the workers when it does. It is nil before Start.
	work    context.Context
	sources map[string]*source
	runs    map[types.UID]*run
	// request has a TenantJob reconciled, and requestWaiting all that wait for credentials.
	request        func(types.NamespacedName)
	requestWaiting func()
	// refresh has a CredentialProvider reconciled.
	refresh func(name string)
	// issuing are the credentials that workers issue just now.
	issuing map[*task]bool
	// deleting are the credentials of tenants of which copies are being deleted.
	deleting map[credentialOfTenant]bool
	// made are the copies that are certainly there, and when they were seen.
	made map[copyInNamespace]time.Time
	// sweepSoon wakes the sweep.
	sweepSoon chan struct{}
}

// New returns an Issuer that knows no source and no run.
func New(log logr.Logger, c clock.WithTicker, api kube.Client) *Issuer {
	return &Issuer{
		Client: api, log: log, clock: c, tenantJob: func(credential.Run) *v1alpha1.TenantJob { return nil },
		sources: map[string]*source{}, runs: map[types.UID]*run{}, issuing: map[*task]bool{}, deleting: map[credentialOfTenant]bool{},
		made: map[copyInNamespace]time.Time{}, sweepSoon: make(chan struct{}, 1),
		request: func(types.NamespacedName) {}, requestWaiting: func() {}, refresh: func(string) {},
	}
}

// SendRequests has the requests for TenantJobs go through enqueue: their credentials are issued or revoked, or can't be. It calls
// enqueueWaiting when those may go on that wait for credentials.
func (i *Issuer) SendRequests(enqueue func(types.NamespacedName), enqueueWaiting func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.request, i.requestWaiting = enqueue, enqueueWaiting
}

// SendProviderRequests has the requests for CredentialProviders go through enqueue.
func (i *Issuer) SendProviderRequests(enqueue func(name string)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.refresh = enqueue
}

// Check says what is in the way of the credentials that a run of a template needs. Nil means nothing.
func (i *Issuer) Check(tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate) *job.Credentials {
	if tenant == nil || template == nil || len(template.Spec.Credentials) == 0 {
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.clock.Now()
	var blocked *job.Credentials // What passes by itself does not hide what a person has to change.
	for _, wanted := range template.Spec.Credentials {
		has := credentialOf(tenant, wanted.Name)
		if has == nil {
			return &job.Credentials{Missing: fmt.Sprintf("tenant %s has no credential %s, which TenantJobTemplate %s names: add it to `spec.credentials` of the Tenant",
				tenant.Name, wanted.Name, template.Name)}
		}
		s := i.sources[has.ProviderRef.Name]
		if s != nil && s.refuses != nil {
			if problem := s.refuses(credential.TenantsEntry{Tenant: *has, Template: wanted}); problem != "" {
				return &job.Credentials{Missing: fmt.Sprintf("credential %s of tenant %s: %s", wanted.Name, tenant.Name, problem)}
			}
		}
		switch {
		case blocked != nil:
		case s == nil:
			blocked = &job.Credentials{Trouble: job.UnclearTrouble, RetryAfter: lookAgain, Blocked: fmt.Sprintf(
				"credential %s of tenant %s is from CredentialProvider %s, which does not exist or was not tried yet", wanted.Name, tenant.Name, has.ProviderRef.Name)}
		default:
			blocked = s.blocks(tenant.UID, now)
		}
	}
	return blocked
}

// credentialOf is the entry of a tenant's credentials with a name. Nil means that there is none.
func credentialOf(tenant *v1alpha1.Tenant, name string) *v1alpha1.TenantCredential {
	for n := range tenant.Spec.Credentials {
		if tenant.Spec.Credentials[n].Name == name {
			return &tenant.Spec.Credentials[n]
		}
	}
	return nil
}

// NeedsFinalizer says whether something is issued for the run alone, so that it has to be revoked.
func (i *Issuer) NeedsFinalizer(tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, wanted := range template.Spec.Credentials {
		if has := credentialOf(tenant, wanted.Name); has != nil && i.sources[has.ProviderRef.Name].perRun() {
			return true
		}
	}
	return false
}

// Issue has the credentials of a run issued, unless they are. Its TenantJob is requested when they are, or can't be, and when it has to
// ask again. It has the finalizer tenantry.dev/credentials, if NeedsFinalizer says so.
func (i *Issuer) Issue(tj *v1alpha1.TenantJob, tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate) {
	i.mu.Lock()
	defer i.mu.Unlock()
	r := i.runs[tj.UID]
	switch {
	case r != nil && r.hasFound():
		return // What was found may have the same handle, and is being revoked.
	case r != nil && r.isOutdated(tenant, template):
		i.revoke(r) // The Tenant or the template has been edited.
		return
	case r == nil || r.unknown || r.gone:
		r = newRun(kube.KeyOf(tj), tj.UID)
		i.runs[tj.UID] = r
	}
	maps.DeleteFunc(r.credentials, func(_ string, c *runCredential) bool { return c.found }) // They are revoked.
	r.tenant, r.tenantName = tenant.UID, tenant.Name
	now := i.clock.Now()
	if r.standing(now).IssuingFor == 0 {
		r.issuingSince = now
	}
	for _, wanted := range template.Spec.Credentials {
		has := credentialOf(tenant, wanted.Name)
		s := i.source(has)
		if s == nil {
			continue // Check says so.
		}
		c := r.credentials[wanted.Name]
		if c == nil || c.source != s.name {
			c = &runCredential{name: wanted.Name, source: s.name, perRun: s.can.PerRun}
			r.credentials[wanted.Name] = c
		}
		if c.wanted && c.state != failed {
			continue
		}
		c.env = wanted.Env
		c.request = i.requestFor(r, tj, tenant, *has, template, s)
		c.wanted, c.state, c.failure = true, pending, ""
		s.queue.Add(item{tj.UID, wanted.Name})
	}
	r.order = namesOf(template)
}

func (i *Issuer) source(c *v1alpha1.TenantCredential) *source {
	if c == nil {
		return nil
	}
	return i.sources[c.ProviderRef.Name]
}

func (i *Issuer) requestFor(
	r *run, tj *v1alpha1.TenantJob, tenant *v1alpha1.Tenant, c v1alpha1.TenantCredential, template *v1alpha1.TenantJobTemplate, s *source,
) credential.Request {
	return credential.Request{
		Handle:     credential.NewHandle(i.cluster, s.uid, tenant.UID, tj.UID, c.Name),
		Run:        r.id(),
		Tenant:     credential.Tenant{Name: tenant.Name, UID: tenant.UID, ExternalID: tenant.ExternalID()},
		Credential: c,
		Lifetime:   s.lifetime(template),
	}
}

// Revoke has the credentials of a run revoked: it is over, or does not start now. Its TenantJob is requested when they are.
func (i *Issuer) Revoke(tj *v1alpha1.TenantJob) {
	i.mu.Lock()
	defer i.mu.Unlock()
	r := i.runs[tj.UID]
	if r == nil {
		r = newRun(kube.KeyOf(tj), tj.UID)
		r.unknown = true
		i.runs[tj.UID] = r
		i.wakeSweep()
		return
	}
	i.revoke(r)
}

// Release notes the version of a TenantJob from which on it does not have the finalizer, because its credentials are revoked.
func (i *Issuer) Release(tj *v1alpha1.TenantJob) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if r := i.runs[tj.UID]; r != nil {
		r.released = tj.ResourceVersion
	}
}

// Forget forgets a run whose credentials are revoked. Its TenantJob does not have the finalizer any more: otherwise the credentials of an
// earlier process would be looked for.
func (i *Issuer) Forget(tj *v1alpha1.TenantJob) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.runs, tj.UID)
}

// Standing is what is known of the credentials of a run.
type Standing struct {
	// Known means that the Issuer has anything of the run.
	Known bool
	// Issued means that the run has all of its credentials, and Bindings are they.
	Issued   bool
	Bindings []job.Binding
	// IssuingFor is for how long some have been being issued. Zero means that none is.
	IssuingFor time.Duration
	// Revoked means that all are revoked.
	Revoked bool
	// Released is the version of the TenantJob from which on it does not have the finalizer. It is empty when that was not removed.
	Released string
	// Failure is why they could not be revoked when that was tried last. Empty means that it was not, or is done.
	Failure string
	// Statuses are what the status of the TenantJob has to say of them.
	Statuses []v1alpha1.CredentialStatus
}

// Standing returns what is known of the credentials of a run.
func (i *Issuer) Standing(tj *v1alpha1.TenantJob) Standing {
	i.mu.Lock()
	defer i.mu.Unlock()
	r := i.runs[tj.UID]
	if r == nil {
		return Standing{}
	}
	return r.standing(i.clock.Now())
}

// RevokeTenant has all credentials revoked that live for runs of a tenant, and says of which runs there are some left, sorted. An
// error means that nobody knows. A source that the Tenant does not name now may have some of before: it is asked, but need not answer,
// since the sweep asks it again.
func (i *Issuer) RevokeTenant(ctx context.Context, tenant *v1alpha1.Tenant) (left []string, err error) {
	left = i.revokeRemembered(tenant.UID)
	for _, s := range i.perRunSources(func(*source) bool { return true }) {
		found, err := i.list(ctx, s)
		if err != nil && s.isOf(tenant) {
			return nil, err
		}
		for _, f := range found {
			if f.Run.Namespace == tenant.NamespaceName() {
				left = append(left, nameOf(f.Run))
				i.revokeFound(s, f)
			}
		}
	}
	slices.Sort(left)
	return slices.Compact(left), nil
}

// revokeRemembered has the credentials revoked that this process has issued for a tenant, or is issuing.
func (i *Issuer) revokeRemembered(tenant types.UID) (left []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, r := range i.runs {
		if r.tenant == tenant && !r.standing(i.clock.Now()).Revoked {
			i.revoke(r)
			left = append(left, nameOf(r.id()))
		}
	}
	for t := range i.issuing { // Its worker has yet to see that the tenant is suspended, or is being deleted.
		if t.run.tenant == tenant {
			left = append(left, nameOf(t.run.id()))
		}
	}
	return left
}

// RevokeSource has the credentials of a source revoked of which the runs are over, and says of which runs there are some left, sorted:
// also of those that go on.
func (i *Issuer) RevokeSource(ctx context.Context, name string) (left []string, err error) {
	for _, s := range i.perRunSources(func(s *source) bool { return s.name == name }) {
		found, err := i.list(ctx, s)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			left = append(left, nameOf(f.Run))
			if !i.mayLive(ctx, f) {
				i.revokeFound(s, f)
			}
		}
	}
	left = append(left, i.remembered(name)...)
	slices.Sort(left)
	return slices.Compact(left), nil
}

// remembered are the names of the runs of which this process has issued a credential of a source, or is issuing one.
func (i *Issuer) remembered(source string) (left []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, r := range i.runs {
		for _, c := range r.credentials {
			if c.source == source && c.state != revoked {
				left = append(left, nameOf(r.id()))
			}
		}
	}
	return left
}

// nameOf names a run for a message. Its source may have lost the name.
func nameOf(r credential.Run) string { return cmp.Or(r.Name, string(r.UID)) }

// writeTimeout bounds one step of a worker at the source or the API server.
const writeTimeout = 15 * time.Second

// findTenant reads a Tenant as it is now, from the API server: the cache may be behind a suspension.
func (i *Issuer) findTenant(ctx context.Context, name string, uid types.UID) (*v1alpha1.Tenant, error) {
	tenant, err := kube.Find(ctx, i.Live, types.NamespacedName{Name: name}, &v1alpha1.Tenant{})
	switch {
	case err != nil:
		return nil, err
	case tenant == nil || tenant.UID != uid || tenant.DeletionTimestamp != nil || tenant.Suspended():
		return nil, fmt.Errorf("tenant %s is suspended, or is being deleted", name)
	}
	return tenant, nil
}

// metaTime returns a time for the API, nil for none. It is as precise as there: otherwise it would differ from what was read, and be
// written again.
func metaTime(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return new(metav1.NewTime(t).Rfc3339Copy())
}

// Counts returns what each source that issues credentials for runs has to do, by its name.
func (i *Issuer) Counts() map[string]metrics.CredentialCounts {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := map[string]metrics.CredentialCounts{}
	for name, s := range i.sources {
		if s.perRun() {
			all[name] = metrics.CredentialCounts{Issued: s.issues, IssueFailures: s.issueFailures, Revoked: s.revocations, RevokeFailures: s.revocationFailures}
		}
	}
	for _, r := range i.runs {
		for _, c := range r.credentials {
			of, known := all[c.source]
			switch {
			case !known || c.state == revoked:
				continue
			case c.wanted:
				of.Live++
			default:
				if of.Revoking++; of.Oldest.IsZero() || c.unwanted.Before(of.Oldest) {
					of.Oldest = c.unwanted
				}
			}
			all[c.source] = of
		}
	}
	return all
}
