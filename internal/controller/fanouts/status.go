package fanouts

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/kube"
)

// report writes the status that follows from the decision, but only when the decision's ledger is stored: a person who has
// read the status must not see the counters go back. A status in which only the counters are new is written as seldom as the
// ledger.
func (r *Reconciler) report(ctx context.Context, fanOut *v1alpha1.TenantFanOut, a *activeFanOut, p *progress) error {
	if p.decision.Ledger == nil || !p.stored {
		return nil
	}
	now := r.Clock.Now()
	base := fanOut.DeepCopy()
	fanOut.Status = p.decision.Status(now)
	if equality.Semantic.DeepEqual(fanOut.Status, base.Status) {
		return nil
	}
	if !p.wroteLedger {
		if onlyCountsDiffer(fanOut.Status, base.Status) && !a.writes.allow(now) {
			fanOut.Status = base.Status
			p.requeueBy(a.writes.next(now))
			return nil
		}
		// Another leader may have stored a newer ledger, and its counters must not go back.
		if err := r.confirmLedger(ctx, fanOut, a); err != nil {
			return err
		}
	}
	return r.writeStatus(ctx, fanOut, base)
}

func onlyCountsDiffer(a, b v1alpha1.TenantFanOutStatus) bool {
	a.Counts = b.Counts
	return equality.Semantic.DeepEqual(a, b)
}

// reportLoadError writes into the status why there is no plan yet, or that the plan or the ledger is lost. It returns other
// errors.
func (r *Reconciler) reportLoadError(ctx context.Context, fanOut *v1alpha1.TenantFanOut, err error) (reconcile.Result, error) {
	var unsealed *fanout.SealError
	var lost *lostError
	base, now := fanOut.DeepCopy(), r.Clock.Now()
	result := reconcile.Result{}
	switch {
	case errors.As(err, &unsealed):
		fanOut.Status = fanout.Unplanned(fanOut, unsealed, now)
		if !unsealed.Final {
			var err error
			if result.RequeueAfter, err = r.lapseAfter(ctx, fanOut, now); err != nil {
				return result, err
			}
		}
	case errors.As(err, &lost):
		r.Dispatcher.RemoveFanOut(fanOut.Name)
		fanOut.Status = fanout.Lost(fanOut, lost.Error(), now)
		result.RequeueAfter = retryLostAfter
	default:
		return r.reportFailure(ctx, fanOut, err)
	}
	if err := r.writeStatus(ctx, fanOut, base); err != nil {
		return retryStale(err)
	}
	return result, nil
}

// reportFailure writes into the status that the API server refuses what the operator writes, the plan or the ledger for example.
// Counters and outcomes stay. It returns the error, so that the write is tried again ever more seldom.
func (r *Reconciler) reportFailure(ctx context.Context, fanOut *v1alpha1.TenantFanOut, err error) (reconcile.Result, error) {
	if errors.Is(err, errStale) || !isRefused(err) {
		return retryStale(err)
	}
	base := fanOut.DeepCopy()
	fanOut.Status = fanout.Failing(fanOut, err.Error(), r.Clock.Now())
	return reconcile.Result{}, errors.Join(err, r.writeStatus(ctx, fanOut, base))
}

// isRefused says whether the API server has refused a write, and is not only out of reach or ahead of the cache.
func isRefused(err error) bool {
	switch kube.RefusalOf(err) {
	case kube.RefusalInvalid, kube.RefusalForbidden, kube.RefusalOperator, kube.RefusalQuota, kube.RefusalTerminating:
		return true
	}
	return false
}

// writeStatus writes the status, and then emits events about what is new in it.
func (r *Reconciler) writeStatus(ctx context.Context, fanOut, base *v1alpha1.TenantFanOut) error {
	if err := r.PatchStatus(ctx, fanOut, base); err != nil {
		return client.IgnoreNotFound(err)
	}
	r.emitEvents(ctx, fanOut, base)
	return nil
}
