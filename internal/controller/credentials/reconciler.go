// Package credentials is the controller of CredentialProviders: it finds out whether one can issue credentials, and tells the Issuer.
package credentials

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/issuer"
	"github.com/tenantry/tenantry/internal/kube"
)

// +kubebuilder:rbac:groups=tenantry.dev,resources=credentialproviders,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=tenantry.dev,resources=credentialproviders/status,verbs=patch
// The Secrets that providers name are in the operator's own namespace. They are read when they are needed, and never listed or watched.
// +kubebuilder:rbac:groups="",namespace=tenantry-system,resources=secrets,verbs=get

const (
	// checkInterval is how often a provider that is Ready is tried again.
	checkInterval = 5 * time.Minute
	// secretInterval is how often the Secrets of a provider are read, so that a password that was changed is used soon.
	secretInterval = 30 * time.Second
	// retryInterval is after which time a provider that is not Ready is tried again.
	retryInterval = 15 * time.Second
	// revokeInterval is how often a provider that is being deleted is asked what is left.
	revokeInterval = 2 * time.Second
	// checkTimeout bounds a round of issue, log in and revoke.
	checkTimeout = 30 * time.Second
)

// Issuer is what the controller tells of providers.
type Issuer interface {
	SetSource(to issuer.Source)
	RemoveSource(name string)
	RevokeSource(ctx context.Context, name string) (left []string, err error)
	SendProviderRequests(enqueue func(name string))
}

// Reconciler reconciles CredentialProviders.
type Reconciler struct {
	kube.Client
	Clock clock.PassiveClock
	// OperatorNamespace is where the Secrets are that providers name.
	OperatorNamespace string
	// Kinds are the kinds of providers that there are.
	Kinds  credential.Kinds
	Issuer Issuer

	mu        sync.Mutex
	instances map[string]*instance
}

// SetupWithManager adds the controller to a manager.
func (r *Reconciler) SetupWithManager(mgr manager.Manager, opts controller.Options) error {
	r.instances = map[string]*instance{}
	requested := source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		r.Issuer.SendProviderRequests(func(name string) {
			r.expire(name)
			queue.Add(reconcile.Request{NamespacedName: types.NamespacedName{Name: name}})
		})
		return nil
	})
	return builder.ControllerManagedBy(mgr).
		Named("credentialprovider").
		For(&v1alpha1.CredentialProvider{}, builder.WithPredicates(predicate.GenerationChangedPredicate{}, kube.OnDelete(r.forget, false))).
		WatchesRawSource(requested).
		WithOptions(opts).
		Complete(kube.BackOff(reconcile.AsReconciler(r.Client.Client, r)))
}

// outcome is what was found out about a provider.
type outcome struct {
	status  metav1.ConditionStatus
	reason  string
	message string
	after   time.Duration
	// mayPass means that it could not be tried, for a reason that may pass: its server answers, or was not asked.
	mayPass bool
}

// Reconcile finds out whether a provider can issue credentials, tells the Issuer, and writes the answer into its status.
func (r *Reconciler) Reconcile(ctx context.Context, provider *v1alpha1.CredentialProvider) (reconcile.Result, error) {
	if provider.DeletionTimestamp != nil {
		return r.reconcileDeleted(ctx, provider)
	}
	kind, known := r.Kinds.Of(provider.Spec)
	if !known { // A newer version's, or one that this operator was built without.
		return r.report(ctx, provider, outcome{metav1.ConditionFalse, v1alpha1.ReasonInvalidSpec, "this operator has no provider of this kind", 0, false})
	}
	i, o := r.instance(ctx, provider, kind)
	if o.status == metav1.ConditionTrue && kind.Capabilities(provider.Spec).PerRun {
		// What it issues from now on has to be revoked before it goes. One that was never Ready goes at once.
		if err := r.protect(ctx, provider); err != nil {
			return kube.RetryConflict(err)
		}
	}
	blocked := ""
	if o.status != metav1.ConditionTrue {
		blocked = o.message
	}
	r.Issuer.SetSource(sourceOf(provider, kind, i, blocked))
	return r.report(ctx, provider, o)
}

// sourceOf is what the Issuer has to know of a provider. The instance is nil when it can't be made.
func sourceOf(provider *v1alpha1.CredentialProvider, kind credential.Kind, i *instance, blocked string) issuer.Source {
	s := issuer.Source{Name: provider.Name, UID: provider.UID, Capabilities: kind.Capabilities(provider.Spec), Refuses: kind.Refuses, Blocked: blocked}
	if i != nil {
		s.Provider = i.provider
	}
	return s
}

// protect puts the finalizer on a provider.
func (r *Reconciler) protect(ctx context.Context, provider *v1alpha1.CredentialProvider) error {
	base := provider.DeepCopy()
	if !controllerutil.AddFinalizer(provider, v1alpha1.FinalizerCredentials) {
		return nil
	}
	patch := client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})
	if err := r.Patch(ctx, provider, patch, client.FieldOwner(kube.FieldManager)); err != nil {
		return fmt.Errorf("adding the finalizer to CredentialProvider %s: %w", provider.Name, err)
	}
	return nil
}

// forget forgets a provider that is gone.
func (r *Reconciler) forget(name string) {
	r.close(name)
	r.Issuer.RemoveSource(name)
}

// report writes what was found out into the status.
func (r *Reconciler) report(ctx context.Context, provider *v1alpha1.CredentialProvider, o outcome) (reconcile.Result, error) {
	base := provider.DeepCopy()
	progress := conditions.Stalled
	switch o.status {
	case metav1.ConditionTrue:
		progress = conditions.Current
	case metav1.ConditionUnknown:
		progress = conditions.Reconciling
	}
	provider.Status.ObservedGeneration = provider.Generation
	set := conditions.Of(&provider.Status.Conditions, provider.Generation)
	set.Set(v1alpha1.ConditionReady, o.status, o.reason, o.message)
	set.SetProgress(progress, o.reason, o.message)
	if err := r.PatchStatus(ctx, provider, base); err != nil {
		return kube.RetryConflict(err)
	}
	if conditions.Get(base.Status.Conditions, v1alpha1.ConditionReady).Reason != o.reason {
		log.FromContext(ctx).V(2).Info("Tried a provider", "credentialProvider", klog.KObj(provider), "reason", o.reason)
		if o.status == metav1.ConditionFalse && provider.DeletionTimestamp == nil {
			r.Warn(provider, o.reason, "Check", o.message)
		}
	}
	return reconcile.Result{RequeueAfter: o.after}, nil
}

// reconcileDeleted waits until the credentials of a provider that is being deleted are revoked.
func (r *Reconciler) reconcileDeleted(ctx context.Context, provider *v1alpha1.CredentialProvider) (reconcile.Result, error) {
	if !controllerutil.ContainsFinalizer(provider, v1alpha1.FinalizerCredentials) {
		return reconcile.Result{}, nil
	}
	if message, after := r.revokeAll(ctx, provider); message != "" {
		return r.report(ctx, provider, outcome{metav1.ConditionFalse, v1alpha1.ReasonRevokingCredentials, message, after, false})
	}
	base := provider.DeepCopy()
	controllerutil.RemoveFinalizer(provider, v1alpha1.FinalizerCredentials)
	patch := client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})
	if err := r.Patch(ctx, provider, patch, client.FieldOwner(kube.FieldManager)); err != nil {
		return kube.RetryConflict(fmt.Errorf("removing the finalizer of CredentialProvider %s: %w", provider.Name, err))
	}
	return reconcile.Result{}, nil
}

// revokeAll has the credentials of a provider revoked whose runs are over, and returns what its deletion waits for, and when to look
// again. The message is empty when none is left.
func (r *Reconciler) revokeAll(ctx context.Context, provider *v1alpha1.CredentialProvider) (message string, after time.Duration) {
	const cannot = "its credentials can't be revoked: "
	if kind, known := r.Kinds.Of(provider.Spec); known {
		i, o := r.open(ctx, provider, kind)
		if i == nil {
			return cannot + o.message, retryInterval
		}
		r.Issuer.SetSource(sourceOf(provider, kind, i, "it is being deleted"))
	}
	left, err := r.Issuer.RevokeSource(ctx, provider.Name)
	switch {
	case err != nil:
		return cannot + credential.MessageOf(err), retryInterval
	case len(left) > 0:
		return "waiting until the credentials of these TenantJobs are revoked: " + conditions.FirstOf(left), revokeInterval
	}
	return "", 0
}

// readSecret reads a Secret in the operator's namespace.
func (r *Reconciler) readSecret(ctx context.Context, name string) (credential.Secret, error) {
	key := types.NamespacedName{Namespace: r.OperatorNamespace, Name: name}
	s, err := kube.Find(ctx, r.Live, key, &corev1.Secret{})
	switch {
	case err != nil:
		return credential.Secret{}, err
	case s == nil:
		return credential.Secret{}, credential.Errorf(v1alpha1.ReasonSecretNotFound, "there is no Secret %s in namespace %s: create it", name, r.OperatorNamespace)
	}
	return credential.Secret{UID: s.UID, ResourceVersion: s.ResourceVersion, Labels: s.Labels, Type: string(s.Type), Values: s.Data}, nil
}
