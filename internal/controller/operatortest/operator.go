package operatortest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/tenantry/tenantry/config/policy"
	"github.com/tenantry/tenantry/internal/controller"
	"github.com/tenantry/tenantry/internal/dispatch"
	"github.com/tenantry/tenantry/internal/kube"
)

// RunningOperator is a manager with all controllers.
type RunningOperator struct {
	Cancel context.CancelFunc
	done   chan error
	sent   RequestLog
}

// Start returns when the caches have synced.
func (o *RunningOperator) Start() error {
	cfg := operatorConfig()
	o.sent.reset()
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return passProbes(next, func(r *http.Request) (*http.Response, error) { return o.sent.Through(next, r) })
	})
	mgr, err := ctrl.NewManager(cfg, manager.Options{
		Scheme:     Scheme,
		Cache:      kube.CacheOptions(),
		Client:     kube.ClientOptions(),
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: new(true)},
		// A test that restarts the operator waits for this.
		GracefulShutdownTimeout: new(10 * time.Second),
	})
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	if err := controller.SetupWithManager(mgr, controller.Options{OperatorNamespace: OperatorNamespace, Clock: manualClock{}, CredentialKinds: Kinds(), Policies: new(Policies())}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	o.Cancel, o.done = cancel, make(chan error, 1)
	go func() { o.done <- mgr.Start(ctx) }()
	if !mgr.GetCache().WaitForCacheSync(ctx) && ctx.Err() == nil { // It may have been killed.
		return errors.New("the operator's cache did not sync")
	}
	return nil
}

// operatorConfig leads to the API server as the operator's service account, with the rights that it is installed with.
func operatorConfig() *rest.Config {
	cfg := rest.CopyConfig(RestConfig)
	cfg.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + OperatorNamespace + ":tenantry",
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + OperatorNamespace, "system:authenticated"},
	}
	return cfg
}

// passProbes sends the requests that try the admission policies out past a test, which may stop the operator at any other.
func passProbes(next http.RoundTripper, through RoundTripper) http.RoundTripper {
	return RoundTripper(func(r *http.Request) (*http.Response, error) {
		isProbe := strings.HasSuffix(r.Header.Get("Impersonate-User"), ":"+policy.ProbeServiceAccount) ||
			strings.HasSuffix(r.URL.Path, "/namespaces") && r.URL.Query().Get("dryRun") != ""
		if isProbe {
			return next.RoundTrip(r)
		}
		return through(r)
	})
}

// Stop returns when it no longer runs.
func (o *RunningOperator) Stop() {
	o.Cancel()
	if err := <-o.done; err != nil {
		panic(fmt.Sprintf("the operator: %v", err))
	}
}

// manualClock is a clock on which nobody's turn comes but when a test says so: the verification of all tenants would hide
// from the other tests what a watch misses.
type manualClock struct{ clock.RealClock }

var verifications = make(chan time.Time)

func (manualClock) After(time.Duration) <-chan time.Time { return verifications }

// Verifying lets the operator verify one tenant after the other until the test ends, which must not be parallel.
func Verifying(t *testing.T) {
	t.Helper()
	go func() {
		for pause := time.NewTicker(20 * time.Millisecond); ; <-pause.C {
			select {
			case verifications <- time.Now():
			case <-t.Context().Done():
				pause.Stop()
				return
			}
		}
	}()
}

// Requests returns the methods and paths of what the operator has asked for since it was started, but for its events.
func (o *RunningOperator) Requests() []string { return o.sent.All() }

// RequestLog has the methods and paths of what an operator asks for, but for its events.
type RequestLog struct {
	mu   sync.Mutex
	sent []string
}

// Through notes a request and passes it on, for OtherOperator.Through.
func (l *RequestLog) Through(next http.RoundTripper, r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/events") {
		l.mu.Lock()
		l.sent = append(l.sent, r.Method+" "+r.URL.Path)
		l.mu.Unlock()
	}
	return next.RoundTrip(r)
}

// All returns what was asked for until now.
func (l *RequestLog) All() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.sent)
}

func (l *RequestLog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = nil
}

// ShiftedClock is the real one, moved forward. While it is stopped, it shows the same time however long the test takes, so that
// nothing depends on how fast the machine is. Its timers are real ones.
type ShiftedClock struct {
	clock.RealClock
	Ahead atomic.Int64
	// slow is nil while it goes at the pace of the real one.
	slow atomic.Pointer[slowTime]
}

// slowTime is the time that a clock shows which showed a time when the real one showed another, and has gone at a fraction of
// its pace since.
type slowTime struct {
	at, since time.Time
	// fraction is the pace, as the divisor. Zero means that the clock stands still.
	fraction time.Duration
}

// Now implements clock.PassiveClock.
func (c *ShiftedClock) Now() time.Time {
	switch s := c.slow.Load(); {
	case s == nil:
		return c.RealClock.Now().Add(time.Duration(c.Ahead.Load()))
	case s.fraction == 0:
		return s.at
	default:
		return s.at.Add(c.RealClock.Since(s.since) / s.fraction)
	}
}

// StopAt stops it at a time.
func (c *ShiftedClock) StopAt(at time.Time) { c.slow.Store(&slowTime{at: at}) }

// GoSlowly lets it go on, at such a pace that less than a minute passes while a test waits for a state.
func (c *ShiftedClock) GoSlowly() {
	c.slow.Store(&slowTime{at: c.Now(), since: c.RealClock.Now(), fraction: Patience/time.Minute + 1})
}

// GoOn lets it go on at the pace of the real one.
func (c *ShiftedClock) GoOn() {
	c.Ahead.Store(int64(c.Now().Sub(c.RealClock.Now())))
	c.slow.Store(nil)
}

// Since implements clock.PassiveClock.
func (c *ShiftedClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// WithoutOperator stops the operator of all tests until the test ends, which so must not be parallel.
func WithoutOperator(t *testing.T) {
	t.Helper()
	Operator.Stop()
	t.Cleanup(func() {
		if err := Operator.Start(); err != nil {
			t.Fatal(err)
		}
	})
}

// OtherOperator is an operator that runs in place of the one of all tests, until the end of the test or until it dies.
type OtherOperator struct {
	Clock *ShiftedClock
	// Through is asked instead of the API server. It may pass the request on.
	Through func(next http.RoundTripper, r *http.Request) (*http.Response, error)
	// Leadership is what it knows of its lease. Nil means that it always leads.
	Leadership dispatch.Leadership
	// DNSEgress are the rules to the DNS. Nil means the default.
	DNSEgress []networkingv1.NetworkPolicyEgressRule
	// Lease is the name of the one that it has to win before it does anything. Empty means none.
	Lease string
	// ProbeInterval is the time between two rounds in which it tries the admission policies out. Zero means the default.
	ProbeInterval time.Duration
	// VerifyInterval is the time from the verification of one tenant to that of the next. Zero means the default.
	VerifyInterval time.Duration

	// Jobs are those that it has in its cache, once it was started.
	Jobs   kube.JobLister
	Cancel context.CancelFunc
	done   chan struct{}
	Once   sync.Once
}

// WhileNot is the Leadership of an operator that leads until something is true.
type WhileNot struct {
	dispatch.NoLease
	Lost *atomic.Bool
}

// Leads implements dispatch.Leadership.
func (l WhileNot) Leads() bool { return !l.Lost.Load() }

// Start returns when the caches have synced. The end of the test stops it.
func (a *OtherOperator) Start(t *testing.T) {
	t.Helper()
	t.Cleanup(a.Stop)
	cfg := operatorConfig()
	if a.Through != nil {
		cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return passProbes(next, func(r *http.Request) (*http.Response, error) { return a.Through(next, r) })
		})
	}
	mgr, err := ctrl.NewManager(cfg, manager.Options{
		Scheme: Scheme, Cache: kube.CacheOptions(), Client: kube.ClientOptions(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: new(true)}, GracefulShutdownTimeout: new(10 * time.Second),
		LeaderElection: a.Lease != "", LeaderElectionID: a.Lease, LeaderElectionNamespace: OperatorNamespace, LeaderElectionReleaseOnCancel: true,
		RetryPeriod: new(50 * time.Millisecond),
	})
	if err != nil {
		t.Fatal(err)
	}
	opts := controller.Options{OperatorNamespace: OperatorNamespace, Lease: a.Leadership, DNSEgress: a.DNSEgress, CredentialKinds: Kinds(), Policies: new(Policies()), ProbeInterval: a.ProbeInterval, VerifyInterval: a.VerifyInterval}
	if a.Clock != nil {
		opts.Clock = a.Clock
	}
	if err := controller.SetupWithManager(mgr, opts); err != nil {
		t.Fatal(err)
	}
	if a.Jobs, err = kube.NewJobLister(mgr.GetCache()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.Cancel, a.done = cancel, make(chan struct{})
	go func() {
		defer close(a.done)
		_ = mgr.Start(ctx) // it may have been killed
	}()
	if !mgr.GetCache().WaitForCacheSync(ctx) && ctx.Err() == nil { // It may have been killed.
		t.Fatal("the cache did not sync")
	}
}

// Stop returns when it no longer runs.
func (a *OtherOperator) Stop() {
	a.Once.Do(func() {
		a.Cancel()
		<-a.done
	})
}

// RoundTripper is a function that is an http.RoundTripper.
type RoundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f RoundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// GatedBody passes nothing on while there is a gate that is shut.
type GatedBody struct {
	io.ReadCloser
	Gate *atomic.Pointer[chan struct{}]
}

func (g GatedBody) Read(p []byte) (int, error) {
	n, err := g.ReadCloser.Read(p)
	if gate := g.Gate.Load(); gate != nil {
		<-*gate
	}
	return n, err
}

// Answer is an error as the API server sends it, for OtherOperator.Through.
func Answer(err *apierrors.StatusError) *http.Response {
	err.ErrStatus.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	body, _ := json.Marshal(err.ErrStatus)
	return &http.Response{
		StatusCode: int(err.ErrStatus.Code), Header: http.Header{"Content-Type": []string{"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)),
	}
}
