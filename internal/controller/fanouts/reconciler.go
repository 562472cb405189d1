// Package fanouts is the controller of TenantFanOuts: it seals the plan, keeps the ledger, makes the children, and reports.
package fanouts

import (
	"cmp"
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/kube"
)

// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantfanouts,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantfanouts/status,verbs=patch
// Its children's and ConfigMaps' owner references block its deletion, which needs the right to change its finalizers.
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantfanouts/finalizers,verbs=update
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantjobs,verbs=create
// +kubebuilder:rbac:groups=tenantry.dev,resources=tenantschedules,verbs=get;list;watch
// Plans and ledgers, in the operator's own namespace.
// +kubebuilder:rbac:groups="",namespace=tenantry-system,resources=configmaps,verbs=get;create;update

const (
	// mostRounds is how often a Reconcile decides: to announce, to make, to write down that it was made.
	mostRounds = 3
	// shortTurn is how long it goes on making children before it writes down what it has made, as long as none may start.
	// Afterwards it is turnPerTenant longer for each that is planned, since every turn is a pass over all of them, and
	// longestTurn at most: what a person changes is seen when a turn begins.
	shortTurn     = 500 * time.Millisecond
	turnPerTenant = 50 * time.Microsecond
	longestTurn   = FlushInterval
	// checkLostAfter is when a fan-out whose plan or ledger is lost is looked at again: a person may have put it back.
	checkLostAfter = 5 * time.Minute
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
	known      fanOutsInHand
}

// Dispatcher starts the children.
type Dispatcher interface {
	// SetFanOut tells what a fan-out allows its children by now.
	SetFanOut(fanOut *v1alpha1.TenantFanOut, ledger, stored *fanout.Ledger, end string)
	// RemoveFanOut says that a fan-out is complete or gone.
	RemoveFanOut(name string)
	// Holding says whether a TenantJob holds a slot.
	Holding(tenantJob types.UID) bool
}

// Reconcile brings one TenantFanOut as far as it goes now.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	fanOut, err := kube.Find(ctx, r.Client, req.NamespacedName, &v1alpha1.TenantFanOut{})
	switch {
	case err != nil:
		return reconcile.Result{}, err
	case fanOut == nil, fanOut.DeletionTimestamp != nil:
		r.close(req.Name)
		return reconcile.Result{}, nil
	case hasEnded(fanOut):
		r.close(req.Name)
		return r.expire(ctx, fanOut)
	}
	inHand, err := r.takeUp(ctx, fanOut)
	if err != nil {
		return r.stuck(ctx, fanOut, err)
	}
	turn, err := r.advance(ctx, fanOut, inHand)
	if !errors.Is(err, errStale) {
		err = cmp.Or(err, r.report(ctx, fanOut, inHand, &turn))
	}
	if err != nil {
		return retryLedger(err)
	}
	if turn.decision.Remove {
		return reconcile.Result{}, r.DeleteExact(ctx, fanOut, metav1.DeletePropagationBackground)
	}
	if hasEnded(fanOut) {
		r.close(req.Name)
	}
	return turn.result(r.Clock.Now()), nil
}

// turn is what a Reconcile came to.
type turn struct {
	decision fanout.Decision
	// stored says that the decision's ledger is the stored one; fresh, that it was stored just now; wrote, that one was in
	// this turn.
	stored, fresh, wrote bool
	// wake is when to go on, if nothing happens before. Zero means never.
	wake time.Time
}

func (t *turn) wakeAt(at time.Time) {
	if !at.IsZero() && (t.wake.IsZero() || at.Before(t.wake)) {
		t.wake = at
	}
}

func (t *turn) result(now time.Time) reconcile.Result {
	if t.wake.IsZero() {
		return reconcile.Result{}
	}
	return reconcile.Result{RequeueAfter: max(time.Millisecond, t.wake.Sub(now))}
}

// advance decides and acts until there is nothing to do but wait: what one round has made or looked up, the next one
// knows. So a small fan-out is on its way after one turn.
func (r *Reconciler) advance(ctx context.Context, fanOut *v1alpha1.TenantFanOut, h *inHand) (turn, error) {
	var t turn
	snapshot := fanOut.DeepCopy()
	until := r.Clock.Now().Add(turnLasts(len(h.plan.Entries), h.ledger.Load().Seen()))
	h.newTurn()
	for range mostRounds {
		now := r.Clock.Now()
		view, err := r.observe(ctx, snapshot, h, now)
		if err != nil {
			return t, err
		}
		t.decision, t.wake = fanout.Decide(view.Observed, now), time.Time{}
		if t.fresh, err = r.store(ctx, snapshot, h, t.decision, now); err != nil {
			return t, err
		}
		t.wrote, t.stored = t.wrote || t.fresh, t.fresh || !t.decision.Changed
		r.Dispatcher.SetFanOut(snapshot, t.decision.Ledger, h.ledger.Load(), view.End)
		moved, err := r.carryOut(ctx, h, view, &t, until)
		if err != nil {
			return t, err
		}
		t.wakeAt(t.decision.RequeueAt)
		t.wakeAt(view.endsAt)
		t.wakeAt(h.nextLook(now))
		if !t.stored {
			t.wakeAt(h.pace.next(now))
		}
		if ended := t.fresh && t.decision.Ledger.Complete(); !moved && !ended {
			return t, nil
		}
		if now = r.Clock.Now(); now.After(until) {
			break
		}
	}
	t.wakeAt(r.Clock.Now())
	return t, nil
}

// turnLasts is how long a turn of a fan-out goes on making children, with so many tenants planned and so many of them seen.
func turnLasts(planned, seen int) time.Duration {
	if seen == 0 {
		return shortTurn
	}
	return min(shortTurn+time.Duration(planned)*turnPerTenant, longestTurn)
}

// report writes the status, once the ledger is stored that it speaks of: what a person has read must not be forgotten. It
// is written no more often than the ledger, but for what a person waits for.
func (r *Reconciler) report(ctx context.Context, fanOut *v1alpha1.TenantFanOut, h *inHand, t *turn) error {
	if t.decision.Ledger == nil || !t.stored {
		return nil
	}
	now := r.Clock.Now()
	base := fanOut.DeepCopy()
	fanOut.Status = t.decision.Status(now)
	if equality.Semantic.DeepEqual(fanOut.Status, base.Status) {
		return nil
	}
	if !t.wrote {
		if onlyCountsDiffer(fanOut.Status, base.Status) && !h.pace.take(now) {
			fanOut.Status = base.Status
			t.wakeAt(h.pace.next(now))
			return nil
		}
		// Another leader may have gone on from here, and its counters must not go back.
		if err := r.confirm(ctx, fanOut, h); err != nil {
			return err
		}
	}
	return r.writeStatus(ctx, fanOut, base)
}

func onlyCountsDiffer(a, b v1alpha1.TenantFanOutStatus) bool {
	a.Counts = b.Counts
	return equality.Semantic.DeepEqual(a, b)
}

// stuck says in the status why there is nothing to work with.
func (r *Reconciler) stuck(ctx context.Context, fanOut *v1alpha1.TenantFanOut, err error) (reconcile.Result, error) {
	var unsealed *fanout.SealError
	var lost *lostError
	base, now := fanOut.DeepCopy(), r.Clock.Now()
	result := reconcile.Result{}
	switch {
	case errors.As(err, &unsealed):
		fanOut.Status = fanout.Unplanned(fanOut, unsealed, now)
	case errors.As(err, &lost):
		r.Dispatcher.RemoveFanOut(fanOut.Name)
		fanOut.Status = fanout.Lost(fanOut, lost.Error(), now)
		result.RequeueAfter = checkLostAfter
	default:
		return retryLedger(err)
	}
	if err := r.writeStatus(ctx, fanOut, base); err != nil {
		return retryLedger(err)
	}
	return result, nil
}

// retryLedger hides that another leader, or a stale cache, was met: what is stored is read again.
func retryLedger(err error) (reconcile.Result, error) {
	if errors.Is(err, errStale) || apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: staleAfter}, nil
	}
	return reconcile.Result{}, err
}

// writeStatus writes the status, and tells of what is new in it.
func (r *Reconciler) writeStatus(ctx context.Context, fanOut, base *v1alpha1.TenantFanOut) error {
	if err := r.PatchStatus(ctx, fanOut, base); err != nil {
		return client.IgnoreNotFound(err)
	}
	r.tell(fanOut, base)
	return nil
}

// hasEnded says whether nothing can change any more: the ledger is complete, and the status says so of the present spec.
func hasEnded(fanOut *v1alpha1.TenantFanOut) bool {
	return fanOut.Status.CompletionTime != nil && fanOut.Status.ObservedGeneration == fanOut.Generation
}

// close forgets a fan-out that is complete or gone.
func (r *Reconciler) close(name string) {
	r.known.drop(name)
	r.Dispatcher.RemoveFanOut(name)
}

// expire deletes a fan-out that has outlived its ttlSecondsAfterFinished.
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
