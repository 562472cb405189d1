package dispatch

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
)

const (
	// reviewEvery is how often the status messages of some of those that wait are reviewed, and reviewAtOnce of how many.
	reviewEvery  = time.Second
	reviewAtOnce = 2000
	// statusesAtOnce is how many of them are written then, at most: a flood must not keep the API server busy with them.
	statusesAtOnce = 100
	// releaseEvery is how often the API server is asked for what no event will tell.
	releaseEvery = 2 * time.Second
)

// wake wakes the loop.
type wake struct {
	// signal has the loop admit whoever may start by now.
	signal chan struct{}
	// wakeAt is when the next TenantJob can start by itself.
	wakeAt time.Time
}

func newWake() wake { return wake{signal: make(chan struct{}, 1)} }

// wakeUp has the loop go on at a time, if it would not before. Zero means never.
func (w *wake) wakeUp(at time.Time) {
	if at.IsZero() || !w.wakeAt.IsZero() && !at.Before(w.wakeAt) {
		return
	}
	w.wakeAt = at
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// loop keeps the Dispatcher up to date. Only the leader runs it.
type loop struct {
	*Dispatcher
	jobs       kube.JobLister
	tenantJobs kube.Lister[*v1alpha1.TenantJob]
	// handled says that a watch has brought all there was to its handler.
	handled []toolscache.InformerSynced
}

// SetupWithManager has the manager feed the Dispatcher with what its watches bring, and run it on the leader.
func (d *Dispatcher) SetupWithManager(mgr manager.Manager) error {
	l := &loop{Dispatcher: d}
	var err error
	if l.jobs, err = kube.NewJobLister(mgr.GetCache()); err != nil {
		return err
	}
	if l.tenantJobs, err = kube.NewLister[*v1alpha1.TenantJob](mgr.GetCache(), &v1alpha1.TenantJob{}, nil); err != nil {
		return err
	}
	namespaces, err := kube.NewLister[*metav1.PartialObjectMetadata](mgr.GetCache(), kube.NamespaceMetadata(""), nil)
	if err != nil {
		return err
	}
	d.jobsIn = l.jobs.In
	d.tenantJob = func(key types.NamespacedName) *v1alpha1.TenantJob {
		tj, _ := l.tenantJobs.Get(key)
		return tj
	}
	d.namespaceUID = func(name string) types.UID {
		if namespace, known := namespaces.Get(types.NamespacedName{Name: name}); known {
			return namespace.UID
		}
		return ""
	}
	for _, w := range d.watches() {
		informer, err := mgr.GetCache().GetInformer(context.Background(), w.obj)
		if err != nil {
			return fmt.Errorf("watching %s: %w", kube.KindOf(w.obj), err)
		}
		registration, err := informer.AddEventHandler(w.handler)
		if err != nil {
			return fmt.Errorf("watching %s: %w", kube.KindOf(w.obj), err)
		}
		l.handled = append(l.handled, registration.HasSynced)
	}
	return mgr.Add(l)
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: only the leader starts anything.
func (*loop) NeedLeaderElection() bool { return true }

// Start runs until ctx ends.
func (l *loop) Start(ctx context.Context) error {
	if !toolscache.WaitForCacheSync(ctx.Done(), l.handled...) {
		return nil
	}
	synced := func(ctx context.Context) (bool, error) { return l.sync(ctx) == nil, nil }
	if wait.PollUntilContextCancel(ctx, time.Second, true, synced) != nil {
		return nil
	}
	defer l.stop()
	review, release := time.NewTicker(reviewEvery), time.NewTicker(releaseEvery)
	defer review.Stop()
	defer release.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.signal:
		case <-timer.C:
		case <-review.C:
			l.review()
		case <-release.C:
			l.releaseGone(ctx)
			l.settleUncertain(ctx)
		}
		timer.Reset(l.admitDue())
	}
}

// admitDue admits whoever may start by now, and returns after how long to do so again.
func (d *Dispatcher) admitDue() time.Duration {
	defer d.lock()()
	d.wakeAt = time.Time{}
	d.admit()
	select {
	case <-d.signal: // for what was just done
	default:
	}
	if d.wakeAt.IsZero() {
		return time.Hour
	}
	return max(time.Millisecond, d.wakeAt.Sub(d.clock.Now()))
}

// review requests TenantJobs whose status is out of date: what it says of the limit that holds them, or that they started.
func (d *Dispatcher) review() {
	defer d.lock()()
	if !d.synced {
		return
	}
	for _, key := range d.undefer(d.clock.Now()) {
		d.requestStatus(key)
	}
	for _, stale := range d.state.Review(reviewAtOnce, statusesAtOnce, job.SettleAfter) {
		d.requestStatus(stale.Job.Key)
	}
}

// stop keeps everybody from starting.
func (d *Dispatcher) stop() {
	defer d.lock()()
	d.synced = false
}
