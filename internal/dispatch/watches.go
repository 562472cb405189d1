package dispatch

import (
	"cmp"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/queue"
)

// watch is a kind that is watched, and what handles its events.
type watch struct {
	obj     client.Object
	handler toolscache.ResourceEventHandler
}

func (d *Dispatcher) watches() []watch {
	return []watch{
		{&v1alpha1.Tenant{}, handlerOf(d.tenantChanged, func(t *v1alpha1.Tenant) { d.tenantDeleted(t.Name) })},
		{&v1alpha1.TenantJobTemplate{}, handlerOf(d.templateChanged, func(t *v1alpha1.TenantJobTemplate) { d.templateDeleted(t.Name) })},
		{&v1alpha1.TenantQueue{}, handlerOf(d.queueChanged, func(q *v1alpha1.TenantQueue) { d.queueDeleted(q.Name) })},
		{&v1alpha1.TenantJob{}, handlerOf(func(*v1alpha1.TenantJob) {}, d.tenantJobDeleted)},
		{&batchv1.Job{}, handlerOf(func(c *kube.CachedJob) { d.jobChanged(c.Job()) }, func(c *kube.CachedJob) { d.jobDeleted(c.Job()) })},
	}
}

// handlerOf calls back with what a watch brings. After an interruption a watch tells of an object that was deleted and created again
// as of one that was changed.
func handlerOf[T client.Object](changed, deleted func(T)) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { changed(obj.(T)) },
		UpdateFunc: func(before, obj any) {
			if last := before.(T); last.GetUID() != obj.(T).GetUID() {
				deleted(last)
			}
			changed(obj.(T))
		},
		DeleteFunc: func(obj any) {
			if tombstone, missed := obj.(toolscache.DeletedFinalStateUnknown); missed {
				obj = tombstone.Obj
			}
			if last, ok := obj.(T); ok {
				deleted(last)
			}
		},
	}
}

func (d *Dispatcher) tenantChanged(t *v1alpha1.Tenant) {
	defer d.lock()()
	to := queue.Tenant{Name: t.Name}
	if limits := t.Spec.Jobs; limits != nil {
		to.MaxConcurrent, to.Weight = ptr.Deref(limits.MaxConcurrent, 0), ptr.Deref(limits.Weight, 0)
	}
	d.setNamespace(t)
	if d.generations[t.Name] != t.Status.ObservedGeneration {
		d.generations[t.Name] = t.Status.ObservedGeneration
		d.retry(t.Name) // Its quota may be another.
		d.admit()
	}
	if before, known := d.limits[t.Name]; known && before == to {
		return
	}
	d.limits[t.Name] = to
	d.setTenant(to)
	d.revokeAdmissions()
	d.admit()
}

// setNamespace notes which namespace is a tenant's. What runs there takes its slots now, if the cache had the Jobs before it had
// the Tenant.
func (d *Dispatcher) setNamespace(t *v1alpha1.Tenant) {
	switch home := t.Status.Namespace; {
	case home == nil:
		delete(d.namespaces, t.Name)
	case d.namespaces[t.Name] != *home:
		d.namespaces[t.Name] = *home
		if !d.synced {
			return // endSync takes the slots.
		}
		for _, j := range d.jobsIn(home.Name) {
			if job.IsLive(j) && d.slotOf(j) == nil && d.isRun(j) {
				d.addJob(j, roundUp(j.CreationTimestamp.Time))
			}
		}
	}
}

func (d *Dispatcher) tenantDeleted(name string) {
	defer d.lock()()
	delete(d.limits, name)
	delete(d.namespaces, name)
	delete(d.generations, name)
	d.forget(name)
	d.state.RemoveTenant(name)
	d.revokeAdmissions()
	d.admit()
}

func (d *Dispatcher) templateChanged(t *v1alpha1.TenantJobTemplate) {
	d.setTemplate(t.Name, ptr.Deref(t.Spec.MaxConcurrentPerTenant, 0))
}

func (d *Dispatcher) templateDeleted(name string) { d.setTemplate(name, 0) }

func (d *Dispatcher) setTemplate(name string, perTenant int32) {
	defer d.lock()()
	if d.state.TemplateLimit(name) != perTenant {
		d.state.SetTemplate(name, perTenant)
		d.revokeAdmissions()
		d.admit()
	}
}

func (d *Dispatcher) queueChanged(q *v1alpha1.TenantQueue) {
	defer d.lock()()
	to := queue.Queue{
		Name: q.Name, MaxConcurrent: ptr.Deref(q.Spec.MaxConcurrent, 0), MaxConcurrentPerTenant: ptr.Deref(q.Spec.MaxConcurrentPerTenant, 0),
		StartsPerMinute: ptr.Deref(q.Spec.StartsPerMinute, 0), Suspended: ptr.Deref(q.Spec.Suspend, false),
	}
	if !d.state.SetQueue(to) {
		return // Only its status has changed, which is written every few seconds.
	}
	d.revokeAdmissions()
	d.admit()
}

func (d *Dispatcher) queueDeleted(name string) {
	defer d.lock()()
	d.state.RemoveQueue(name)
	d.revokeAdmissions()
	d.admit()
}

// tenantJobDeleted takes one that waits out of the queue. The Job of one that runs goes with it, and its event releases the
// slot.
func (d *Dispatcher) tenantJobDeleted(tj *v1alpha1.TenantJob) {
	defer d.lock()()
	uid := tj.UID
	delete(d.assumed, uid)
	delete(d.ends, uid)
	d.withdraw(uid)
	delete(d.reports, uid)
	if s := d.slot(uid); s != nil {
		s.orphaned = true
		s.untracked = s.untracked || !s.starting && !s.cached
		if !s.starting && !s.endedAt.IsZero() {
			d.releaseEnded(s)
		}
	}
	d.admit()
}

// jobChanged takes a slot for a Job that lives, and releases that of one that has ended. Until all that runs is known, sync reads
// the Jobs itself.
func (d *Dispatcher) jobChanged(j *batchv1.Job) {
	defer d.lock()()
	if !d.synced {
		return
	}
	s := d.slotOf(j)
	switch {
	case !job.IsLive(j):
		if s != nil { // One that has no slot had ended before: who may change it would have the tenant try again each time.
			d.retry(s.job.Tenant)
		}
		d.jobEnded(j, s)
	case s == nil || s.admitted:
		if _, isEmptied := d.emptied[j.UID]; isEmptied || !d.isRun(j) {
			return
		}
		if s != nil {
			d.revokeAdmission(s.job.UID)
		}
		d.addJob(j, roundUp(j.CreationTimestamp.Time))
	default:
		d.setJob(s, j.UID)
		if s.uncertain {
			d.started(s)
		}
		s.cached, s.untracked, s.uncertain = true, false, false
		s.orphaned = s.orphaned || isOrphan(j)
		s.setDeleted(j)
	}
	d.admit()
}

// addJob takes a slot for a Job that lives and was started at a time.
func (d *Dispatcher) addJob(j *batchv1.Job, started time.Time) {
	run := jobFrom(j, kube.KeyOf(j), holderUID(j))
	delete(d.unreported, run.UID)
	d.removeChild(run.UID)
	d.state.Run(run, started)
	s := d.addRunning(run, j.UID)
	s.cached, s.orphaned = true, isOrphan(j)
	s.setDeleted(j)
}

// setDeleted notes when the Job of a slot was deleted, if it was.
func (s *slot) setDeleted(j metav1.Object) {
	if at := j.GetDeletionTimestamp(); at != nil {
		s.deletedAt = at.Time
	}
}

// holderUID is the UID of the TenantJob of a Job. Of an orphan, whose TenantJob nobody knows any more, it is the Job's own.
func holderUID(j metav1.Object) types.UID {
	if uid := kube.ControllerUID(j, "TenantJob"); uid != "" {
		return uid
	}
	return j.GetUID()
}

// isOrphan says whether a Job has lost its owner reference.
func isOrphan(j metav1.Object) bool { return metav1.GetControllerOfNoCopy(j) == nil }

func (d *Dispatcher) jobEnded(j *batchv1.Job, s *slot) {
	switch {
	case s == nil:
		delete(d.unreported, kube.ControllerUID(j, "TenantJob"))
	case s.admitted:
		d.reported(s.job.UID)
		d.revokeAdmission(s.job.UID)
		d.state.Remove(s.job.UID)
	case s.endedAt.IsZero():
		s.cached, s.endedAt = true, d.clock.Now()
		if !s.starting {
			d.releaseEnded(s)
		}
	}
}

// jobDeleted keeps the slot of a Job that is gone: its pods may outlive it.
func (d *Dispatcher) jobDeleted(j *batchv1.Job) {
	defer d.lock()()
	if d.syncing && job.IsLive(j) && d.isRun(j) {
		d.deleted = append(d.deleted, run{jobFrom(j, kube.KeyOf(j), holderUID(j)), j.UID})
	}
	delete(d.emptied, j.UID)
	if s := d.slotOf(j); s != nil && !s.admitted {
		d.setJob(s, j.UID)
		s.cached, s.untracked = true, true
	}
	if d.isRun(j) {
		d.retry(j.Labels[v1alpha1.LabelTenant])
		d.admit()
	}
}

// isRun says whether a Job is a run of the tenant that it is labelled with: it is controlled by the TenantJob of its name, or has
// been and was orphaned, and is in the very namespace of that tenant. Labels alone take no slot: anybody can write them.
func (d *Dispatcher) isRun(obj client.Object) bool {
	return (d.isControlled(obj) || job.IsOrphan(obj)) && d.isOfTenant(obj)
}

// isControlled says whether the TenantJob of its name controls a Job, as far as the dispatcher knows the TenantJob. A Job that had
// the UID of another one would take the slot of that one's run, and free it.
func (d *Dispatcher) isControlled(obj client.Object) bool {
	uid := kube.ControllerUID(obj, "TenantJob")
	if uid == "" || metav1.GetControllerOfNoCopy(obj).Name != obj.GetName() {
		return false
	}
	if s := d.slot(uid); s != nil {
		return s.job.NamespacedName == kube.KeyOf(obj)
	}
	known, isKnown := d.state.Job(uid)
	return !isKnown || known.Key == kube.KeyOf(obj)
}

// isOfTenant says whether an object is in the very namespace of the tenant that it is labelled with.
func (d *Dispatcher) isOfTenant(obj client.Object) bool {
	home, known := d.namespaces[obj.GetLabels()[v1alpha1.LabelTenant]]
	if !known || home.Name != obj.GetNamespace() {
		return false
	}
	uid := d.namespaceUID(home.Name) // which the cache may not have yet
	return uid == "" || uid == home.UID
}

// jobFrom is what the labels of a Job or a pod say of the run.
func jobFrom(obj client.Object, key types.NamespacedName, uid types.UID) queue.Job {
	labels := obj.GetLabels()
	j := queue.Job{
		UID: uid, Key: key,
		Queue: queueOf(obj), Tenant: labels[v1alpha1.LabelTenant], Template: labels[v1alpha1.LabelTemplate],
		FanOut: labels[v1alpha1.LabelFanOut], Schedule: labels[v1alpha1.LabelSchedule],
		Created: obj.GetCreationTimestamp().Time,
	}
	j.Tick = tickOf(j.Schedule, j.FanOut)
	return j
}

// queueOf is the queue that the labels of a Job or a pod name.
func queueOf(obj client.Object) string {
	return cmp.Or(obj.GetLabels()[v1alpha1.LabelQueue], v1alpha1.DefaultQueue)
}

// roundUp is a time of the API server, which has whole seconds, not earlier than it was.
func roundUp(t time.Time) time.Time { return t.Add(time.Second) }
