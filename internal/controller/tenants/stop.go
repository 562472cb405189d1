package tenants

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/tenant"
)

// suspendOrResume opens or shuts the tenant's door. The namespace says so already: that is the fence, and comes first.
func (r *Reconciler) suspendOrResume(ctx context.Context, t *v1alpha1.Tenant, s *seen) (time.Duration, error) {
	if !t.Suspended() {
		r.Dispatcher.UnlockTenant(t.Name)
		setSuspended(t, metav1.ConditionFalse, v1alpha1.ReasonActive, "jobs may run")
		return 0, nil
	}
	r.Dispatcher.LockTenant(t.Name)
	said := meta.FindStatusCondition(t.Status.Conditions, v1alpha1.ConditionSuspended)
	settled := said != nil && said.Status == metav1.ConditionTrue && said.ObservedGeneration == t.Generation
	if settled && len(s.live) == 0 && !s.verify {
		return 0, nil
	}
	wait, after, err := r.stop(ctx, t, s, t.Spec.SuspendPolicy == v1alpha1.SuspendPolicyDrain)
	switch {
	case err != nil && !settled:
		setSuspended(t, metav1.ConditionUnknown, v1alpha1.ReasonStoppingJobs, "finding out what still runs")
	case err == nil && wait.Over():
		setSuspended(t, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "no pod and no live credential is left")
	case err == nil:
		setSuspended(t, metav1.ConditionUnknown, wait.Reason, wait.Message)
		if conditions.Ready(t.Status.Conditions).Status == metav1.ConditionTrue {
			conditions.Of(&t.Status.Conditions, t.Generation).SetProgress(conditions.Reconciling, wait.Reason, wait.Message)
		}
	}
	return after, err
}

// withoutNamespace is how a tenant stands that has no namespace in which anything could run.
func (r *Reconciler) withoutNamespace(t *v1alpha1.Tenant) {
	r.Dispatcher.LockTenant(t.Name)
	if t.Suspended() {
		setSuspended(t, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "no pod and no live credential is left")
	} else {
		setSuspended(t, metav1.ConditionFalse, v1alpha1.ReasonActive, "jobs may run as soon as the tenant has its namespace")
	}
}

func setSuspended(t *v1alpha1.Tenant, status metav1.ConditionStatus, reason, message string) {
	conditions.Of(&t.Status.Conditions, t.Generation).Set(v1alpha1.ConditionSuspended, status, reason, message)
}

// stop brings a tenant to rest, whose namespace says so and whose door is shut: first its Jobs, which the TenantJob
// controller stops or lets finish, then what is left of their pods, then its credentials. It says what it waits for, and
// when to look again if no event comes: Jobs are watched, pods are not.
func (r *Reconciler) stop(
	ctx context.Context, t *v1alpha1.Tenant, s *seen, drain bool,
) (wait tenant.Wait, after time.Duration, err error) {
	live := s.live
	if len(live) == 0 {
		// The cache may be behind; what it does not know of must not be taken for gone.
		if live, err = r.readLiveJobs(ctx, t); err != nil {
			return wait, 0, err
		}
	}
	if wait = tenant.WaitForJobs(live, drain); !wait.Over() {
		return wait, lookSeldom, r.deleteOrphans(ctx, live)
	}
	var pods corev1.PodList
	within := []client.ListOption{client.InNamespace(s.namespace.Name), client.MatchingFieldsSelector{Selector: kube.UnfinishedPods}}
	if tenant.EnforcementOf(t, r.DefaultEnforcement) != v1alpha1.EnforcementEnforce {
		within = append(within, client.MatchingLabels{v1alpha1.LabelTenant: t.Name})
	}
	if err := r.Live.List(ctx, &pods, within...); err != nil {
		return wait, 0, fmt.Errorf("listing the pods of tenant %s: %w", t.Name, err)
	}
	wait, stragglers := tenant.WaitForPods(pods.Items, drain)
	for _, pod := range stragglers {
		if err := r.DeleteExact(ctx, pod, metav1.DeletePropagationBackground); err != nil {
			return wait, 0, err
		}
	}
	if !wait.Over() {
		return wait, PollInterval, nil
	}
	return r.revokeCredentials(ctx, t)
}

// revokeCredentials is the last step before a tenant is at rest. No provider issues any yet.
func (*Reconciler) revokeCredentials(
	context.Context, *v1alpha1.Tenant,
) (wait tenant.Wait, after time.Duration, err error) {
	return wait, 0, nil
}

// deleteOrphans deletes the Jobs that no TenantJob stands behind, so that nobody else stops them.
func (r *Reconciler) deleteOrphans(ctx context.Context, jobs []*batchv1.Job) error {
	for _, j := range jobs {
		if j.DeletionTimestamp != nil {
			continue
		}
		if owner := metav1.GetControllerOf(j); owner != nil && owner.Kind == "TenantJob" {
			lives, err := r.lives(ctx, types.NamespacedName{Namespace: j.Namespace, Name: owner.Name}, owner.UID)
			if err != nil {
				return err
			}
			if lives {
				continue
			}
		}
		if err := r.DeleteExact(ctx, j, metav1.DeletePropagationForeground); err != nil {
			return err
		}
	}
	return nil
}

// lives says whether there is such a TenantJob. Only the API server knows that there is none.
func (r *Reconciler) lives(ctx context.Context, key types.NamespacedName, uid types.UID) (bool, error) {
	for _, reader := range []client.Reader{r.Client, r.Live} {
		if tj, err := kube.Find(ctx, reader, key, &v1alpha1.TenantJob{}); err != nil || tj != nil && tj.UID == uid {
			return err == nil, err
		}
	}
	return false, nil
}

// readLiveJobs returns the tenant's Jobs that have not ended, as the API server has them.
func (r *Reconciler) readLiveJobs(ctx context.Context, t *v1alpha1.Tenant) ([]*batchv1.Job, error) {
	var jobs batchv1.JobList
	err := r.Live.List(ctx, &jobs, client.InNamespace(t.NamespaceName()), client.MatchingLabels{v1alpha1.LabelTenant: t.Name})
	if err != nil {
		return nil, fmt.Errorf("listing the Jobs of tenant %s: %w", t.Name, err)
	}
	all := make([]*batchv1.Job, 0, len(jobs.Items))
	for i := range jobs.Items {
		all = append(all, &jobs.Items[i])
	}
	return liveJobsOf(all, t), nil
}

// liveJobsOf returns those of some Jobs that are the tenant's and have not ended.
func liveJobsOf(jobs []*batchv1.Job, t *v1alpha1.Tenant) []*batchv1.Job {
	var live []*batchv1.Job
	for _, j := range jobs {
		if j.Labels[v1alpha1.LabelTenant] == t.Name && job.IsLive(j) {
			live = append(live, j)
		}
	}
	return live
}

// dismantle takes down a Tenant that is being deleted, and says when nothing of it is left. A namespace that is not its
// own is left alone.
func (r *Reconciler) dismantle(
	ctx context.Context, t *v1alpha1.Tenant, s *seen,
) (gone bool, after time.Duration, err error) {
	r.Dispatcher.LockTenant(t.Name)
	t.Status.Running = new(int32(len(s.live)))
	if s.claim != tenant.Ours {
		return true, 0, nil
	}
	if err := r.take(ctx, t, s); err != nil {
		return false, 0, err
	}
	t.Status.State = v1alpha1.StateDeleting
	// Once it is terminating the namespace controller does the rest, and our rights in it are gone.
	if s.namespace.DeletionTimestamp == nil {
		wait, after, err := r.empty(ctx, t, s)
		switch {
		case err != nil:
			return false, 0, err
		case !wait.Over():
			recordReady(t, metav1.ConditionFalse, conditions.Reconciling, wait.Reason, wait.Message)
			return false, after, nil
		case tenant.Retains(s.namespace, t):
			err := r.release(ctx, t, s)
			return err == nil, 0, err
		}
		if err := r.DeleteExact(ctx, s.namespace, metav1.DeletePropagationBackground); err != nil {
			return false, 0, err
		}
		r.Note(t, v1alpha1.ReasonDeletingNamespace, "Delete", fmt.Sprintf("namespace %s is being deleted", s.namespace.Name))
	}
	last, err := r.reread(ctx, s.namespace)
	if err != nil || last == nil {
		return err == nil, 0, err
	}
	wait := tenant.WaitForNamespace(last)
	recordReady(t, metav1.ConditionFalse, conditions.Reconciling, wait.Reason, wait.Message)
	return false, lookSeldom, nil
}

// empty brings a tenant to rest and deletes its TenantJobs, while the operator still has its rights in the namespace:
// they are given again if they are gone.
func (r *Reconciler) empty(
	ctx context.Context, t *v1alpha1.Tenant, s *seen,
) (wait tenant.Wait, after time.Duration, err error) {
	if _, err := r.fill(ctx, s); err != nil {
		return wait, 0, err
	}
	if wait, after, err := r.stop(ctx, t, s, false); err != nil || !wait.Over() {
		return wait, after, err
	}
	namespace := client.InNamespace(s.namespace.Name)
	var tenantJobs v1alpha1.TenantJobList
	if err := r.List(ctx, &tenantJobs, namespace, client.UnsafeDisableDeepCopy); err != nil {
		return wait, 0, fmt.Errorf("listing the TenantJobs of tenant %s: %w", t.Name, err)
	}
	wait, doomed := tenant.WaitForTenantJobs(tenantJobs.Items, job.IsOver)
	if doomed {
		// Their Jobs and pods go first.
		foreground := client.PropagationPolicy(metav1.DeletePropagationForeground)
		if err := r.DeleteAllOf(ctx, &v1alpha1.TenantJob{}, namespace, foreground); err != nil {
			return wait, 0, fmt.Errorf("deleting the TenantJobs of tenant %s: %w", t.Name, err)
		}
	}
	return wait, PollInterval, nil
}

// reread returns a namespace with its status. Nil means that it is gone.
func (r *Reconciler) reread(ctx context.Context, namespace *metav1.PartialObjectMetadata) (*corev1.Namespace, error) {
	now, err := kube.Find(ctx, r.Live, types.NamespacedName{Name: namespace.Name}, &corev1.Namespace{})
	if now == nil || err != nil || now.UID != namespace.UID {
		return nil, err
	}
	return now, nil
}
