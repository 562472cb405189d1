// Package tenants is the controller of Tenants: it makes and keeps their namespaces, suspends and resumes them, and takes
// them down.
package tenants

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/tenant"
)

// Its own kind. `update` on the finalizers is what an owner reference that blocks deletion needs.
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenants,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenants/status,verbs=patch
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenants/finalizers,verbs=update
// A template says whose members may dispatch it; a tenant's TenantJobs go before its namespace does.
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantjobtemplates,verbs=get;list;watch
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantjobs,verbs=get;list;watch;deletecollection
// Tenants' namespaces: made, applied, adopted, released and deleted.
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch;create;patch;delete
// What is in them. Never watched; listed, compared and put back.
// +kubebuilder:rbac:groups="",resources=serviceaccounts;resourcequotas;limitranges,verbs=list;create;update;delete
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=list;create;update;delete
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=rolebindings,verbs=list;create;update;delete
// The roles that it hands out, and no others: without the names this would be a step from any right there is.
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=clusterroles,verbs=bind,resourceNames=tenantry-tenant-viewer;tenantry-tenant-dispatcher;tenantry-tenant-operator
// Jobs of all tenants are watched. Deleting Jobs and pods, and listing pods, is granted by the role binding in each
// tenant's namespace.
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

const (
	// PollInterval is after how long the pods, TenantJobs or unlabelled namespaces that are waited for are looked at again:
	// they are not watched.
	PollInterval = 2 * time.Second
	// lookForConsent is how often a namespace is looked at whose adoption nobody has consented to.
	lookForConsent = 10 * time.Second
	// lookSeldom is for what is watched, in case that it isn't: a namespace whose label somebody took off.
	lookSeldom = time.Minute
)

// Reconciler reconciles Tenants.
type Reconciler struct {
	kube.Client
	Clock clock.WithTicker
	// OperatorNamespace is the operator's own. It is never a tenant's.
	OperatorNamespace string
	// DefaultEnforcement is for Tenants that name none.
	DefaultEnforcement v1alpha1.Enforcement
	// VerifyInterval is the time from the verification of one tenant's namespace to that of the next.
	VerifyInterval time.Duration
	Dispatcher     Dispatcher
	// Forget is called with the name of each Tenant that is deleted.
	Forget func(name string)

	tenants kube.Lister[*v1alpha1.Tenant]
	jobs    kube.JobLister
	// due are the names of Tenants whose namespace is to be compared with the spec object by object.
	due sync.Map
	// counts are those that wait for their count of running jobs to be brought up to date.
	counts countLine
	// requests are for Tenants to be reconciled though nothing about them has changed.
	requests chan event.GenericEvent
}

// Dispatcher starts the tenants' TenantJobs.
type Dispatcher interface {
	// LockTenant keeps a tenant from starting anything, and waits for its starts under way.
	LockTenant(tenant string)
	// UnlockTenant lets a tenant start again.
	UnlockTenant(tenant string)
	// Rushing says whether so many TenantJobs start now that all other writes had better wait.
	Rushing() bool
}

// seen is everything that is known about a Tenant when it is decided about.
type seen struct {
	// namespace that the Tenant names, as it was read or last written. Nil when there is none.
	namespace *metav1.PartialObjectMetadata
	claim     tenant.Claim
	// refusal is why the namespace can't be the Tenant's.
	refusal string
	desired tenant.Desired
	// live are the tenant's Jobs that have not ended, as far as the cache knows.
	live []*batchv1.Job
	// verify asks for a look at everything that is not watched.
	verify bool
}

// Reconcile brings one Tenant a step further.
func (r *Reconciler) Reconcile(ctx context.Context, t *v1alpha1.Tenant) (reconcile.Result, error) {
	if proceed, err := r.hold(ctx, t); err != nil || !proceed {
		return kube.RetryConflict(err)
	}
	base := t.DeepCopy()
	after, err := time.Duration(0), error(nil)
	gone := false
	s, err := r.observe(ctx, t)
	switch {
	case err != nil:
	case t.DeletionTimestamp != nil:
		gone, after, err = r.dismantle(ctx, t, &s)
	default:
		after, err = r.keep(ctx, t, &s)
	}
	if gone {
		return kube.RetryConflict(r.letGo(ctx, t))
	}
	if apierrors.IsForbidden(err) {
		r.due.Store(t.Name, true) // Somebody may have taken the operator's rights in the namespace away.
	}
	recordFailure(t, err)
	t.Status.ObservedGeneration = t.Generation
	if statusErr := r.PatchStatus(ctx, t, base); statusErr != nil {
		return kube.RetryConflict(errors.Join(err, statusErr))
	}
	r.announce(base, t)
	if apierrors.IsConflict(err) {
		return kube.RetryConflict(err)
	}
	return reconcile.Result{RequeueAfter: after}, err
}

// observe gathers everything that the decision about a Tenant needs.
func (r *Reconciler) observe(ctx context.Context, t *v1alpha1.Tenant) (seen, error) {
	s := seen{}
	_, s.verify = r.due.LoadAndDelete(t.Name)
	var err error
	if s.namespace, err = r.namespace(ctx, t.NamespaceName()); err != nil {
		return s, err
	}
	lives := func(name string) bool {
		return r.Get(ctx, types.NamespacedName{Name: name}, &v1alpha1.Tenant{}) == nil
	}
	s.claim, s.refusal = tenant.ClaimOn(s.namespace, t, r.OperatorNamespace, lives)
	var templates v1alpha1.TenantJobTemplateList
	if err := r.List(ctx, &templates, client.UnsafeDisableDeepCopy); err != nil {
		return s, fmt.Errorf("listing TenantJobTemplates: %w", err)
	}
	s.desired = tenant.Desire(t, tenant.Settings{
		OperatorNamespace:  r.OperatorNamespace,
		DefaultEnforcement: r.DefaultEnforcement,
		Adopted:            tenant.IsAdopted(s.namespace, t),
		MemberTemplates:    tenant.MemberTemplates(t, templates.Items),
	})
	s.live = liveJobsOf(r.jobs.In(t.NamespaceName()), t)
	return s, nil
}

// namespace reads a namespace's metadata. One that is not in the cache may exist without our label, or be too new.
func (r *Reconciler) namespace(ctx context.Context, name string) (*metav1.PartialObjectMetadata, error) {
	key := types.NamespacedName{Name: name}
	namespace, err := kube.Find(ctx, r.Client, key, kube.NamespaceMetadata(name))
	if namespace != nil || err != nil {
		return namespace, err
	}
	return kube.Find(ctx, r.Live, key, kube.NamespaceMetadata(name))
}

// keep brings the namespace of a Tenant that stays to what the spec says, and suspends or resumes it.
func (r *Reconciler) keep(ctx context.Context, t *v1alpha1.Tenant, s *seen) (time.Duration, error) {
	t.Status.Running = new(int32(len(s.live)))
	switch s.claim {
	case tenant.Conflict, tenant.Terminating:
		t.Status.Namespace, t.Status.State = nil, ""
		r.withoutNamespace(t)
		if s.claim == tenant.Terminating {
			recordReady(t, metav1.ConditionFalse, conditions.Reconciling, v1alpha1.ReasonNamespaceTerminating, s.refusal)
			return PollInterval, nil
		}
		recordReady(t, metav1.ConditionFalse, conditions.Stalled, v1alpha1.ReasonNamespaceConflict, s.refusal)
		return lookForConsent, nil
	}
	if err := r.take(ctx, t, s); err != nil {
		return 0, err
	}
	t.Status.Namespace = &v1alpha1.TenantNamespaceStatus{Name: s.namespace.Name, UID: s.namespace.UID}
	t.Status.State = tenant.State(t)
	furnishErr := r.furnish(ctx, t, s)
	after, err := r.suspendOrResume(ctx, t, s)
	return after, errors.Join(furnishErr, err)
}

// hold puts the finalizer on a Tenant, before anything is made for it. It says whether there is anything to do: a cache
// that is behind would have what was released taken again, and nobody left to release it.
func (r *Reconciler) hold(ctx context.Context, t *v1alpha1.Tenant) (bool, error) {
	base := t.DeepCopy()
	switch {
	case t.DeletionTimestamp != nil:
		now, err := kube.Find(ctx, r.Live, kube.KeyOf(t), &v1alpha1.Tenant{})
		return now != nil && now.UID == t.UID && controllerutil.ContainsFinalizer(now, v1alpha1.FinalizerTenant), err
	case controllerutil.ContainsFinalizer(t, v1alpha1.FinalizerTenant):
		return true, nil
	}
	controllerutil.AddFinalizer(t, v1alpha1.FinalizerTenant)
	return true, r.patchFinalizers(ctx, t, base)
}

// letGo takes the finalizer off a Tenant that nothing is left of.
func (r *Reconciler) letGo(ctx context.Context, t *v1alpha1.Tenant) error {
	base := t.DeepCopy()
	controllerutil.RemoveFinalizer(t, v1alpha1.FinalizerTenant)
	if err := client.IgnoreNotFound(r.patchFinalizers(ctx, t, base)); err != nil {
		return err
	}
	r.Dispatcher.UnlockTenant(t.Name)
	return nil
}

func (r *Reconciler) patchFinalizers(ctx context.Context, t, base *v1alpha1.Tenant) error {
	patch := client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})
	if err := r.Patch(ctx, t, patch, client.FieldOwner(kube.FieldManager)); err != nil {
		return fmt.Errorf("writing the finalizers of Tenant %s: %w", t.Name, err)
	}
	return nil
}

// recordReady sets Ready and what goes with it.
func recordReady(t *v1alpha1.Tenant, status metav1.ConditionStatus, p conditions.Progress, reason, message string) {
	conditions.Of(&t.Status.Conditions, t.Generation).Set(v1alpha1.ConditionReady, status, reason, message)
	conditions.Of(&t.Status.Conditions, t.Generation).SetProgress(p, reason, message)
}

// recordFailure says what is being retried, unless the conditions say what a person has to do. A Tenant that was ready
// stays so: one failed request does not change what is there.
func recordFailure(t *v1alpha1.Tenant, err error) {
	var user *userError
	if err == nil || apierrors.IsConflict(err) || errors.As(err, &user) {
		return
	}
	message := fmt.Sprintf("retrying: %v", err)
	if ready := conditions.Ready(t.Status.Conditions); ready.Status == "" || ready.ObservedGeneration != t.Generation {
		recordReady(t, metav1.ConditionUnknown, conditions.Reconciling, v1alpha1.ReasonProgressing, message)
		return
	}
	conditions.Of(&t.Status.Conditions, t.Generation).SetProgress(conditions.Reconciling, v1alpha1.ReasonProgressing, message)
}

// announce emits an event when a Tenant has changed its standing.
func (r *Reconciler) announce(before, after *v1alpha1.Tenant) {
	was, is := before.Status.Conditions, after.Status.Conditions
	ready := meta.FindStatusCondition(is, v1alpha1.ConditionReady)
	if ready != nil && ready.Status == metav1.ConditionFalse && anew(was, ready) &&
		(ready.Reason == v1alpha1.ReasonNamespaceConflict || ready.Reason == v1alpha1.ReasonInvalidSpec) {
		r.Warn(after, ready.Reason, "Reconcile", ready.Message)
	}
	suspended := meta.FindStatusCondition(is, v1alpha1.ConditionSuspended)
	switch {
	case suspended == nil || !anew(was, suspended):
	case suspended.Status == metav1.ConditionTrue:
		r.Note(after, "Suspended", "Suspend", suspended.Message)
	case suspended.Status == metav1.ConditionFalse && meta.FindStatusCondition(was, v1alpha1.ConditionSuspended) != nil:
		r.Note(after, "Resumed", "Resume", suspended.Message)
	}
}

// anew says whether a condition has another reason than before.
func anew(before []metav1.Condition, is *metav1.Condition) bool {
	was := meta.FindStatusCondition(before, is.Type)
	return was == nil || was.Reason != is.Reason
}
