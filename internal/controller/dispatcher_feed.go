package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
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
	// lookForLostEvery is how often the API server is asked for what no event will tell of.
	lookForLostEvery = 2 * time.Second
	pageSize         = 500
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
	for _, told := range d.state.Review(reviewAtOnce, job.SettleAfter) {
		d.remind(told.Job.Key)
	}
}

// shut keeps everybody from starting.
func (d *Dispatcher) shut() {
	defer d.lock()()
	d.open = false
}

// rebuild finds what holds a slot, from the API server and not from the caches, which may be behind what an earlier leader
// did; then it opens the dispatcher.
func (l *dispatcherLoop) rebuild(ctx context.Context) error {
	if err := errors.Join(l.findJobs(ctx), l.findPods(ctx)); err != nil {
		log.FromContext(ctx).Error(err, "Finding out what runs")
		return err
	}
	defer l.lock()()
	for _, obj := range l.tenantJobs.List() {
		tj := obj.(*v1alpha1.TenantJob)
		if _, heard := l.heard[tj.UID]; !heard && !job.IsOver(tj) && l.slots[tj.UID] == nil {
			l.unheard[tj.UID] = struct{}{}
		}
	}
	l.unheardUntil = l.clock.Now().Add(hearingLasts)
	l.open = true
	clear(l.heard)
	l.dispatch()
	return nil
}

// findJobs takes slots for the Jobs of which the watch has not told yet.
func (l *dispatcherLoop) findJobs(ctx context.Context) error {
	return l.find(ctx, "JobList", batchv1.SchemeGroupVersion, func(j *metav1.PartialObjectMetadata) {
		owner := metav1.GetControllerOf(j)
		if owner == nil || owner.Kind != "TenantJob" {
			return
		}
		// That the cache has one that lives does not mean that the dispatcher was told: the cache is ahead of its handlers.
		if known := l.cached(keyOf(j), j.UID); known == nil || job.IsLive(known) {
			l.miss(jobFrom(j, keyOf(j), owner.UID), j.UID, j.CreationTimestamp.Time)
		}
	})
}

// findPods takes slots for the pods that have not ended and whose Job is gone.
func (l *dispatcherLoop) findPods(ctx context.Context) error {
	return l.find(ctx, "PodList", corev1.SchemeGroupVersion, func(pod *metav1.PartialObjectMetadata) {
		owner := metav1.GetControllerOf(pod)
		if owner == nil || owner.Kind != "Job" {
			return
		}
		key := types.NamespacedName{Namespace: pod.Namespace, Name: owner.Name}
		if l.cached(key, owner.UID) == nil {
			// Nobody knows the UID of its TenantJob any more.
			l.miss(jobFrom(pod, key, owner.UID), owner.UID, pod.CreationTimestamp.Time)
		}
	}, client.MatchingFieldsSelector{Selector: notEnded})
}

// find calls back with the metadata of all objects of a kind in tenants' namespaces.
func (l *dispatcherLoop) find(
	ctx context.Context, kind string, version schema.GroupVersion, each func(*metav1.PartialObjectMetadata), opts ...client.ListOption,
) error {
	opts = append(opts, client.HasLabels{v1alpha1.LabelTenant}, client.Limit(pageSize))
	for page := ""; ; {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(version.WithKind(kind))
		if err := l.live.List(ctx, list, append(opts, client.Continue(page))...); err != nil {
			return fmt.Errorf("listing %s: %w", kind, err)
		}
		for i := range list.Items {
			each(&list.Items[i])
		}
		if page = list.Continue; page == "" {
			return nil
		}
	}
}

// cached is this Job as the cache has it. Nil when it does not.
func (l *dispatcherLoop) cached(key types.NamespacedName, uid types.UID) *batchv1.Job {
	if known := l.jobs.get(key); known != nil && known.UID == uid {
		return known
	}
	return nil
}

// miss takes a slot for a Job of which the watch has not told.
func (d *Dispatcher) miss(j queue.Job, jobUID types.UID, made time.Time) {
	defer d.lock()()
	if d.slots[j.UID] != nil {
		return
	}
	for _, s := range d.slots {
		if s.jobUID == jobUID {
			return
		}
	}
	d.state.Run(j, roundUp(made))
	d.slots[j.UID] = &slot{job: holderOf(j), lost: true, jobUID: jobUID}
}

// lookForLost gives the slots back of those of which neither a Job nor a pod is left.
func (l *dispatcherLoop) lookForLost(ctx context.Context) {
	for uid, s := range l.lost() {
		gone, err := l.isGone(ctx, s)
		if err != nil {
			log.FromContext(ctx).Error(err, "Finding out whether a run is gone", "tenantJob", s.job.NamespacedName)
			continue
		}
		if gone {
			l.giveUp(uid)
		}
	}
}

// lost returns copies of the slots that are lost.
func (d *Dispatcher) lost() map[types.UID]slot {
	defer d.lock()()
	all := map[types.UID]slot{}
	for uid, s := range d.slots {
		if s.lost && !s.inFlight && !(s.unsure && d.clock.Now().Before(s.unsureUntil)) {
			all[uid] = *s
		}
	}
	return all
}

// giveUp gives the slot of a lost run to the next.
func (d *Dispatcher) giveUp(uid types.UID) {
	defer d.lock()()
	if s := d.slots[uid]; s != nil && s.lost && !s.inFlight {
		d.release(uid)
		d.dispatch()
	}
}

// isGone says whether there is neither a Job nor a pod of it that has not ended.
func (l *dispatcherLoop) isGone(ctx context.Context, s slot) (bool, error) {
	existing, err := found(ctx, l.live, s.job.NamespacedName, &batchv1.Job{})
	if err != nil {
		return false, err
	}
	if existing != nil && (existing.UID == s.jobUID || metav1.IsControlledBy(existing, &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{UID: s.job.UID}})) {
		return !job.IsLive(existing), nil
	}
	labels := client.MatchingLabels{batchv1.JobNameLabel: s.job.Name}
	if s.jobUID != "" {
		labels = client.MatchingLabels{batchv1.ControllerUidLabel: string(s.jobUID)}
	}
	pods := &metav1.PartialObjectMetadataList{}
	pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	err = l.live.List(ctx, pods, client.InNamespace(s.job.Namespace), labels, client.MatchingFieldsSelector{Selector: notEnded}, client.Limit(1))
	if err != nil {
		return false, fmt.Errorf("listing the pods of Job %s: %w", s.job.NamespacedName, err)
	}
	return len(pods.Items) == 0, nil
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
	if name := j.Labels[v1alpha1.LabelFanOut]; name != "" && d.fanOuts[name] != nil {
		d.record(ChildOutcome{
			FanOut: name, UID: d.fanOuts[name].fanOut.UID, Tenant: j.Labels[v1alpha1.LabelTenant], Outcome: outcomeOfJob(job.HasCompleted(j)),
		})
	}
	s := d.slots[uid]
	switch {
	case s == nil && !d.open && d.clock.Now().Sub(made) < time.Minute:
		d.state.Started(j.Labels[v1alpha1.LabelQueue], made)
	case s == nil:
	case s.inFlight:
		s.seen, s.over = true, true
	default:
		d.uncall(uid)
		d.release(uid)
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
