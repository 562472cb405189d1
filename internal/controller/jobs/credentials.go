package jobs

import (
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/issuer"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
)

// The Secrets with the credentials of runs are made under the RoleBinding that the operator has in each tenant's namespace.

// Credentials issues and revokes the credentials of runs. *issuer.Issuer implements it.
type Credentials interface {
	Check(tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate) *job.Credentials
	NeedsFinalizer(tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate) bool
	Issue(tj *v1alpha1.TenantJob, tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate)
	Standing(tj *v1alpha1.TenantJob) issuer.Standing
	Revoke(tj *v1alpha1.TenantJob)
	Release(tj *v1alpha1.TenantJob)
	Forget(tj *v1alpha1.TenantJob)
	SendRequests(enqueue func(types.NamespacedName), enqueueWaiting func())
}

// needsCredentials says whether the run of a TenantJob needs credentials.
func needsCredentials(o job.Observed) bool {
	return o.Template != nil && len(o.Template.Spec.Credentials) > 0
}

// issue has the credentials issued of a TenantJob that is next. First it gets the finalizer, so that they are revoked whatever happens.
func (r *Reconciler) issue(ctx context.Context, p *pass, labels map[string]string, issuingFor time.Duration, now time.Time) (job.Decision, error) {
	switch {
	case issuingFor > job.SettleAfter:
		return job.IssuingCredentials(), nil
	case issuingFor > 0:
		return job.Decision{RequeueAfter: job.SettleAfter}, nil
	}
	tj := p.TenantJob
	if r.Credentials.NeedsFinalizer(p.Tenant, p.Template) {
		wait, err := r.shares.Write(ctx, kube.KeyOf(tj), func(ctx context.Context) error { return r.protect(ctx, tj, labels) })
		switch {
		case wait > 0:
			return job.Decision{RequeueAfter: wait}, nil
		case err != nil:
			d := job.Queued(job.RefusedLabels(tj, kube.MessageOf(err)))
			d.Trouble, d.RequeueAfter = job.TenantsTrouble, job.RetryAfter(tj.CreationTimestamp.Time, now)
			r.Dispatcher.Wait(waitingFor(p.Observed, d))
			return d, ignoreRefusal(err)
		}
	}
	r.Credentials.Issue(tj, p.Tenant, p.Template)
	return job.Decision{RequeueAfter: job.SettleAfter}, nil
}

// protect puts the finalizer on a TenantJob, together with the labels that it lacks.
func (r *Reconciler) protect(ctx context.Context, tj *v1alpha1.TenantJob, labels map[string]string) error {
	if slices.Contains(tj.Finalizers, v1alpha1.FinalizerCredentials) {
		return nil
	}
	missing := missingOf(tj, labels)
	return r.editFinalizers(ctx, tj, func(tj *v1alpha1.TenantJob) {
		for key, value := range missing {
			metav1.SetMetaDataLabel(&tj.ObjectMeta, key, value)
		}
		controllerutil.AddFinalizer(tj, v1alpha1.FinalizerCredentials)
	})
}

// unprotect takes the finalizer off.
func (r *Reconciler) unprotect(ctx context.Context, tj *v1alpha1.TenantJob) error {
	return client.IgnoreNotFound(r.editFinalizers(ctx, tj, func(tj *v1alpha1.TenantJob) {
		controllerutil.RemoveFinalizer(tj, v1alpha1.FinalizerCredentials)
	}))
}

// editFinalizers patches a TenantJob as it is now: the cache may be behind, and has a limited number of finalizers, and a patch of the
// list has all of them.
func (r *Reconciler) editFinalizers(ctx context.Context, tj *v1alpha1.TenantJob, edit func(*v1alpha1.TenantJob)) error {
	base := tj
	if len(tj.Finalizers) >= kube.MaxFinalizers {
		base = &v1alpha1.TenantJob{}
		if err := r.Live.Get(ctx, kube.KeyOf(tj), base); err != nil {
			return fmt.Errorf("reading TenantJob %s: %w", kube.KeyOf(tj), err)
		}
	}
	edited := base.DeepCopy()
	edit(edited)
	patch := client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})
	if err := r.Patch(ctx, edited, patch, client.FieldOwner(kube.FieldManager)); err != nil {
		return fmt.Errorf("changing the finalizers of TenantJob %s: %w", kube.KeyOf(tj), err)
	}
	tj.Labels, tj.Finalizers, tj.ResourceVersion = edited.Labels, edited.Finalizers, edited.ResourceVersion
	return nil
}

// usesCredentials says whether the credentials of a TenantJob may be in use, or are about to be.
func (r *Reconciler) usesCredentials(p *pass) bool {
	tj := p.TenantJob
	switch {
	case job.IsOver(tj) || tj.DeletionTimestamp != nil:
		return p.Job != nil && !job.Ended(p.Job) || r.Dispatcher.Holding(tj.UID) // Its pods may not have ended.
	case p.Job != nil || p.Started || tj.Status.JobRef != nil:
		return true
	}
	return r.Dispatcher.HasSlot(tj.UID) // An uncertain start may have made its Job.
}

// releaseCredentials has the credentials revoked of a TenantJob that does not use them, and puts into its status what is known of
// them. Done means that none is left, wait that nothing tells when to look again.
func (r *Reconciler) releaseCredentials(p *pass) (done bool, wait time.Duration) {
	tj := p.TenantJob
	standing := r.Credentials.Standing(tj)
	protected := slices.Contains(tj.Finalizers, v1alpha1.FinalizerCredentials)
	if !standing.Known && !protected || isOlder(tj, standing.Released) {
		return false, 0
	}
	switch {
	case r.usesCredentials(p):
		if job.IsOver(tj) || tj.DeletionTimestamp != nil {
			wait = job.SettleAfter
		}
	case !standing.Revoked:
		r.Credentials.Revoke(tj)
	default:
		done = job.IsOver(tj) || tj.DeletionTimestamp != nil
	}
	recordCredentials(tj, standing, r.Clock.Now())
	if standing.Failure != "" && job.IsOver(tj) {
		recordRefused(tj, "its credentials can't be revoked: "+standing.Failure)
	}
	return done, wait
}

// recordCredentials puts into a status what is known of the credentials of its run.
func recordCredentials(tj *v1alpha1.TenantJob, s issuer.Standing, now time.Time) {
	if tj.Status.JobRef == nil && !job.IsOver(tj) {
		return // It costs a write, and they may be issued again.
	}
	all := &tj.Status.Credentials
	for _, status := range s.Statuses {
		if i := slices.IndexFunc(*all, func(c v1alpha1.CredentialStatus) bool { return c.Name == status.Name }); i >= 0 {
			(*all)[i] = status
		} else {
			*all = append(*all, status)
		}
	}
	if !s.Known || !s.Revoked {
		return
	}
	for i := range *all { // An earlier process has issued those of which the time is not known.
		if c := &(*all)[i]; c.RevocationTime == nil && c.ExpirationTime != nil {
			c.RevocationTime = new(metav1.NewTime(now).Rfc3339Copy())
		}
	}
}

// isOlder says whether a TenantJob is as it was before a version.
func isOlder(tj *v1alpha1.TenantJob, version string) bool {
	if version == "" {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(tj.ResourceVersion, version)
	return err == nil && order < 0
}

// forgetCredentials takes the finalizer off a TenantJob of which no credential is left, and then forgets them.
func (r *Reconciler) forgetCredentials(ctx context.Context, tj *v1alpha1.TenantJob) (wait time.Duration, err error) {
	if !slices.Contains(tj.Finalizers, v1alpha1.FinalizerCredentials) {
		r.Credentials.Forget(tj)
		return 0, nil
	}
	wait, err = r.shares.Write(ctx, kube.KeyOf(tj), func(ctx context.Context) error { return r.unprotect(ctx, tj) })
	if err == nil && wait == 0 {
		r.Credentials.Release(tj) // The watch brings it back without the finalizer.
		log.FromContext(ctx).V(2).Info("Revoked all credentials", "tenantJob", klog.KObj(tj))
	}
	return wait, err
}
