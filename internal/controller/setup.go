// Package controller is the glue between the pure packages and the API server, one file a kind: observe, decide, act,
// write the status once.
package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlcontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/metrics"
)

// FieldManager is the name under which the operator applies objects.
const FieldManager = "tenantry"

// Options of the controllers.
type Options struct {
	// OperatorNamespace is where the operator's own objects are. Never a tenant's.
	OperatorNamespace string
	// DefaultEnforcement is for Tenants that name none. Empty means Enforce.
	DefaultEnforcement v1alpha1.Enforcement
	// MaxConcurrentReconciles of each controller. Zero means 8.
	MaxConcurrentReconciles int
	// VerifyInterval is the time from the verification of one tenant's namespace to that of the next. Zero means a second.
	VerifyInterval time.Duration
	// MetricsTenants is how many tenants have metrics of their own. Zero means 1000, less than zero none.
	MetricsTenants int
	// Leads says whether this process still has its lease, for long enough to make a Job. Nil means that it always does.
	Leads func() bool
	// Clock tells the time. Nil means the real one.
	Clock clock.WithTicker
}

func (o Options) withDefaults() Options {
	if o.DefaultEnforcement == "" {
		o.DefaultEnforcement = v1alpha1.EnforcementEnforce
	}
	if o.MaxConcurrentReconciles == 0 {
		o.MaxConcurrentReconciles = 8
	}
	if o.VerifyInterval == 0 {
		o.VerifyInterval = time.Second
	}
	if o.MetricsTenants == 0 {
		o.MetricsTenants = 1000
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return o
}

func (o Options) forController() ctrlcontroller.Options {
	return ctrlcontroller.Options{MaxConcurrentReconciles: o.MaxConcurrentReconciles}
}

// deps is what every reconciler holds.
type deps struct {
	client.Client
	// live reads from the API server and not from the cache.
	live   client.Reader
	events events.EventRecorder
	// dispatcher decides who starts next.
	dispatcher *Dispatcher
	metrics    *metrics.Recorder
	opts       Options
}

// SetupWithManager adds all controllers to the manager, whose cache must have CacheOptions.
func SetupWithManager(mgr manager.Manager, opts Options) error {
	d := deps{
		Client: mgr.GetClient(),
		live:   mgr.GetAPIReader(),
		events: mgr.GetEventRecorder("tenantry"),
		opts:   opts.withDefaults(),
	}
	d.dispatcher = NewDispatcher(d.opts.Clock, d.live, d.opts.Leads)
	d.metrics = newRecorder(mgr, d)
	if err := d.metrics.Register(ctrlmetrics.Registry); err != nil {
		return err
	}
	if err := setupDispatcher(mgr, d.dispatcher); err != nil {
		return fmt.Errorf("setting up the dispatcher: %w", err)
	}
	for name, setup := range map[string]func(manager.Manager, deps) error{
		"Tenant":            setupTenant,
		"TenantJobTemplate": setupTenantJobTemplate,
		"TenantJob":         setupTenantJob,
		"TenantFanOut":      setupTenantFanOut,
		"TenantQueue":       setupTenantQueue,
		"TenantSchedule":    setupTenantSchedule,
	} {
		if err := setup(mgr, d); err != nil {
			return fmt.Errorf("setting up the %s controller: %w", name, err)
		}
	}
	return nil
}

// record emits an event about an object.
func (d deps) record(obj client.Object, eventType, reason, action, message string) {
	d.events.Eventf(obj, nil, eventType, reason, action, "%s", message)
}

func (d deps) warn(obj client.Object, reason, action, message string) {
	d.record(obj, corev1.EventTypeWarning, reason, action, message)
}

func (d deps) note(obj client.Object, reason, action, message string) {
	d.record(obj, corev1.EventTypeNormal, reason, action, message)
}

// deleteThis deletes this very object, never another of its name.
func (d deps) deleteThis(ctx context.Context, obj client.Object, propagation metav1.DeletionPropagation) error {
	err := d.Delete(ctx, obj, client.PropagationPolicy(propagation), client.Preconditions{UID: new(obj.GetUID())})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("deleting %s %s: %w", kindOf(obj), keyOf(obj), err)
	}
	return nil
}

func keyOf(obj client.Object) types.NamespacedName { return client.ObjectKeyFromObject(obj) }
