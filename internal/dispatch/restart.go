package dispatch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/queue"
)

const (
	// reportsWithin is how long after a restart nothing is admitted, at most, because TenantJobs have not been reconciled.
	reportsWithin = 10 * time.Second
	// outcomeWithin is how long the slot of a fan-out's child waits at most for its outcome when its Job has ended.
	outcomeWithin = 30 * time.Second
	// goneWithin is how long after its deletion a Job is gone, or its pods are looked for.
	goneWithin = time.Minute
	// pageSize is how many objects a list asks for at once.
	pageSize = 500
)

// restart is what has to be known before anything is admitted.
type restart struct {
	// synced means that everything that holds a slot is known. Before that, the events of Jobs are ignored: one that stands by would
	// remember all that has ever run.
	synced bool
	// syncedAt is when that was so.
	syncedAt time.Time
	// syncing means that it is being found out, and deleted are the live Jobs that were deleted meanwhile.
	syncing bool
	deleted []run
	// unreported are the TenantJobs that were not reconciled since the restart. Nobody is admitted before all were, or
	// until the time reportsUntil: otherwise the first to be reconciled would start before those that come first. Reports are those
	// that were reconciled before it was synced.
	unreported, reports map[types.UID]struct{}
	reportsUntil        time.Time
	// doubtful are the TenantJobs that are not known to have started and whose Job may have been made, and deleted, all the same: by an
	// earlier process, or by a start that got no answer.
	doubtful map[types.UID]struct{}
	// holdsBack is why nothing is admitted. Empty means that it is.
	holdsBack string
}

func newRestart() restart {
	return restart{unreported: map[types.UID]struct{}{}, reports: map[types.UID]struct{}{}, doubtful: map[types.UID]struct{}{}}
}

// reported notes that a TenantJob was reconciled.
func (r *restart) reported(uid types.UID) {
	if !r.synced {
		r.reports[uid] = struct{}{}
	}
	delete(r.unreported, uid)
}

// awaitsReports says whether there are TenantJobs that were not reconciled yet and are waited for.
func (r *restart) awaitsReports(now time.Time) bool {
	return len(r.unreported) > 0 && now.Before(r.reportsUntil)
}

// sync finds what holds a slot, from the API server and not from the caches alone, which may be behind what an earlier leader did.
// From then on TenantJobs are admitted, and the events of Jobs count.
func (l *loop) sync(ctx context.Context) error {
	l.beginSync()
	runs, err := l.findRuns(ctx)
	if err != nil {
		log.FromContext(ctx).Error(err, "Finding out what runs")
		return err
	}
	records, err := l.findStarts(ctx)
	if err != nil {
		log.FromContext(ctx).Error(err, "Finding out what has started")
		return err
	}
	l.endSync(runs, records)
	return nil
}

// beginSync notes the Jobs that are deleted from now on: findRuns takes them for known, and their pods may outlive them.
func (d *Dispatcher) beginSync() {
	defer d.lock()()
	d.syncing, d.deleted = true, nil
}

// run is one of which the caches know nothing: a Job, or the pod of a Job that is gone.
type run struct {
	queue.Job
	jobUID types.UID
}

// findRuns returns the runs that the API server has and the caches do not.
func (l *loop) findRuns(ctx context.Context) ([]run, error) {
	var runs []run
	found := map[types.UID]bool{}
	add := func(obj *metav1.PartialObjectMetadata, key types.NamespacedName, uid, jobUID types.UID) {
		if l.jobs.Get(key) == nil || l.jobs.Get(key).UID != jobUID {
			runs = append(runs, run{jobFrom(obj, key, uid), jobUID})
		}
	}
	holds := func(check func(client.Object) bool, obj client.Object) bool {
		defer l.lock()()
		return check(obj)
	}
	err := l.find(ctx, "JobList", batchv1.SchemeGroupVersion, func(j *metav1.PartialObjectMetadata) {
		if holds(l.isRun, j) {
			add(j, kube.KeyOf(j), holderUID(j), j.UID)
		}
		found[j.UID] = true
	})
	if err != nil {
		return nil, err
	}
	others := map[types.UID]run{}
	err = l.find(ctx, "PodList", corev1.SchemeGroupVersion, func(pod *metav1.PartialObjectMetadata) {
		owner := metav1.GetControllerOf(pod)
		if owner == nil || owner.Kind != "Job" || found[owner.UID] || !holds(l.isOfTenant, pod) {
			return
		}
		// If the Job is gone, nobody knows the UID of its TenantJob any more.
		key := types.NamespacedName{Namespace: pod.Namespace, Name: owner.Name}
		others[owner.UID] = run{jobFrom(pod, key, owner.UID), owner.UID}
	}, client.MatchingFieldsSelector{Selector: kube.UnfinishedPods})
	if err != nil {
		return nil, err
	}
	// Who may create a Job can give its pods all the labels of a run.
	for uid, r := range others {
		j := &metav1.PartialObjectMetadata{}
		j.SetGroupVersionKind(batchv1.SchemeGroupVersion.WithKind("Job"))
		existing, err := kube.Find(ctx, l.live, r.Key, j)
		if err != nil {
			return nil, err
		}
		if existing == nil || existing.UID != uid || holds(l.isControlled, existing) {
			runs = append(runs, r)
		}
	}
	return runs, nil
}

// find calls back with the metadata of all objects of a kind in tenants' namespaces.
func (l *loop) find(
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

// endSync takes the slots of all that runs. What the cache of Jobs has by now brings no event that is ignored: its event has been
// handled before, or waits for the lock.
func (l *loop) endSync(runs []run, records startRecords) {
	defer l.lock()()
	ended, isAnothers := map[types.UID]bool{}, l.nameCheck()
	for _, j := range l.jobs.All() {
		switch {
		case !l.isRun(j), isAnothers(holderUID(j), kube.KeyOf(j)):
		case job.IsLive(j):
			l.addJob(j, records.startOf(j))
		default:
			ended[j.UID] = true
			if made := records.startOf(j); l.clock.Now().Sub(made) < time.Minute {
				l.state.RecordStart(queueOf(j), made)
			}
		}
	}
	for _, r := range append(runs, l.deleted...) {
		if !ended[r.jobUID] && l.slotsByJob[r.jobUID] == nil && l.slot(r.UID) == nil && !isAnothers(r.UID, r.Key) {
			l.addUntracked(r, records)
		}
	}
	records.restore(l.state, l.clock.Now())
	for _, tj := range l.tenantJobs.All() {
		if job.IsOver(tj) {
			continue
		}
		if tj.Status.JobRef == nil { // If it has a Job now, that may be deleted before the status says so.
			l.doubtful[tj.UID] = struct{}{}
		}
		if _, reported := l.reports[tj.UID]; !reported && l.slot(tj.UID) == nil {
			l.unreported[tj.UID] = struct{}{}
		}
	}
	l.syncedAt = l.clock.Now()
	l.reportsUntil = l.syncedAt.Add(reportsWithin)
	l.synced, l.syncing, l.deleted = true, false, nil
	clear(l.reports)
	l.Dispatcher.log.V(2).Info("Found out what runs", "slots", len(l.slotsByUID), "unreported", len(l.unreported))
	l.admit()
}

// nameCheck returns a function that says whether a UID is that of a TenantJob with another name.
func (l *loop) nameCheck() func(uid types.UID, name types.NamespacedName) bool {
	names := map[types.UID]types.NamespacedName{}
	for _, tj := range l.tenantJobs.All() {
		names[tj.UID] = kube.KeyOf(tj)
	}
	return func(uid types.UID, name types.NamespacedName) bool {
		known, isKnown := names[uid]
		return isKnown && known != name
	}
}

// addUntracked takes a slot for a run of which no event will tell.
func (d *Dispatcher) addUntracked(r run, records startRecords) {
	d.state.Run(r.Job, records.start(r.Queue, r.Created))
	d.addRunning(r.Job, r.jobUID).untracked = true
}

// releaseGone releases the untracked slots of which neither a Job nor a pod is left.
func (l *loop) releaseGone(ctx context.Context) {
	all := l.untracked()
	for _, uid := range slices.Sorted(maps.Keys(all)) {
		s := all[uid]
		gone, err := l.isGone(ctx, s)
		if err != nil {
			log.FromContext(ctx).Error(err, "Finding out whether a run is gone", "tenantJob", s.job.NamespacedName)
			continue
		}
		if gone {
			l.releaseUntracked(uid)
		}
	}
}

// untracked returns copies of the untracked slots.
func (d *Dispatcher) untracked() map[types.UID]slot {
	defer d.lock()()
	all := map[types.UID]slot{}
	now := d.clock.Now()
	for uid, s := range d.slotsByUID {
		if s.isUntracked(now) && !s.starting && !s.mayBeMade(now) && now.Sub(s.endedAt) >= outcomeWithin {
			all[uid] = *s
		}
	}
	return all
}

// isUntracked says whether an event may not tell of the end of a slot's run.
func (s *slot) isUntracked(now time.Time) bool {
	return s.untracked || !s.deletedAt.IsZero() && now.Sub(s.deletedAt) >= goneWithin
}

// releaseUntracked gives an untracked slot to the next.
func (d *Dispatcher) releaseUntracked(uid types.UID) {
	defer d.lock()()
	if s := d.slot(uid); s != nil && s.isUntracked(d.clock.Now()) && !s.starting {
		if !s.deletedAt.IsZero() && !s.untracked {
			d.emptied[s.jobUID] = struct{}{}
		}
		d.release(s)
		d.admit()
	}
}

// isGone says whether there is neither a Job nor a pod of it that has not ended.
func (l *loop) isGone(ctx context.Context, s slot) (bool, error) {
	existing, err := kube.Find(ctx, l.live, s.job.NamespacedName, &batchv1.Job{})
	if err != nil {
		return false, err
	}
	if existing != nil && (existing.UID == s.jobUID || kube.ControllerUID(existing, "TenantJob") == s.job.UID) {
		if existing.DeletionTimestamp == nil || !job.IsLive(existing) {
			return !job.IsLive(existing), nil
		}
		s.jobUID = existing.UID // It gets no pod any more.
	}
	labels := client.MatchingLabels{batchv1.JobNameLabel: s.job.Name}
	if s.jobUID != "" {
		labels = client.MatchingLabels{batchv1.ControllerUidLabel: string(s.jobUID)}
	}
	pods := &metav1.PartialObjectMetadataList{}
	pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	err = l.live.List(ctx, pods, client.InNamespace(s.job.Namespace), labels, client.MatchingFieldsSelector{Selector: kube.UnfinishedPods}, client.Limit(1))
	if err != nil {
		return false, fmt.Errorf("listing the pods of Job %s: %w", s.job.NamespacedName, err)
	}
	return len(pods.Items) == 0, nil
}
