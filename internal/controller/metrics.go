package controller

import (
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/tenantry/tenantry/internal/controller/tenants"
	"github.com/tenantry/tenantry/internal/dispatch"
	"github.com/tenantry/tenantry/internal/enforcement"
	"github.com/tenantry/tenantry/internal/issuer"
	"github.com/tenantry/tenantry/internal/metrics"
)

// newRecorder returns what the controllers record their metrics with.
func newRecorder(mgr manager.Manager, d *dispatch.Dispatcher, i *issuer.Issuer, e *enforcement.Enforcer, t *tenants.Reconciler, opts Options) *metrics.Recorder {
	return metrics.New(metrics.Options{
		Queues:      onceElected(mgr.Elected(), d.Counts),
		Running:     onceElected(mgr.Elected(), d.RunningByTenant),
		Credentials: onceElected(mgr.Elected(), i.Counts),
		Policies:    onceElected(mgr.Elected(), e.Counts),
		Workloads:   onceElected(mgr.Elected(), t.ForeignWorkloads),
		MaxTenants:  opts.MetricsTenants,
		Clock:       opts.Clock,
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
