package issuer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
)

const (
	// sweepEvery is how often credentials are looked for whose run is over and that nobody remembers.
	sweepEvery = time.Minute
	// sweepAfter is how long the sweep waits after it was woken, so that it serves many runs at once.
	sweepAfter = 200 * time.Millisecond
	// sweepRetry is after which time it is tried again for runs of an earlier process.
	sweepRetry = 5 * time.Second
)

// SetupWithManager has the manager run the Issuer on the leader.
func (i *Issuer) SetupWithManager(mgr manager.Manager) error {
	tenantJobs, err := kube.NewLister[*v1alpha1.TenantJob](mgr.GetCache(), &v1alpha1.TenantJob{}, nil)
	if err != nil {
		return err
	}
	if i.jobs, err = kube.NewJobLister(mgr.GetCache()); err != nil {
		return err
	}
	i.tenantJob = func(run credential.Run) *v1alpha1.TenantJob {
		if tj, exists := tenantJobs.Get(types.NamespacedName{Namespace: run.Namespace, Name: run.Name}); exists && tj.UID == run.UID {
			return tj
		}
		if run.Name != "" {
			return nil
		}
		for _, tj := range tenantJobs.All() { // The source has lost its name, which is rare.
			if tj.UID == run.UID {
				return tj
			}
		}
		return nil
	}
	return mgr.Add(i)
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: only the leader issues anything.
func (*Issuer) NeedLeaderElection() bool { return true }

// Start runs until ctx ends.
func (i *Issuer) Start(ctx context.Context) error {
	if err := i.start(ctx); err != nil {
		return nil
	}
	defer i.stop()
	timer := time.NewTimer(sweepAfter)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-i.sweepSoon:
			timer.Reset(sweepAfter)
		case <-timer.C:
			after := sweepEvery
			if err := i.sweep(ctx); err != nil && ctx.Err() == nil {
				i.log.Error(err, "Looking for credentials that nobody remembers")
				after = sweepRetry
			}
			timer.Reset(after)
		}
	}
}

// start finds out which cluster this is, and starts the workers.
func (i *Issuer) start(ctx context.Context) error {
	var cluster types.UID
	err := wait.PollUntilContextCancel(ctx, time.Second, true, func(ctx context.Context) (_ bool, err error) {
		if cluster, err = kube.ClusterUID(ctx, i.Live); err != nil {
			i.log.Error(err, "Reading the UID of the cluster")
		}
		return err == nil, nil
	})
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cluster, i.work = cluster, ctx
	for _, s := range i.sources {
		i.startWorkers(s)
	}
	return nil
}

func (i *Issuer) stop() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, s := range i.sources {
		s.stop()
	}
}

// wakeSweep has the sweep begin soon.
func (i *Issuer) wakeSweep() {
	select {
	case i.sweepSoon <- struct{}{}:
	default:
	}
}

// sweep revokes what lives at the sources and belongs to no run, and finds out what earlier processes have issued for the runs of which
// this one knows nothing.
func (i *Issuer) sweep(ctx context.Context) error {
	i.abandon()
	i.forgetMade()
	unknown := i.unknownRuns()
	living := map[types.UID]bool{}
	unlisted := map[string]bool{}
	var failure error
	for _, s := range i.perRunSources(func(*source) bool { return true }) {
		found, err := i.list(ctx, s)
		if err != nil {
			unlisted[s.name], failure = true, errors.Join(failure, err)
			continue
		}
		for _, f := range found {
			if i.mayLive(ctx, f) {
				living[f.Run.UID] = true
			} else {
				i.revokeFound(s, f)
			}
		}
	}
	missing, err := i.missingSources(ctx)
	if err != nil {
		return errors.Join(failure, err)
	}
	for _, name := range missing {
		unlisted[name] = true
		if len(unknown) > 0 {
			failure = errors.Join(failure, fmt.Errorf("CredentialProvider %s was not tried yet", name))
		}
	}
	i.identified(slices.DeleteFunc(unknown, func(r credential.Run) bool { return i.mayHaveOneOf(ctx, r, unlisted) }), living)
	return failure
}

// mayHaveOneOf says whether a run may have a credential of one of some sources. It goes by what its Tenant names now. Should the Tenant
// have named another one before, the sweep finds the credential there all the same.
func (i *Issuer) mayHaveOneOf(ctx context.Context, r credential.Run, sources map[string]bool) bool {
	tj := i.tenantJob(r)
	if len(sources) == 0 || tj == nil {
		return false
	}
	tenant, err := kube.Find(ctx, i.Client, types.NamespacedName{Name: tj.Spec.TenantRef.Name}, &v1alpha1.Tenant{})
	return err != nil || tenant == nil || slices.ContainsFunc(tenant.Spec.Credentials, func(c v1alpha1.TenantCredential) bool { return sources[c.ProviderRef.Name] })
}

// abandon has the credentials revoked of runs whose TenantJob is gone, although it had the finalizer: somebody has removed that.
func (i *Issuer) abandon() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for uid, r := range i.runs {
		if r.gone || i.tenantJob(r.id()) != nil {
			continue
		}
		r.gone = true
		i.revoke(r)
		if !r.unknown && r.standing(i.clock.Now()).Revoked {
			delete(i.runs, uid)
		}
	}
}

// unknownRuns are those of which only an earlier process knew.
func (i *Issuer) unknownRuns() []credential.Run {
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []credential.Run
	for _, r := range i.runs {
		if r.unknown {
			all = append(all, r.id())
		}
	}
	return all
}

// identified takes in that all credentials of some runs are known by now. It forgets those of which some live on, so that they are looked
// for again when the run is over.
func (i *Issuer) identified(runs []credential.Run, living map[types.UID]bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, of := range runs {
		uid := of.UID
		r := i.runs[uid]
		switch {
		case r == nil || !r.unknown:
		case living[uid]:
			delete(i.runs, uid)
		default:
			if r.unknown = false; r.gone && len(r.credentials) == 0 {
				delete(i.runs, uid)
			}
			i.request(r.key)
		}
	}
}

// perRunSources returns some of the sources that issue credentials for each run, by name.
func (i *Issuer) perRunSources(which func(*source) bool) []*source {
	i.mu.Lock()
	defer i.mu.Unlock()
	var all []*source
	for _, s := range i.sources {
		if s.perRun() && which(s) {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *source) int { return cmp.Compare(a.name, b.name) })
	return all
}

// missingSources names the CredentialProviders of which nothing is known yet.
func (i *Issuer) missingSources(ctx context.Context) (names []string, err error) {
	var providers v1alpha1.CredentialProviderList
	if err := i.List(ctx, &providers); err != nil {
		return nil, fmt.Errorf("listing CredentialProviders: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, p := range providers.Items {
		if s := i.sources[p.Name]; s == nil || s.uid != p.UID {
			names = append(names, p.Name)
		}
	}
	return names, nil
}

// list returns what lives at a source, no older than listingLasts.
func (i *Issuer) list(ctx context.Context, s *source) ([]credential.Issued, error) {
	began := i.clock.Now()
	i.mu.Lock()
	provider, listed, at, blocked := s.provider, s.listed, s.listedAt, s.blocked
	i.mu.Unlock()
	switch {
	case provider == nil:
		return nil, fmt.Errorf("CredentialProvider %s is not ready: %s", s.name, blocked)
	case began.Sub(at) < listingLasts && !began.Before(at):
		return listed, nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	found, err := provider.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the credentials of CredentialProvider %s: %w", s.name, err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	s.listed, s.listedAt = found, began
	return found, nil
}

// mayLive says whether the run of a credential goes on, or its start does. What this process remembers is revoked by who asked for it.
func (i *Issuer) mayLive(ctx context.Context, found credential.Issued) bool {
	i.mu.Lock()
	r := i.runs[found.Run.UID]
	known := r != nil && !r.unknown
	i.mu.Unlock()
	if known {
		return true
	}
	tj := i.tenantJob(found.Run)
	if tj == nil {
		return false
	}
	if lives(i.jobs.Get(kube.KeyOf(tj)), tj) {
		return true
	}
	// The cache may be behind.
	existing, err := kube.Find(ctx, i.Live, kube.KeyOf(tj), &batchv1.Job{})
	return err != nil || lives(existing, tj)
}

// lives says whether a Job is that of a TenantJob and has not ended.
func lives(j *batchv1.Job, tj *v1alpha1.TenantJob) bool {
	return j != nil && kube.ControllerUID(j, "TenantJob") == tj.UID && !job.Ended(j)
}

// revokeFound has a credential revoked that was found at a source. What this process has issued itself it knows by its name.
func (i *Issuer) revokeFound(s *source, found credential.Issued) {
	i.mu.Lock()
	defer i.mu.Unlock()
	r := i.runs[found.Run.UID]
	if r == nil {
		r = newRun(types.NamespacedName{Namespace: found.Run.Namespace, Name: found.Run.Name}, found.Run.UID)
		r.gone = true
		i.runs[r.uid] = r
	}
	switch c := r.withHandle(found.Handle); {
	case c != nil && !c.wanted && c.state == revoked: // An operator that has lost its lease has issued it once more.
		c.state = pending
		s.queue.Add(item{r.uid, c.name})
		return
	case c != nil, !r.unknown && !r.gone:
		return
	}
	name := string(found.Handle)
	r.credentials[name] = &runCredential{
		name: name, source: s.name, perRun: true, found: true, request: credential.Request{Handle: found.Handle, Run: found.Run}, unwanted: i.clock.Now(),
	}
	s.queue.Add(item{r.uid, name})
}
