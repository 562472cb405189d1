package enforcement

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/tenantry/tenantry/config/policy"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/metrics"
)

// The policies are watched, and their definitions written back. Creating and patching is limited to those that there are.
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=validatingadmissionpolicies;validatingadmissionpolicybindings,verbs=get;list;watch
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=validatingadmissionpolicies,verbs=create;patch,resourceNames=operator-scope;tenant-access;tenant-active;tenant-infra;tenant-job;tenant-namespace;tenant-protection;tenant-run;tenant-workload;tenant-workload-pods
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=validatingadmissionpolicybindings,verbs=create;patch,resourceNames=operator-scope;tenant-access;tenant-active;tenant-infra;tenant-job;tenant-namespace;tenant-protection;tenant-run;tenant-workload-audit;tenant-workload-enforce;tenant-workload-pods-audit;tenant-workload-pods-enforce;tenant-workload-pods-warn;tenant-workload-warn
// +kubebuilder:rbac:groups="",namespace=tenantry-system,resources=serviceaccounts,verbs=impersonate,resourceNames=tenantry-probe

const (
	// DefaultInterval is the time between two rounds of probes while all policies are in force.
	DefaultInterval = 10 * time.Second
	// retryInterval is that time while a policy is not, for as long as retriesOften after that was found out.
	retryInterval = time.Second
	retriesOften  = time.Minute
	// probeTimeout is how long a probe may take.
	probeTimeout = 5 * time.Second
)

// Enforcer keeps the policies in force and knows whether they are. Only the leader's does.
type Enforcer struct {
	log   logr.Logger
	clock clock.WithTicker
	set   policy.Set
	// probeInterval is the time between two rounds of probes while all policies are in force.
	probeInterval time.Duration
	// client reads from the cache and writes, live reads from the API server.
	client client.Client
	live   client.Reader
	probes map[string]func(context.Context) error
	// synced says that the cache has all policies.
	synced []toolscache.InformerSynced
	// wake has the loop look at the policies.
	wake chan struct{}

	mu        sync.Mutex
	standings standings
	verdict   Verdict
	// closedSince is since when nothing may start.
	closedSince time.Time
	repairs     map[string]uint64
	changed     []func(before, after Verdict)
}

// New returns the Enforcer of a set of policies, with the time between two rounds of probes.
func New(log logr.Logger, c clock.WithTicker, set policy.Set, interval time.Duration) *Enforcer {
	var names []string
	for _, p := range set.Policies {
		names = append(names, p.Name)
	}
	return &Enforcer{log: log, clock: c, set: set, probeInterval: interval, wake: make(chan struct{}, 1), standings: newStandings(names), repairs: map[string]uint64{}}
}

// PoliciesFor returns the policies for an operator that has a namespace and this configuration. They trust the user as whom it acts,
// so that it can run outside of a cluster, too.
func PoliciesFor(ctx context.Context, cfg *rest.Config, operatorNamespace string) (policy.Set, error) {
	c, err := client.New(cfg, client.Options{})
	if err != nil {
		return policy.Set{}, fmt.Errorf("creating a client: %w", err)
	}
	self := &authenticationv1.SelfSubjectReview{}
	if err := c.Create(ctx, self); err != nil {
		return policy.Set{}, fmt.Errorf("asking the API server for the operator's user name: %w", err)
	}
	return policy.For(operatorNamespace, self.Status.UserInfo.Username)
}

// Verdict returns what is known about the policies.
func (e *Enforcer) Verdict() Verdict {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.verdict
}

// OnChange has a function called whenever the verdict has changed. Functions may not call the Enforcer but for its verdict.
func (e *Enforcer) OnChange(f func(before, after Verdict)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.changed = append(e.changed, f)
}

// Counts returns those of all policies, by name.
func (e *Enforcer) Counts() map[string]metrics.PolicyCounts {
	e.mu.Lock()
	defer e.mu.Unlock()
	counts, now := map[string]metrics.PolicyCounts{}, e.clock.Now()
	for name, s := range e.standings {
		gap, known := s.gap(name, now)
		counts[name] = metrics.PolicyCounts{InForce: known && gap == "", Repairs: e.repairs[name]}
	}
	return counts
}

// SetupWithManager has the manager run the Enforcer on the leader. The operator's namespace is where the probes' service account is.
func (e *Enforcer) SetupWithManager(mgr manager.Manager, operatorNamespace string) error {
	probes, err := newProbes(mgr.GetConfig(), mgr.GetScheme(), operatorNamespace)
	if err != nil {
		return err
	}
	e.client, e.live, e.probes = mgr.GetClient(), mgr.GetAPIReader(), probes.all()
	for _, obj := range []client.Object{
		&admissionregistrationv1.ValidatingAdmissionPolicy{}, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{},
	} {
		informer, err := mgr.GetCache().GetInformer(context.Background(), obj)
		if err != nil {
			return fmt.Errorf("watching %s: %w", kube.KindOf(obj), err)
		}
		registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { e.signal() }, UpdateFunc: func(_, _ any) { e.signal() }, DeleteFunc: func(any) { e.signal() },
		})
		if err != nil {
			return fmt.Errorf("watching %s: %w", kube.KindOf(obj), err)
		}
		e.synced = append(e.synced, registration.HasSynced)
	}
	return mgr.Add(e)
}

// signal has the loop look at the policies.
func (e *Enforcer) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (*Enforcer) NeedLeaderElection() bool { return true }

// Start runs until ctx ends.
func (e *Enforcer) Start(ctx context.Context) error {
	if !toolscache.WaitForCacheSync(ctx.Done(), e.synced...) {
		return nil
	}
	if !e.isInstalled(ctx) {
		e.createProbeObjects(ctx)
	}
	timer := e.clock.NewTimer(0)
	defer timer.Stop()
	var next time.Time
	for {
		if e.restore(ctx) {
			next = e.clock.Now().Add(settleAfter)
		}
		if !e.clock.Now().Before(next) {
			e.probe(ctx)
			next = e.clock.Now().Add(e.interval())
		}
		timer.Reset(next.Sub(e.clock.Now()))
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
		case <-timer.C():
		}
	}
}

// interval is the time until the next round of probes.
func (e *Enforcer) interval() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.verdict.Open() || e.clock.Since(e.closedSince) > retriesOften {
		return e.probeInterval
	}
	return min(retryInterval, e.probeInterval)
}

// isInstalled says whether any of the policies is in the cluster.
func (e *Enforcer) isInstalled(ctx context.Context) bool {
	return slices.ContainsFunc(e.set.Policies, func(p *admissionregistrationv1.ValidatingAdmissionPolicy) bool {
		return e.client.Get(ctx, kube.KeyOf(p), &admissionregistrationv1.ValidatingAdmissionPolicy{}) == nil
	})
}

// createProbeObjects creates what the probes need, where neither that nor the policies were installed, since the operator runs outside
// of the cluster. It comes before the policies, which would refuse it.
func (e *Enforcer) createProbeObjects(ctx context.Context) {
	for _, obj := range e.set.Probe {
		if err := e.client.Create(ctx, obj.DeepCopy(), client.FieldOwner(kube.FieldManager)); err != nil && !apierrors.IsAlreadyExists(err) {
			e.log.V(2).Info("Did not create what the policies are tried out with", "kind", obj.GetKind(), "object", klog.KObj(obj), "why", err.Error())
		}
	}
}

// restore puts back what is missing or changed, and says whether anything was.
func (e *Enforcer) restore(ctx context.Context) (restored bool) {
	broken := map[string]string{}
	report := func(kind, name, policyName string, changed bool, err error) {
		switch {
		case err != nil:
			broken[policyName] = fmt.Sprintf("%s %s is not as it has to be, and can't be put back: %s", kind, name, kube.MessageOf(err))
			e.log.Error(err, "Can't put back", "kind", kind, "name", name)
		case changed:
			restored = true
			e.log.Info("Put back", "kind", kind, "name", name)
			e.mu.Lock()
			e.standings.restored(policyName, e.clock.Now())
			e.repairs[policyName]++
			e.mu.Unlock()
		}
	}
	for _, want := range e.set.Policies {
		changed, err := restoreObject(ctx, e, want, &admissionregistrationv1.ValidatingAdmissionPolicy{},
			func(installed *admissionregistrationv1.ValidatingAdmissionPolicy) (*admissionregistrationv1.ValidatingAdmissionPolicy, bool) {
				return restoredPolicy(installed, want, e.set.ClusterUsers)
			})
		report("ValidatingAdmissionPolicy", want.Name, want.Name, changed, err)
	}
	for _, want := range e.set.Bindings {
		changed, err := restoreObject(ctx, e, want, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{},
			func(installed *admissionregistrationv1.ValidatingAdmissionPolicyBinding) (*admissionregistrationv1.ValidatingAdmissionPolicyBinding, bool) {
				return restoredBinding(installed, want)
			})
		report("ValidatingAdmissionPolicyBinding", want.Name, want.Spec.PolicyName, changed, err)
	}
	e.judge(func() {
		for name, s := range e.standings {
			s.broken = broken[name]
		}
	})
	return restored
}

// restoreObject writes an object if it is missing, or not as it has to be, in the cache and in the API server. The function returns
// an installed one as it has to be, and whether anything differs.
func restoreObject[T client.Object](ctx context.Context, e *Enforcer, want, installed T, restored func(T) (T, bool)) (changed bool, err error) {
	for _, reader := range []client.Reader{e.client, e.live} {
		if err := reader.Get(ctx, kube.KeyOf(want), installed); apierrors.IsNotFound(err) {
			continue
		} else if err != nil {
			return false, err
		}
		after, differs := restored(installed)
		switch {
		case !differs:
			return false, nil
		case reader == e.live:
			return true, e.client.Patch(ctx, after, client.MergeFrom(installed), client.FieldOwner(kube.FieldManager))
		}
	}
	// It is applied, since RBAC can allow the creation of some names only then.
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(want)
	if err != nil {
		return false, err
	}
	delete(content, "status")
	apply := client.ApplyConfigurationFromUnstructured(&unstructured.Unstructured{Object: content})
	return true, e.client.Apply(ctx, apply, client.FieldOwner(kube.FieldManager), client.ForceOwnership)
}

// probe tries all policies out.
func (e *Enforcer) probe(ctx context.Context) {
	sent := e.clock.Now()
	sending, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	answers := make(chan answer)
	for name, send := range e.probes {
		go func() { answers <- answerOf(name, send(sending)) }()
	}
	var all []answer
	for range e.probes {
		all = append(all, <-answers)
	}
	if ctx.Err() != nil {
		return
	}
	e.judge(func() {
		for _, a := range all {
			e.standings.answered(a, sent)
		}
	})
}

// judge takes in what was found out, and tells everybody if that changes the verdict.
func (e *Enforcer) judge(takeIn func()) {
	e.mu.Lock()
	takeIn()
	before, now := e.verdict, e.clock.Now()
	e.verdict = e.standings.verdict(now)
	after := e.verdict
	if before.Open() || e.closedSince.IsZero() {
		e.closedSince = now
	}
	changed := slices.Clone(e.changed)
	e.mu.Unlock()
	if before == after {
		return
	}
	switch {
	case after.Open():
		e.log.Info("All policies are in force")
	case after.Gap != "":
		e.log.Info("Nothing starts, since a policy is not in force", "why", after.Gap)
	}
	for _, f := range changed {
		f(before, after)
	}
}
