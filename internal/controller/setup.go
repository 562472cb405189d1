// Package controller wires the controllers, one package for each kind, into a manager: this file says who holds what.
package controller

import (
	"fmt"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/config/policy"
	"github.com/tenantry/tenantry/internal/controller/credentials"
	"github.com/tenantry/tenantry/internal/controller/fanouts"
	"github.com/tenantry/tenantry/internal/controller/jobs"
	"github.com/tenantry/tenantry/internal/controller/queues"
	"github.com/tenantry/tenantry/internal/controller/schedules"
	"github.com/tenantry/tenantry/internal/controller/templates"
	"github.com/tenantry/tenantry/internal/controller/tenants"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/dispatch"
	"github.com/tenantry/tenantry/internal/enforcement"
	"github.com/tenantry/tenantry/internal/issuer"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/tenant"
)

// Options of the controllers.
type Options struct {
	// OperatorNamespace is where the operator's own objects are. Never a tenant's.
	OperatorNamespace string
	// DefaultEnforcement is for Tenants that name none. Empty means Enforce.
	DefaultEnforcement v1alpha1.Enforcement
	// DNSEgress are the egress rules by which the tenants' pods reach the cluster's DNS. Nil means tenant.DefaultDNSEgress.
	DNSEgress []networkingv1.NetworkPolicyEgressRule
	// MaxConcurrentReconciles of each controller. Zero means 8.
	MaxConcurrentReconciles int
	// VerifyInterval is the time from the verification of one tenant's namespace to that of the next. Zero means a second.
	VerifyInterval time.Duration
	// MetricsTenants is how many tenants have metrics of their own. Zero means 1000, less than zero none.
	MetricsTenants int
	// Lease is what this process knows of its lease. Nil means that there is none, and that it always leads.
	Lease dispatch.Leadership
	// Policies are the admission policies that are kept in force. Nil means those for the user as whom the operator acts.
	Policies *policy.Set
	// ProbeInterval is the time between two rounds in which the policies are tried out. Zero means enforcement.DefaultInterval.
	ProbeInterval time.Duration
	// CredentialKinds are the kinds of CredentialProviders that there are.
	CredentialKinds credential.Kinds
	// Clock tells the time. Nil means the real one.
	Clock clock.WithTicker
}

func (o Options) withDefaults() Options {
	if o.DefaultEnforcement == "" {
		o.DefaultEnforcement = v1alpha1.EnforcementEnforce
	}
	if o.DNSEgress == nil {
		o.DNSEgress = tenant.DefaultDNSEgress()
	}
	if o.MaxConcurrentReconciles == 0 {
		o.MaxConcurrentReconciles = 8
	}
	if o.VerifyInterval == 0 {
		o.VerifyInterval = time.Second
	}
	if o.ProbeInterval == 0 {
		o.ProbeInterval = enforcement.DefaultInterval
	}
	if o.MetricsTenants == 0 {
		o.MetricsTenants = 1000
	}
	if o.Lease == nil {
		o.Lease = dispatch.NoLease{}
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return o
}

// SetupWithManager adds all controllers to the manager, whose cache must have kube.CacheOptions.
func SetupWithManager(mgr manager.Manager, opts Options) error {
	opts = opts.withDefaults()
	c := kube.NewClient(mgr)
	dispatcher := dispatch.New(mgr.GetLogger().WithName("dispatcher"), opts.Clock, c.Live, opts.Lease)
	enforcer, err := newEnforcer(mgr, dispatcher, opts)
	if err != nil {
		return fmt.Errorf("setting up the enforcement of the admission policies: %w", err)
	}
	credentialIssuer := issuer.New(mgr.GetLogger().WithName("issuer"), opts.Clock, c)
	tenantReconciler := &tenants.Reconciler{
		Client: c, Clock: opts.Clock, OperatorNamespace: opts.OperatorNamespace, DefaultEnforcement: opts.DefaultEnforcement,
		DNSEgress: opts.DNSEgress, VerifyInterval: opts.VerifyInterval, Dispatcher: dispatcher, Credentials: credentialIssuer, Policies: policies{enforcer},
	}
	recorder := newRecorder(mgr, dispatcher, credentialIssuer, enforcer, tenantReconciler, opts)
	tenantReconciler.Forget = recorder.ForgetTenant
	if err := recorder.Register(ctrlmetrics.Registry); err != nil {
		return err
	}
	if err := kube.IndexFanOuts(mgr.GetFieldIndexer()); err != nil {
		return err
	}
	if err := dispatcher.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("setting up the dispatcher: %w", err)
	}
	if err := credentialIssuer.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("setting up the issuer: %w", err)
	}
	for kind, reconciler := range map[string]interface {
		SetupWithManager(mgr manager.Manager, opts controller.Options) error
	}{
		"Tenant":            tenantReconciler,
		"TenantJobTemplate": &templates.Reconciler{Client: c, OperatorNamespace: opts.OperatorNamespace},
		"TenantJob":         &jobs.Reconciler{Client: c, Clock: opts.Clock, Dispatcher: dispatcher, Metrics: recorder, Credentials: credentialIssuer},
		"TenantFanOut": &fanouts.Reconciler{
			Client: c, Clock: opts.Clock, OperatorNamespace: opts.OperatorNamespace, Dispatcher: dispatcher,
		},
		"TenantQueue": &queues.Reconciler{Client: c, Clock: opts.Clock, Counts: dispatcher.Counts, Starts: dispatcher, Forget: recorder.ForgetQueue},
		"CredentialProvider": &credentials.Reconciler{
			Client: c, Clock: opts.Clock, OperatorNamespace: opts.OperatorNamespace, Kinds: opts.CredentialKinds, Issuer: credentialIssuer,
		},
		"TenantSchedule": &schedules.Reconciler{Client: c, Clock: opts.Clock},
	} {
		if err := reconciler.SetupWithManager(mgr, controller.Options{MaxConcurrentReconciles: opts.MaxConcurrentReconciles}); err != nil {
			return fmt.Errorf("setting up the %s controller: %w", kind, err)
		}
	}
	return nil
}
