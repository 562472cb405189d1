package fanouts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/kube"
)

const (
	// FlushInterval is how often a ledger is stored on average. FlushBurst is how many times it is stored without waiting, so
	// that a small fan-out starts at once.
	FlushInterval = 2 * time.Second
	FlushBurst    = 5
	// maxUnstored is how many children the stored ledger may lack while others are created. maxUnstoredWhenDone is how many
	// it may lack when none are left to be created for now. With more of them the ledger is stored at once.
	maxUnstored, maxUnstoredWhenDone = 500, 100
)

// errStale says that what the controller knows about a fan-out is out of date: another leader has stored a plan or a ledger
// since, or the cache is behind.
var errStale = errors.New("what is known about the fan-out is out of date")

// storeLedger stores the decision's ledger if it has changed and may be stored by now. It says whether it did. If another
// leader has stored one since this ledger was read, the fan-out is forgotten and read again.
func (r *Reconciler) storeLedger(
	ctx context.Context, fanOut *v1alpha1.TenantFanOut, a *activeFanOut, d fanout.Decision, now time.Time,
) (bool, error) {
	isFirst := a.ledgerVersion == ""
	if !isFirst && (!d.Changed || !a.writes.allow(now) && !d.Urgent && !lacksMany(a.ledger.Load(), d)) {
		return false, nil
	}
	cm := d.Ledger.ConfigMap(fanOut, r.OperatorNamespace)
	var err error
	if isFirst {
		err = r.Create(ctx, cm, client.FieldOwner(kube.FieldManager))
	} else {
		cm.ResourceVersion = a.ledgerVersion
		err = r.Update(ctx, cm, client.FieldOwner(kube.FieldManager))
	}
	if err != nil {
		// After an error it is unknown whether the ledger was stored.
		r.active.remove(fanOut.Name)
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) {
			return false, errStale
		}
		return false, fmt.Errorf("storing the ledger of TenantFanOut %s: %w", fanOut.Name, err)
	}
	a.setStored(d.Ledger, cm.ResourceVersion)
	return true, nil
}

// lacksMany says whether the stored ledger lacks so many children that it must be stored at once: a child does not start
// before the stored ledger has it.
func lacksMany(stored *fanout.Ledger, d fanout.Decision) bool {
	limit := maxUnstored
	if len(d.Create)+len(d.Announced) == 0 {
		limit = maxUnstoredWhenDone
	}
	return d.Ledger.Seen() >= stored.Seen()+limit
}

// confirmLedger returns errStale if another ledger is stored than the one that the controller remembers.
func (r *Reconciler) confirmLedger(ctx context.Context, fanOut *v1alpha1.TenantFanOut, a *activeFanOut) error {
	stored := &metav1.PartialObjectMetadata{}
	stored.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	key := types.NamespacedName{Namespace: r.OperatorNamespace, Name: fanout.LedgerName(fanOut.UID)}
	stored, err := kube.Find(ctx, r.Live, key, stored)
	if err != nil {
		return err
	}
	if stored == nil || stored.ResourceVersion != a.ledgerVersion {
		r.active.remove(fanOut.Name)
		return errStale
	}
	return nil
}

// writeLimiter limits how often the ledger and the counters of one fan-out are written: FlushBurst times at once, then once
// in a FlushInterval. The clock may be set back.
type writeLimiter struct{ *rate.Limiter }

func newWriteLimiter() writeLimiter {
	return writeLimiter{rate.NewLimiter(rate.Every(FlushInterval), FlushBurst)}
}

// allow says whether a write is allowed now, and counts it if so. Unlike AllowN, it takes note of a clock that was set back
// also when it refuses.
func (w writeLimiter) allow(now time.Time) bool {
	write := w.ReserveN(now, 1)
	if write.DelayFrom(now) > 0 {
		write.CancelAt(now)
		return false
	}
	return true
}

// next is when a write is allowed again.
func (w writeLimiter) next(now time.Time) time.Time {
	write := w.ReserveN(now, 1)
	defer write.CancelAt(now)
	return now.Add(write.DelayFrom(now))
}
