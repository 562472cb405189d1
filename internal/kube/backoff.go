package kube

import (
	"context"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// lastStale is how long a controller waits at most before it looks again after conflicts.
const lastStale = time.Minute

// BackOff has a controller wait longer after each conflict in a row, StaleAfter at first: a cache may be behind for long, and a
// webhook may answer every write with a conflict.
func BackOff(r reconcile.Reconciler) reconcile.Reconciler {
	conflicts := workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](StaleAfter, lastStale)
	return reconcile.Func(func(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
		result, err := r.Reconcile(ctx, request)
		if err != nil || result.RequeueAfter != StaleAfter {
			conflicts.Forget(request)
			return result, err
		}
		result.RequeueAfter = conflicts.When(request)
		return result, nil
	})
}
