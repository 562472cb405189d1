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
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/queue"
)

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
		if s.lost && !s.inFlight && d.clock.Now().Sub(s.endedAt) >= outcomeWithin {
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
