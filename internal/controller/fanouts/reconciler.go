// Package fanouts is the controller of TenantFanOuts: it seals the plan, keeps the ledger, creates the children, and writes
// the status.
package fanouts

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/kube"
)

// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantfanouts,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantfanouts/status,verbs=patch
// Its children's and ConfigMaps' owner references block its deletion, which needs the right to change its finalizers.
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantfanouts/finalizers,verbs=update
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantjobs,verbs=create;delete
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantschedules,verbs=get;list;watch
// Plans and ledgers, in the operator's own namespace.
// +kubebuilder:rbac:groups="",namespace=tenantry-system,resources=configmaps,verbs=get;create;update;delete

const (
	// maxPasses is how many passes a reconcile makes at most: one announces children, one creates them, and one records that
	// they were created.
	maxPasses = 3
	// minCreatePeriod is how long a reconcile creates children while the ledger records none yet, so that none may start.
	// Afterwards a reconcile creates children for createPeriodPerTenant longer for each planned tenant, since each pass goes
	// over all of them, and for maxCreatePeriod at most, since a change of the spec is seen only when a reconcile begins.
	minCreatePeriod       = 500 * time.Millisecond
	createPeriodPerTenant = 50 * time.Microsecond
	maxCreatePeriod       = FlushInterval
	// retryLostAfter is when a fan-out whose plan or ledger is lost is read again: a person may have restored the ConfigMap.
	retryLostAfter = 5 * time.Minute
)

// Reconciler reconciles TenantFanOuts.
type Reconciler struct {
	kube.Client
	Clock clock.PassiveClock
	// OperatorNamespace is where plans and ledgers are.
	OperatorNamespace string
	Dispatcher        Dispatcher

	tenants    kube.Lister[*v1alpha1.Tenant]
	tenantJobs kube.Lister[*v1alpha1.TenantJob]
	active     activeFanOuts
}

// Dispatcher starts the children.
type Dispatcher interface {
	// SetFanOut says which of its children a fan-out allows to start.
	SetFanOut(fanOut *v1alpha1.TenantFanOut, ledger, stored *fanout.Ledger, end string)
	// RemoveFanOut says that a fan-out is complete or gone.
	RemoveFanOut(name string)
	// Holding says whether a TenantJob holds a slot.
	Holding(tenantJob types.UID) bool
	// Unrecorded returns the outcomes of children that were reported until a time, by the index in the plan, and when the next
	// one was reported.
	Unrecorded(name string, until time.Time) (outcomes map[int]fanout.Outcome, next time.Time)
}

// Reconcile brings one TenantFanOut as far as possible now.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	fanOut, err := kube.Find(ctx, r.Client, req.NamespacedName, &v1alpha1.TenantFanOut{})
	switch {
	case err != nil:
		return reconcile.Result{}, err
	case fanOut == nil:
		r.forget(req.Name)
		return reconcile.Result{}, nil
	case fanOut.DeletionTimestamp != nil:
		r.forget(req.Name)
		return reconcile.Result{}, r.removeOrphaned(ctx, fanOut)
	case isFinished(fanOut):
		r.forget(req.Name)
		return r.expire(ctx, fanOut)
	}
	a, err := r.load(ctx, fanOut)
	if err != nil {
		return r.reportLoadError(ctx, fanOut, err)
	}
	p, err := r.advance(ctx, fanOut, a)
	var statusErr error
	if !errors.Is(err, errStale) {
		statusErr = r.report(ctx, fanOut, a, &p)
	}
	switch {
	case err != nil:
		return r.reportFailure(ctx, fanOut, err)
	case statusErr != nil:
		return retryStale(statusErr)
	}
	if p.decision.Remove {
		return reconcile.Result{}, r.DeleteExact(ctx, fanOut, metav1.DeletePropagationBackground)
	}
	if isFinished(fanOut) {
		r.forget(req.Name)
	}
	return p.result(r.Clock.Now()), nil
}

// progress is how far a reconcile has brought a fan-out.
type progress struct {
	// decision is that of the last pass.
	decision fanout.Decision
	// stored says that the decision's ledger is the stored one. justStored says that the last pass stored it, and wroteLedger
	// that one of the passes stored a ledger.
	stored, justStored, wroteLedger bool
	// requeueAt is when to reconcile again, if nothing happens before. Zero means never.
	requeueAt time.Time
}

func (p *progress) requeueBy(at time.Time) { p.requeueAt = earlier(p.requeueAt, at) }

func (p *progress) result(now time.Time) reconcile.Result {
	if p.requeueAt.IsZero() {
		return reconcile.Result{}
	}
	return reconcile.Result{RequeueAfter: max(time.Millisecond, p.requeueAt.Sub(now))}
}

// advance makes passes until there is nothing to do but wait. What one pass has created or read, the next one knows. So a
// small fan-out has its children after one reconcile.
func (r *Reconciler) advance(ctx context.Context, fanOut *v1alpha1.TenantFanOut, a *activeFanOut) (progress, error) {
	var p progress
	snapshot := fanOut.DeepCopy()
	createUntil := r.Clock.Now().Add(createPeriod(len(a.plan.Entries), a.ledger.Load().Seen()))
	a.forgetTenants()
	for range maxPasses {
		again, err := r.pass(ctx, snapshot, a, &p, createUntil)
		if err != nil || !again {
			return p, err
		}
		if r.Clock.Now().After(createUntil) {
			break
		}
	}
	p.requeueBy(r.Clock.Now())
	return p, nil
}

// pass observes, decides and acts once. It says whether another pass may find more to do.
func (r *Reconciler) pass(
	ctx context.Context, fanOut *v1alpha1.TenantFanOut, a *activeFanOut, p *progress, createUntil time.Time,
) (bool, error) {
	now := r.Clock.Now()
	o, err := r.observe(ctx, fanOut, a, now)
	if err != nil {
		return false, err
	}
	// Until it is stored, the status must not be written: report runs also after an error.
	p.decision, p.stored = fanout.Decide(o.Observed, now), false
	if p.justStored, err = r.storeLedger(ctx, fanOut, a, p.decision, now); err != nil {
		return false, err
	}
	p.wroteLedger = p.wroteLedger || p.justStored
	p.stored = p.justStored || !p.decision.Changed
	r.Dispatcher.SetFanOut(fanOut, p.decision.Ledger, a.ledger.Load(), o.End)
	acted, err := r.act(ctx, a, o, p, createUntil)
	if err != nil {
		return false, err
	}
	p.requeueAt = earlier(earlier(p.decision.RequeueAt, o.endsAt), earlier(o.unrecordedAt, a.requeueAt(now)))
	if !p.stored {
		p.requeueBy(a.writes.next(now))
	}
	completed := p.justStored && p.decision.Ledger.Complete()
	return acted || completed, nil
}

// createPeriod returns how long a reconcile creates children. Planned is the number of planned tenants, and seen the number of
// those that have a child or an outcome in the stored ledger.
func createPeriod(planned, seen int) time.Duration {
	if seen == 0 {
		return minCreatePeriod
	}
	return min(minCreatePeriod+time.Duration(planned)*createPeriodPerTenant, maxCreatePeriod)
}

// retryStale hides errors that mean that another leader is at work or that a cache is behind. The fan-out is read again.
func retryStale(err error) (reconcile.Result, error) {
	if errors.Is(err, errStale) || apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: kube.StaleAfter}, nil
	}
	return reconcile.Result{}, err
}

// isFinished says whether nothing about a fan-out can change any more: its ledger is complete, and its status was written for
// the present spec.
func isFinished(fanOut *v1alpha1.TenantFanOut) bool {
	return fanOut.Status.CompletionTime != nil && fanOut.Status.ObservedGeneration == fanOut.Generation
}

// forget drops what is remembered of a fan-out that is complete or gone.
func (r *Reconciler) forget(name string) {
	r.active.remove(name)
	r.Dispatcher.RemoveFanOut(name)
}

// expire deletes a complete fan-out when its ttlSecondsAfterFinished has passed.
func (r *Reconciler) expire(ctx context.Context, fanOut *v1alpha1.TenantFanOut) (reconcile.Result, error) {
	expiry := fanout.Expiry(fanOut, fanOut.Status.CompletionTime.Time)
	if expiry.IsZero() {
		return reconcile.Result{}, nil
	}
	if left := expiry.Sub(r.Clock.Now()); left > 0 {
		return reconcile.Result{RequeueAfter: left}, nil
	}
	return reconcile.Result{}, r.DeleteExact(ctx, fanOut, metav1.DeletePropagationBackground)
}
