package dispatch

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
	// pageSize is how many objects a list asks for at once.
	pageSize = 500
)

// restart is what has to be known before anything is admitted.
type restart struct {
	// synced means that everything that holds a slot is known.
	synced bool
	// unreported are the TenantJobs that were not reconciled since the restart. Nobody is admitted before all were, or the
	// first ones would not wait for their turn; or until the time reportsUntil. Reports are those that were reconciled before
	// it was synced.
	unreported, reports map[types.UID]struct{}
	reportsUntil        time.Time
	// holdsBack is why nothing is admitted. Empty means that it is.
	holdsBack string
}

func newRestart() restart {
	return restart{unreported: map[types.UID]struct{}{}, reports: map[types.UID]struct{}{}}
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

// sync finds what holds a slot, from the API server and not from the caches, which may be behind what an earlier leader
// did. From then on TenantJobs are admitted.
func (l *loop) sync(ctx context.Context) error {
	if err := errors.Join(l.findJobs(ctx), l.findPods(ctx)); err != nil {
		log.FromContext(ctx).Error(err, "Finding out what runs")
		return err
	}
	defer l.lock()()
	for _, tj := range l.tenantJobs.All() {
		if _, reported := l.reports[tj.UID]; !reported && !job.IsOver(tj) && l.slot(tj.UID) == nil {
			l.unreported[tj.UID] = struct{}{}
		}
	}
	l.reportsUntil = l.clock.Now().Add(reportsWithin)
	l.synced = true
	clear(l.reports)
	l.Dispatcher.log.V(2).Info("Found out what runs", "slots", len(l.slotsByUID), "unreported", len(l.unreported))
	l.admit()
	return nil
}

// findJobs takes slots for the Jobs of which the watch has not told yet.
func (l *loop) findJobs(ctx context.Context) error {
	return l.find(ctx, "JobList", batchv1.SchemeGroupVersion, func(j *metav1.PartialObjectMetadata) {
		owner := metav1.GetControllerOf(j)
		if owner == nil || owner.Kind != "TenantJob" {
			return
		}
		// The cache is ahead of its event handlers: that it has a live Job does not mean that jobChanged was called for it.
		if known := l.cachedJob(kube.KeyOf(j), j.UID); known == nil || job.IsLive(known) {
			l.addUntracked(jobFrom(j, kube.KeyOf(j), owner.UID), j.UID, j.CreationTimestamp.Time)
		}
	})
}

// findPods takes slots for the pods that have not ended and whose Job is gone.
func (l *loop) findPods(ctx context.Context) error {
	return l.find(ctx, "PodList", corev1.SchemeGroupVersion, func(pod *metav1.PartialObjectMetadata) {
		owner := metav1.GetControllerOf(pod)
		if owner == nil || owner.Kind != "Job" {
			return
		}
		key := types.NamespacedName{Namespace: pod.Namespace, Name: owner.Name}
		if l.cachedJob(key, owner.UID) == nil {
			// Nobody knows the UID of its TenantJob any more.
			l.addUntracked(jobFrom(pod, key, owner.UID), owner.UID, pod.CreationTimestamp.Time)
		}
	}, client.MatchingFieldsSelector{Selector: kube.UnfinishedPods})
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

// cachedJob is this very Job as the cache has it. Nil means that the cache does not have it.
func (l *loop) cachedJob(key types.NamespacedName, uid types.UID) *batchv1.Job {
	if known := l.jobs.Get(key); known != nil && known.UID == uid {
		return known
	}
	return nil
}

// addUntracked takes a slot for a Job of which the watch has not told.
func (d *Dispatcher) addUntracked(j queue.Job, jobUID types.UID, made time.Time) {
	defer d.lock()()
	if d.slot(j.UID) != nil {
		return
	}
	for _, s := range d.slotsByUID {
		if s.jobUID == jobUID {
			return
		}
	}
	d.state.Run(j, roundUp(made))
	d.slotsByUID[j.UID] = &slot{job: holderOf(j), untracked: true, jobUID: jobUID}
}

// releaseGone releases the untracked slots of which neither a Job nor a pod is left.
func (l *loop) releaseGone(ctx context.Context) {
	for uid, s := range l.untracked() {
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
	for uid, s := range d.slotsByUID {
		if s.untracked && !s.starting && d.clock.Now().Sub(s.endedAt) >= outcomeWithin {
			all[uid] = *s
		}
	}
	return all
}

// releaseUntracked gives an untracked slot to the next.
func (d *Dispatcher) releaseUntracked(uid types.UID) {
	defer d.lock()()
	if s := d.slot(uid); s != nil && s.untracked && !s.starting {
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
		return !job.IsLive(existing), nil
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
