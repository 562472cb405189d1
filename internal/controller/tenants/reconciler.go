// Package tenants is the controller of Tenants. It creates and keeps their namespaces, suspends and resumes them, and deletes
// what belongs to them when they are deleted. What to do is decided by package tenant.
package tenants

import (
	"context"
	"errors"
	"sync"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/tenant"
)

// Tenants themselves. An owner reference to a Tenant that blocks its deletion needs `update` on the finalizers.
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenants,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenants/status,verbs=patch
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenants/finalizers,verbs=update

// Reconciler reconciles Tenants.
type Reconciler struct {
	kube.Client
	Clock clock.WithTicker
	// OperatorNamespace is the namespace of the operator. It never becomes a tenant's.
	OperatorNamespace string
	// DefaultEnforcement is for Tenants that name none.
	DefaultEnforcement v1alpha1.Enforcement
	// DNSEgress are the egress rules by which the tenants' pods reach the cluster's DNS.
	DNSEgress []networkingv1.NetworkPolicyEgressRule
	// VerifyInterval is the time from the verification of one tenant's namespace to that of the next.
	VerifyInterval time.Duration
	Dispatcher     Dispatcher
	Credentials    Credentials
	Policies       Policies
	// Forget is called with the name of each Tenant that is deleted.
	Forget func(name string)

	tenants kube.Lister[*v1alpha1.Tenant]
	jobs    kube.JobLister
	// toVerify has the names of the Tenants that are verified when they are reconciled next.
	toVerify sync.Map
	// counts has the Tenants whose count of running Jobs may be out of date.
	counts countQueue
	// workloads are how many that are no runs were found in the namespaces of tenants.
	workloads struct {
		sync.Mutex
		byTenant map[string]int
	}
	// requests are for Tenants to be reconciled though nothing has changed that is watched.
	requests chan event.GenericEvent
}

// Policies knows whether the admission policies are in force.
type Policies interface {
	State() tenant.Policies
	// OnChange has a function called when it becomes known that they are in force, or that they are not.
	OnChange(func())
}

// Credentials revokes those of the tenants' runs, and makes and deletes the copies of Secrets that are the tenants' own.
type Credentials interface {
	// RevokeTenant returns the names of the TenantJobs of which credentials are not revoked yet.
	RevokeTenant(ctx context.Context, of *v1alpha1.Tenant) (left []string, err error)
	// ReplacedCopies returns the names of the copies that are not as their originals are now.
	ReplacedCopies(ctx context.Context, of *v1alpha1.Tenant) (names []string, err error)
	// DeleteCopies deletes those of some copies that no run has, and returns their names.
	DeleteCopies(ctx context.Context, of *v1alpha1.Tenant, copies []v1alpha1.CopiedSecret) (deleted []string, err error)
}

// Dispatcher starts the tenants' TenantJobs.
type Dispatcher interface {
	// LockTenant keeps a tenant's TenantJobs from starting, and waits for the starts under way.
	LockTenant(name string)
	// UnlockTenant lets a tenant's TenantJobs start again.
	UnlockTenant(name string)
	// Rushing says whether so many TenantJobs start now that other writes should wait.
	Rushing() bool
}

// Reconcile brings what belongs to one Tenant to what its spec says, or removes it. It writes the last decision to the status.
func (r *Reconciler) Reconcile(ctx context.Context, t *v1alpha1.Tenant) (reconcile.Result, error) {
	if exists, err := r.ensureFinalizer(ctx, t); err != nil || !exists {
		return r.finalizerFailed(ctx, t, err)
	}
	base := t.DeepCopy()
	d := r.decideAndAct(ctx, t)
	if d.Gone {
		return r.finalizerFailed(ctx, t, r.removeFinalizer(ctx, t))
	}
	record(t, d)
	if err := r.PatchStatus(ctx, t, base); err != nil {
		return kube.RetryConflict(errors.Join(err, d.Err)) // The first counts: the status would say what the second is.
	}
	r.announce(ctx, base, t)
	switch {
	case apierrors.IsConflict(d.Err):
		return kube.RetryConflict(d.Err)
	case d.Err != nil:
		return reconcile.Result{}, d.Err
	}
	return reconcile.Result{RequeueAfter: d.After}, nil
}

// finalizerFailed says in the status of a Tenant why its finalizer can't be written. A nil error means that nothing is to be said.
func (r *Reconciler) finalizerFailed(ctx context.Context, t *v1alpha1.Tenant, err error) (reconcile.Result, error) {
	if err == nil || apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return kube.RetryConflict(err)
	}
	base := t.DeepCopy()
	record(t, tenant.Decision{}.Failed(t, err))
	return reconcile.Result{}, errors.Join(err, r.PatchStatus(ctx, t, base))
}

// decideAndAct observes a Tenant, and carries out one action after another until there is nothing to do now. It returns the
// last decision.
func (r *Reconciler) decideAndAct(ctx context.Context, t *v1alpha1.Tenant) tenant.Decision {
	o, err := r.observe(ctx, t)
	if err != nil {
		return tenant.Decision{}.Failed(t, err)
	}
	t.Status.Databases = o.Databases
	d := tenant.Decide(o)
	for ; d.Action != tenant.ActionNone; d = tenant.Decide(o) {
		if err := actions[d.Action](r, ctx, &o); err != nil {
			d = d.Failed(t, err)
			break
		}
		o.Done = append(o.Done, d.Action)
	}
	if apierrors.IsForbidden(d.Err) {
		r.toVerify.Store(t.Name, true) // Somebody may have removed the operator's rights in the namespace.
	}
	return d
}

// actions has the method that carries out each action. A method adds what it has found out to what is observed.
var actions = map[tenant.Action]func(*Reconciler, context.Context, *tenant.Observed) error{
	tenant.ActionCreateNamespace: (*Reconciler).createNamespace,
	tenant.ActionListContents:    (*Reconciler).listContents,
	tenant.ActionApplyNamespace:  (*Reconciler).applyNamespace,
	tenant.ActionWriteContents:   (*Reconciler).writeContents,

	tenant.ActionUnlock:            (*Reconciler).unlock,
	tenant.ActionLock:              (*Reconciler).lock,
	tenant.ActionListJobs:          (*Reconciler).listJobs,
	tenant.ActionDeleteOrphans:     (*Reconciler).deleteOrphans,
	tenant.ActionListPods:          (*Reconciler).listPods,
	tenant.ActionDeletePods:        (*Reconciler).deletePods,
	tenant.ActionListHeld:          (*Reconciler).listHeld,
	tenant.ActionRevokeCredentials: (*Reconciler).revokeCredentials,
	tenant.ActionCheckCopies:       (*Reconciler).checkCopies,
	tenant.ActionDeleteCopies:      (*Reconciler).deleteCopies,

	tenant.ActionListWorkloads: (*Reconciler).listWorkloads,

	tenant.ActionListTenantJobs:   (*Reconciler).listTenantJobs,
	tenant.ActionDeleteTenantJobs: (*Reconciler).deleteTenantJobs,
	tenant.ActionReleaseNamespace: (*Reconciler).releaseNamespace,
	tenant.ActionDeleteNamespace:  (*Reconciler).deleteNamespace,
	tenant.ActionReadNamespace:    (*Reconciler).readNamespace,
}
