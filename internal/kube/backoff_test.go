package kube

import (
	"context"
	"errors"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// TestBackOff: conflicts in a row are tried again ever more seldom, and each object has a count of its own.
func TestBackOff(t *testing.T) {
	t.Parallel()
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "tenantjobs"}, "a", errors.New("changed"))
	answer := func() (reconcile.Result, error) { return RetryConflict(conflict) }
	r := BackOff(reconcile.Func(func(context.Context, reconcile.Request) (reconcile.Result, error) { return answer() }))
	after := func(name string) time.Duration {
		result, _ := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: name}})
		return result.RequeueAfter
	}
	var total time.Duration
	for range 20 {
		total += after("a")
	}
	if total < 8*time.Minute || after("a") != lastStale {
		t.Errorf("20 conflicts were tried again within %v, the next one after %v", total, after("a"))
	}
	if got := after("b"); got != StaleAfter {
		t.Errorf("the first conflict of another object is tried again after %v", got)
	}
	answer = func() (reconcile.Result, error) { return reconcile.Result{RequeueAfter: time.Hour}, nil }
	if got := after("a"); got != time.Hour {
		t.Errorf("a result became %v", got)
	}
	answer = func() (reconcile.Result, error) { return RetryConflict(conflict) }
	if got := after("a"); got != StaleAfter {
		t.Errorf("after a success the first conflict is tried again after %v", got)
	}
}
