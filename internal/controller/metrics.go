package controller

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/metrics"
)

// newRecorder returns what the controllers record their metrics with.
func newRecorder(mgr manager.Manager, d deps) *metrics.Recorder {
	running := func() map[string]int { return runningByTenant(listTenants(context.Background(), d.Client)) }
	return metrics.New(metrics.Options{
		Queues:     onceElected(mgr.Elected(), d.dispatcher.Counts),
		Running:    onceElected(mgr.Elected(), running),
		MaxTenants: d.opts.MetricsTenants,
		Clock:      d.opts.Clock,
	})
}

// onceElected asks only while this process leads. One that stands by would answer from its caches as the leader does, and
// everything would be counted twice.
func onceElected[T any](elected <-chan struct{}, ask func() T) func() T {
	return func() T {
		select {
		case <-elected:
			return ask()
		default:
			var nothing T
			return nothing
		}
	}
}

func runningByTenant(tenants []v1alpha1.Tenant) map[string]int {
	running := map[string]int{}
	for i := range tenants {
		if n := tenants[i].Status.Running; n != nil && *n > 0 {
			running[tenants[i].Name] = int(*n)
		}
	}
	return running
}
