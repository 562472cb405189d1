package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/queue"
)

const (
	// hearingLasts is how long after a restart the first TenantJob waits at most to be called.
	hearingLasts = 10 * time.Second
	// reviewEvery is how often some of those that wait are looked at, whether what is said of them is still true.
	reviewEvery  = time.Second
	reviewAtOnce = 2000
	// tellAtOnce bounds of how many of them something is said then: a flood must not keep the API server busy with words.
	tellAtOnce = 100
	// lookForLostEvery is how often the API server is asked for what no event will tell of.
	lookForLostEvery = 2 * time.Second
	// outcomeWithin is how long the slot of a fan-out's child waits at most for its outcome when its Job has ended.
	outcomeWithin = 30 * time.Second
	pageSize      = 500
)

// dispatcherLoop keeps the dispatcher up to date. It is the part that only the leader runs.
type dispatcherLoop struct {
	*Dispatcher
	jobs       jobShelf
	tenantJobs shelf[*v1alpha1.TenantJob]
	synced     []toolscache.InformerSynced
}

func setupDispatcher(mgr manager.Manager, d *Dispatcher) error {
	loop := &dispatcherLoop{Dispatcher: d}
	var err error
	if loop.jobs, err = openJobShelf(mgr.GetCache()); err != nil {
		return err
	}
	if loop.tenantJobs, err = openShelf[*v1alpha1.TenantJob](mgr.GetCache(), &v1alpha1.TenantJob{}, nil); err != nil {
		return err
	}
	for _, feed := range []struct {
		obj     client.Object
		handler toolscache.ResourceEventHandler
	}{
		{&v1alpha1.Tenant{}, feedOf(d.tenantChanged, func(t *v1alpha1.Tenant) { d.tenantDeleted(t.Name) })},
		{&v1alpha1.TenantJobTemplate{}, feedOf(d.templateChanged, func(t *v1alpha1.TenantJobTemplate) { d.templateDeleted(t.Name) })},
		{&v1alpha1.TenantQueue{}, feedOf(d.queueChanged, func(q *v1alpha1.TenantQueue) { d.queueDeleted(q.Name) })},
		{&v1alpha1.TenantJob{}, feedOf(func(*v1alpha1.TenantJob) {}, d.tenantJobDeleted)},
		{&batchv1.Job{}, feedOf(func(c *cachedJob) { d.jobChanged(c.job()) }, func(c *cachedJob) { d.jobDeleted(c.job()) })},
	} {
		informer, err := mgr.GetCache().GetInformer(context.Background(), feed.obj)
		if err != nil {
			return fmt.Errorf("watching %T: %w", feed.obj, err)
		}
		registration, err := informer.AddEventHandler(feed.handler)
		if err != nil {
			return fmt.Errorf("watching %T: %w", feed.obj, err)
		}
		loop.synced = append(loop.synced, registration.HasSynced)
	}
	return mgr.Add(loop)
}

// feedOf calls back with what a watch brings.
func feedOf[T client.Object](changed, deleted func(T)) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { changed(obj.(T)) },
		UpdateFunc: func(_, obj any) { changed(obj.(T)) },
		DeleteFunc: func(obj any) {
			if tombstone, unseen := obj.(toolscache.DeletedFinalStateUnknown); unseen {
				obj = tombstone.Obj
			}
			if last, ok := obj.(T); ok {
				deleted(last)
			}
		},
	}
}

// NeedLeaderElection says that only the leader starts anything.
func (*dispatcherLoop) NeedLeaderElection() bool { return true }

// Start opens the dispatcher and keeps it awake until ctx ends.
func (l *dispatcherLoop) Start(ctx context.Context) error {
	if !toolscache.WaitForCacheSync(ctx.Done(), l.synced...) {
		return nil
	}
	rebuilt := func(ctx context.Context) (bool, error) { return l.rebuild(ctx) == nil, nil }
	if wait.PollUntilContextCancel(ctx, time.Second, true, rebuilt) != nil {
		return nil
	}
	defer l.shut()
	review, lost := time.NewTicker(reviewEvery), time.NewTicker(lookForLostEvery)
	defer review.Stop()
	defer lost.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		case <-timer.C:
		case <-review.C:
			l.review()
		case <-lost.C:
			l.lookForLost(ctx)
		}
		timer.Reset(l.turn())
	}
}

// turn calls whoever may start by now, and says when to look again.
func (l *dispatcherLoop) turn() time.Duration {
	defer l.lock()()
	l.wakeAt = time.Time{}
	l.dispatch()
	select {
	case <-l.wake: // for what was just done
	default:
	}
	if l.wakeAt.IsZero() {
		return time.Hour
	}
	return max(time.Millisecond, l.wakeAt.Sub(l.clock.Now()))
}

// review has those looked at of which something else is to be said than was.
func (d *Dispatcher) review() {
	defer d.lock()()
	if !d.open {
		return
	}
	d.endHush(d.clock.Now())
	for _, told := range d.state.Review(reviewAtOnce, tellAtOnce, job.SettleAfter) {
		d.remind(told.Job.Key)
	}
}

// endHush has those looked at that were hushed: all when the rush is over; before that few at a time of those for which it
// has lasted long, the first to start first.
func (d *Dispatcher) endHush(now time.Time) {
	rush := d.rush.on(now)
	var due []*started
	for _, s := range d.made {
		if s.hushed && (!rush || now.Sub(s.at) >= hushFor) {
			due = append(due, s)
		}
	}
	if most := d.rush.words(now); rush && len(due) > most {
		slices.SortFunc(due, func(a, b *started) int { return a.at.Compare(b.at) })
		due = due[:most]
	}
	for _, s := range due {
		s.hushed, s.overdue = false, rush
		d.remind(s.NamespacedName)
	}
}

// shut keeps everybody from starting.
func (d *Dispatcher) shut() {
	defer d.lock()()
	d.open = false
}

func (d *Dispatcher) tenantChanged(t *v1alpha1.Tenant) {
	defer d.lock()()
	to := queue.Tenant{Name: t.Name}
	if limits := t.Spec.Jobs; limits != nil {
		to.MaxConcurrent, to.Weight = valueOf(limits.MaxConcurrent), valueOf(limits.Weight)
	}
	if before, known := d.tenants[t.Name]; known && before == to {
		return
	}
	d.tenants[t.Name] = to
	d.setTenant(to)
	d.uncallAll()
	d.dispatch()
}

// setTenant tells the queue what a tenant allows, and that its door is shut.
func (d *Dispatcher) setTenant(to queue.Tenant) {
	if to.Name == "" {
		return // It has not been heard of, or is gone.
	}
	if d.closed[to.Name] {
		to.Held = fmt.Sprintf("tenant %s is suspended", to.Name)
	}
	d.state.SetTenant(to)
	if to.Held != "" {
		d.uncallAll()
	}
}

func (d *Dispatcher) tenantDeleted(name string) {
	defer d.lock()()
	delete(d.tenants, name)
	delete(d.refusals, name)
	d.state.RemoveTenant(name)
	d.uncallAll()
	d.dispatch()
}

func (d *Dispatcher) templateChanged(t *v1alpha1.TenantJobTemplate) {
	d.setTemplate(t.Name, valueOf(t.Spec.MaxConcurrentPerTenant))
}

func (d *Dispatcher) templateDeleted(name string) { d.setTemplate(name, 0) }

func (d *Dispatcher) setTemplate(name string, perTenant int32) {
	defer d.lock()()
	if d.state.TemplateLimit(name) != perTenant {
		d.state.SetTemplate(name, perTenant)
		d.uncallAll()
		d.dispatch()
	}
}

func (d *Dispatcher) queueChanged(q *v1alpha1.TenantQueue) {
	defer d.lock()()
	d.state.SetQueue(queue.Queue{
		Name: q.Name, MaxConcurrent: valueOf(q.Spec.MaxConcurrent), MaxConcurrentPerTenant: valueOf(q.Spec.MaxConcurrentPerTenant),
		StartsPerMinute: valueOf(q.Spec.StartsPerMinute), Suspended: valueOf(q.Spec.Suspend),
	})
	d.uncallAll()
	d.dispatch()
}

func (d *Dispatcher) queueDeleted(name string) {
	defer d.lock()()
	d.state.RemoveQueue(name)
	d.uncallAll()
	d.dispatch()
}

// tenantJobDeleted: one that waits leaves the line. The Job of one that runs goes with it, and tells.
func (d *Dispatcher) tenantJobDeleted(tj *v1alpha1.TenantJob) {
	defer d.lock()()
	uid := tj.UID
	delete(d.made, uid)
	delete(d.verdicts, uid)
	d.withdraw(uid)
	delete(d.heard, uid)
	if s := d.slots[uid]; s != nil {
		s.orphaned = true
		s.lost = s.lost || !s.inFlight && !s.seen
		if !s.inFlight && !s.endedAt.IsZero() {
			d.vacate(s)
		}
	}
	d.dispatch()
}

// jobChanged: one that lives holds a slot, one that has ended gives it back.
func (d *Dispatcher) jobChanged(j *batchv1.Job) {
	owner := metav1.GetControllerOf(j)
	if owner == nil || owner.Kind != "TenantJob" {
		return
	}
	defer d.lock()()
	uid, made := owner.UID, roundUp(j.CreationTimestamp.Time)
	s := d.slots[uid]
	switch {
	case job.IsLive(j) && (s == nil || s.called):
		delete(d.calls, uid)
		delete(d.unheard, uid)
		d.leave(uid)
		this := jobFrom(j, keyOf(j), uid)
		d.state.Run(this, made)
		d.slots[uid] = &slot{job: holderOf(this), seen: true, jobUID: j.UID}
	case job.IsLive(j):
		s.seen, s.lost, s.unsure, s.jobUID = true, false, false, j.UID
	default:
		d.jobEnded(j, uid, made)
	}
	d.dispatch()
}

func (d *Dispatcher) jobEnded(j *batchv1.Job, uid types.UID, made time.Time) {
	delete(d.unheard, uid)
	s := d.slots[uid]
	switch {
	case s == nil && !d.open && d.clock.Now().Sub(made) < time.Minute:
		d.state.RecordStart(j.Labels[v1alpha1.LabelQueue], made)
	case s == nil:
	case s.called:
		d.uncall(uid)
		d.state.Remove(uid)
	case s.endedAt.IsZero():
		s.seen, s.endedAt = true, d.clock.Now()
		if !s.inFlight {
			d.vacate(s)
		}
	}
}

// jobDeleted: its pods may outlive it.
func (d *Dispatcher) jobDeleted(j *batchv1.Job) {
	owner := metav1.GetControllerOf(j)
	if owner == nil || owner.Kind != "TenantJob" {
		return
	}
	defer d.lock()()
	if s := d.slots[owner.UID]; s != nil && !s.called {
		s.seen, s.lost, s.jobUID = true, true, j.UID
	}
}

// jobFrom is what the labels of a Job or a pod say of the run.
func jobFrom(obj client.Object, key types.NamespacedName, uid types.UID) queue.Job {
	labels := obj.GetLabels()
	j := queue.Job{
		UID: uid, Key: key,
		Queue: labels[v1alpha1.LabelQueue], Tenant: labels[v1alpha1.LabelTenant], Template: labels[v1alpha1.LabelTemplate],
		FanOut: labels[v1alpha1.LabelFanOut], Schedule: labels[v1alpha1.LabelSchedule],
		Created: obj.GetCreationTimestamp().Time,
	}
	if j.Queue == "" {
		j.Queue = v1alpha1.DefaultQueue
	}
	return j
}

// valueOf is what a pointer points to, or zero.
func valueOf[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}
