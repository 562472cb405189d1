// Command manager is the Tenantry operator.
package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/controller"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/credential/postgres"
	"github.com/tenantry/tenantry/internal/credential/secret"
	"github.com/tenantry/tenantry/internal/credential/serviceaccounttoken"
	"github.com/tenantry/tenantry/internal/dispatch"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/tenant"
)

// flags of the manager. Those that kubebuilder has, too, have its names.
type flags struct {
	leaderElect          bool
	metricsAddress       string
	metricsSecure        bool
	probeAddress         string
	operatorNamespace    string
	defaultEnforcement   string
	dnsEgress            string
	kubeAPIQPS           float64
	kubeAPIBurst         int
	concurrentReconciles int
	metricsTenants       int
	zap                  zap.Options
}

func main() {
	var f flags
	flag.BoolVar(&f.leaderElect, "leader-elect", false, "Let one of several managers work at a time.")
	flag.StringVar(&f.metricsAddress, "metrics-bind-address", "0", "The address of the metrics endpoint, \":8443\" say; \"0\" turns it off.")
	flag.BoolVar(&f.metricsSecure, "metrics-secure", true, "Serve metrics over TLS, to those who may get /metrics.")
	flag.StringVar(&f.probeAddress, "health-probe-bind-address", ":8081", "The address of /healthz and /readyz; \"0\" turns them off.")
	flag.StringVar(&f.operatorNamespace, "operator-namespace", "", "The operator's own namespace. Default: the pod's own, else tenantry-system.")
	flag.StringVar(&f.defaultEnforcement, "default-enforcement", string(v1alpha1.EnforcementEnforce), "The enforcement of Tenants that name none: Audit, Warn or Enforce.")
	flag.StringVar(&f.dnsEgress, "dns-egress", "", "How the tenants' pods reach the cluster's DNS: a list of NetworkPolicy egress rules, in YAML or JSON. Default: port 53 of the pods labelled k8s-app=kube-dns in kube-system.")
	flag.Float64Var(&f.kubeAPIQPS, "kube-api-qps", 200, "How many requests a second the manager sends to the API server.")
	flag.IntVar(&f.kubeAPIBurst, "kube-api-burst", 400, "How many requests it may send at once.")
	flag.IntVar(&f.concurrentReconciles, "max-concurrent-reconciles", 8, "How many objects of a kind are worked on at once.")
	flag.IntVar(&f.metricsTenants, "metrics-tenants", 1000, "How many tenants have metrics of their own; the others share the tenant label _other.")
	f.zap.BindFlags(flag.CommandLine)
	flag.Parse()
	logger := newLogger(&f.zap)
	ctrl.SetLogger(logger)
	klog.SetLogger(logger) // client-go logs with klog what the API server says, too

	if os.Getenv("GOGC") == "" {
		go boundGarbage()
	}
	if err := run(ctrl.SetupSignalHandler(), f); err != nil {
		ctrl.Log.Error(err, "Stopped")
		os.Exit(1)
	}
}

// run starts the manager and returns when it stops.
func run(ctx context.Context, f flags) error {
	enforcement := v1alpha1.Enforcement(f.defaultEnforcement)
	switch enforcement {
	case v1alpha1.EnforcementAudit, v1alpha1.EnforcementWarn, v1alpha1.EnforcementEnforce:
	default:
		return fmt.Errorf("--default-enforcement must be Audit, Warn or Enforce, not %q", f.defaultEnforcement)
	}
	dnsEgress, err := tenant.ParseDNSEgress(f.dnsEgress)
	if err != nil {
		return fmt.Errorf("--dns-egress is not valid: %w", err)
	}
	namespace := operatorNamespace(f.operatorNamespace)
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding a kubeconfig: %w", err)
	}
	config.QPS, config.Burst = float32(f.kubeAPIQPS), f.kubeAPIBurst

	lease, err := dispatch.NewLease(config, namespace, "tenantry.dev")
	if err != nil {
		return err
	}
	var leadership dispatch.Leadership = lease
	if !f.leaderElect {
		leadership = dispatch.NoLease{}
	}
	mgr, err := ctrl.NewManager(config, manager.Options{
		Scheme:                              newScheme(),
		Cache:                               kube.CacheOptions(),
		Client:                              kube.ClientOptions(),
		Metrics:                             metricsOptions(f),
		HealthProbeBindAddress:              f.probeAddress,
		LeaderElection:                      f.leaderElect,
		LeaderElectionResourceLockInterface: lease,
		LeaseDuration:                       new(dispatch.LeaseDuration),
		RenewDeadline:                       new(dispatch.RenewDeadline),
		RetryPeriod:                         new(dispatch.RetryPeriod),
		LeaderElectionReleaseOnCancel:       true,
	})
	if err != nil {
		return fmt.Errorf("creating the manager: %w", err)
	}
	direct, err := client.New(config, client.Options{Scheme: mgr.GetScheme()})
	if err != nil {
		return fmt.Errorf("creating a client: %w", err)
	}
	if err := kube.EnsureOperatorNamespace(ctx, direct, namespace); err != nil {
		return err
	}
	if err := controller.SetupWithManager(mgr, controller.Options{
		OperatorNamespace:       namespace,
		DefaultEnforcement:      enforcement,
		DNSEgress:               dnsEgress,
		MaxConcurrentReconciles: f.concurrentReconciles,
		CredentialKinds:         credential.Kinds{secret.Kind(), serviceaccounttoken.Kind(), postgres.Kind()},
		Lease:                   leadership,
		MetricsTenants:          cmp.Or(f.metricsTenants, -1),
	}); err != nil {
		return err
	}
	if err := mgr.AddHealthzCheck("healthz", healthz.Ping); err != nil {
		return fmt.Errorf("adding the health check: %w", err)
	}
	if err := mgr.AddReadyzCheck("readyz", healthz.Ping); err != nil {
		return fmt.Errorf("adding the readiness check: %w", err)
	}
	ctrl.Log.Info("Starting", "operatorNamespace", namespace, "defaultEnforcement", enforcement)
	return mgr.Start(ctx)
}

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	return scheme
}

func metricsOptions(f flags) metricsserver.Options {
	options := metricsserver.Options{
		BindAddress:   f.metricsAddress,
		SecureServing: f.metricsSecure,
		// HTTP/2 has had denial-of-service vulnerabilities, and metrics don't need it.
		TLSOpts: []func(*tls.Config){func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }},
	}
	if f.metricsSecure {
		options.FilterProvider = filters.WithAuthenticationAndAuthorization
	}
	return options
}

// operatorNamespace returns the namespace that the flag gives, else that of the pod, else tenantry-system.
func operatorNamespace(given string) string {
	if given != "" {
		return given
	}
	const mounted = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
	if own, err := os.ReadFile(mounted); err == nil && strings.TrimSpace(string(own)) != "" {
		return strings.TrimSpace(string(own))
	}
	return "tenantry-system"
}
