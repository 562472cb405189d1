package controller_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/config"
	ctrlcontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/internal/controller/queues"
	"github.com/tenantry/tenantry/internal/dispatch"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/metrics"
	"github.com/tenantry/tenantry/internal/queue"
)

// newQueue makes a TenantQueue with a name of its own.
func newQueue(t *testing.T, spec v1alpha1.TenantQueueSpec) *v1alpha1.TenantQueue {
	t.Helper()
	name := fmt.Sprintf("queue-%d", Serial.Add(1))
	return Create(t, &v1alpha1.TenantQueue{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec})
}

// awaitQueue waits until a TenantQueue is Ready in its present generation and says this.
func awaitQueue(t *testing.T, q *v1alpha1.TenantQueue, message string) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		Get(t, g, q)
		g.Expect(q.Status.Conditions).To(gomega.HaveLen(1))
		ready := conditions.Get(q.Status.Conditions, v1alpha1.ConditionReady)
		g.Expect([]any{ready.Status, ready.Reason, ready.Message}).To(gomega.HaveExactElements(IsTrue, v1alpha1.ReasonReady, message))
		g.Expect([]int64{ready.ObservedGeneration, q.Status.ObservedGeneration}).To(gomega.HaveEach(q.Generation))
	})
}

func TestTenantQueueReady(t *testing.T) {
	t.Parallel()
	q := newQueue(t, v1alpha1.TenantQueueSpec{})
	gomega.NewWithT(t).Expect(Judged(t, q)).To(gomega.Equal(status.InProgressStatus), "as the API server made it")
	awaitQueue(t, q, "limits are in force")
	gomega.NewWithT(t).Expect(Judged(t, q)).To(gomega.Equal(status.CurrentStatus))
	since := q.Status.Conditions[0].LastTransitionTime

	Patch(t, q, func(o *v1alpha1.TenantQueue) { o.Spec.Suspend = new(true) })
	gomega.NewWithT(t).Expect(Judged(t, q)).To(gomega.Equal(status.InProgressStatus), "as the API server changed it")
	awaitQueue(t, q, "suspended: nothing starts")
	gomega.NewWithT(t).Expect(Judged(t, q)).To(gomega.Equal(status.CurrentStatus))

	Patch(t, q, func(o *v1alpha1.TenantQueue) { o.Spec.Suspend = new(false) })
	awaitQueue(t, q, "limits are in force")
	gomega.NewWithT(t).Expect(q.Status.Conditions[0].LastTransitionTime).To(gomega.Equal(since))
}

// countingOperator runs in place of the one of all tests, with controllers that take the numbers of queues from the test.
type countingOperator struct {
	clock    *clocktesting.FakeClock
	recorder *metrics.Recorder

	mu sync.Mutex
	// writes are how many status patches there were, by queue.
	writes map[string]int
	counts map[string]queue.Counts
	// counted is how often the counts were asked for.
	counted int
}

func (o *countingOperator) start(t *testing.T) (stop func()) {
	t.Helper()
	cfg := rest.CopyConfig(RestConfig)
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return RoundTripper(func(r *http.Request) (*http.Response, error) {
			response, err := next.RoundTrip(r)
			path, isStatus := strings.CutSuffix(r.URL.Path, "/status")
			if err == nil && response.StatusCode == http.StatusOK && isStatus && r.Method == http.MethodPatch {
				o.mu.Lock()
				o.writes[path[strings.LastIndex(path, "/")+1:]]++
				o.mu.Unlock()
			}
			return response, err
		})
	})
	mgr, err := ctrl.NewManager(cfg, manager.Options{
		Scheme: Scheme, Cache: kube.CacheOptions(), Client: kube.ClientOptions(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: new(true)}, GracefulShutdownTimeout: new(10 * time.Second),
	})
	if err != nil {
		t.Fatal(err)
	}
	o.clock = clocktesting.NewFakeClock(time.Now())
	o.recorder = metrics.New(metrics.Options{MaxTenants: 1000, Clock: o.clock})
	reconciler := &queues.Reconciler{Client: kube.NewClient(mgr), Clock: o.clock, Forget: o.recorder.ForgetQueue, Starts: dispatch.New(logr.Discard(), o.clock, nil, dispatch.NoLease{}), Counts: func() map[string]queue.Counts {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.counted++
		return o.counts
	}}
	if err := reconciler.SetupWithManager(mgr, ctrlcontroller.Options{MaxConcurrentReconciles: 8}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = mgr.Start(ctx)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(stop)
	// The controller polls the counts.
	Eventually(t, func(g gomega.Gomega) { g.Expect(o.clock.HasWaiters()).To(gomega.BeTrue()) })
	return stop
}

// set what is to be counted the next time.
func (o *countingOperator) set(counts map[string]queue.Counts) (counted int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts = counts
	return o.counted
}

// count lets time pass until the queues are counted again, with these numbers.
func (o *countingOperator) count(t *testing.T, counts map[string]queue.Counts) {
	t.Helper()
	before := o.set(counts)
	o.clock.Step(queues.CountInterval)
	Eventually(t, func(g gomega.Gomega) {
		o.mu.Lock()
		defer o.mu.Unlock()
		g.Expect(o.counted).To(gomega.Equal(before + 1))
	})
}

func (o *countingOperator) written(q *v1alpha1.TenantQueue) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.writes[q.Name]
}

// numbers are what the status of a queue says.
func numbers(q *v1alpha1.TenantQueue) []any {
	deref := func(n *int32) any {
		if n == nil {
			return "unset"
		}
		return int(*n)
	}
	oldest := "unset"
	if q.Status.OldestWaitingTime != nil {
		oldest = q.Status.OldestWaitingTime.UTC().Format(time.RFC3339)
	}
	return []any{deref(q.Status.Waiting), deref(q.Status.Running), oldest}
}

func awaitNumbers(t *testing.T, q *v1alpha1.TenantQueue, waiting, running, oldest any) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(numbers(Get(t, g, q))).To(gomega.HaveExactElements(waiting, running, oldest))
	})
}

// TestTenantQueueNumbers is not parallel, since the operator of all tests would write its own numbers.
func TestTenantQueueNumbers(t *testing.T) {
	WithoutOperator(t)
	o := &countingOperator{writes: map[string]int{}}
	stop := o.start(t)
	var all []*v1alpha1.TenantQueue
	for range 3 {
		q := newQueue(t, v1alpha1.TenantQueueSpec{})
		all = append(all, q)
		awaitQueue(t, q, "limits are in force")
		awaitNumbers(t, q, "unset", "unset", "unset")
	}
	busy, idle := all[0], all[1]
	writes := func(what string, want ...int) {
		t.Helper()
		var got []int
		for _, q := range all {
			got = append(got, o.written(q))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("writes %s of the busy, the idle and the unknown queue (-want +got):\n%s", what, diff)
		}
	}
	writes("until they are ready", 1, 1, 1)

	// A part of a second is not kept by the API server, and must not be written over and over.
	oldest := time.Date(2026, 11, 24, 2, 0, 0, 123456789, time.UTC)
	first := map[string]queue.Counts{
		busy.Name: {Waiting: 9000, Running: 50, Oldest: oldest}, idle.Name: {}, "has-no-object": {Waiting: 1, Oldest: oldest},
	}
	o.count(t, first)
	awaitNumbers(t, busy, 9000, 50, "2026-11-24T02:00:00Z")
	awaitNumbers(t, idle, 0, 0, "unset")
	writes("after the first count", 2, 2, 1)

	// Nothing new, and thousands of starts between two counts.
	o.count(t, first)
	var latest queue.Counts
	for running := range 1000 {
		latest = queue.Counts{Waiting: 8000 - running, Running: 50 + running, Oldest: oldest.Add(time.Minute)}
		o.set(map[string]queue.Counts{busy.Name: latest, idle.Name: {}})
	}
	o.count(t, map[string]queue.Counts{busy.Name: latest, idle.Name: {}})
	awaitNumbers(t, busy, 7001, 1049, "2026-11-24T02:01:00Z")
	writes("after thousands of starts", 3, 2, 1)

	// A change of the spec is answered at once, with what was counted last.
	o.set(map[string]queue.Counts{busy.Name: {}, idle.Name: {}})
	Patch(t, busy, func(q *v1alpha1.TenantQueue) { q.Spec.Suspend = new(true) })
	awaitQueue(t, busy, "suspended: nothing starts")
	awaitNumbers(t, busy, 7001, 1049, "2026-11-24T02:01:00Z")

	// Another leader does not know yet what runs.
	stop()
	again := &countingOperator{writes: map[string]int{}}
	again.start(t)
	Patch(t, busy, func(q *v1alpha1.TenantQueue) { q.Spec.Suspend = nil })
	awaitQueue(t, busy, "limits are in force")
	awaitNumbers(t, busy, 7001, 1049, "2026-11-24T02:01:00Z")
	again.count(t, map[string]queue.Counts{busy.Name: {}})
	awaitNumbers(t, busy, 0, 0, "unset")
	gomega.NewWithT(t).Expect(again.written(idle)).To(gomega.BeZero(), "nothing has changed")
}

// TestTenantQueueCountsRuns: what waits and what runs is in the status, and in the end nothing is.
func TestTenantQueueCountsRuns(t *testing.T) {
	t.Parallel()
	q := newQueue(t, v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(1))})
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	template := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.QueueRef = &v1alpha1.LabelReference{Name: q.Name} })
	first := NewTenantJob(t, tenant, template)
	AwaitRunningPod(t, first)
	second := NewTenantJob(t, tenant, template)
	awaitNumbers(t, q, 1, 1, second.CreationTimestamp.UTC().Format(time.RFC3339))
	Finish(t, first, corev1.PodSucceeded)
	awaitNumbers(t, q, 0, 1, "unset")
	Finish(t, second, corev1.PodSucceeded)
	awaitNumbers(t, q, 0, 0, "unset")
	awaitQueue(t, q, "limits are in force")
}

// baseURL is that of the API server.
func baseURL() string { return "https://" + strings.TrimPrefix(RestConfig.Host, "https://") }

// TestTenantQueueIsForgotten: a queue that is gone leaves no metrics behind.
func TestTenantQueueIsForgotten(t *testing.T) {
	WithoutOperator(t)
	o := &countingOperator{writes: map[string]int{}}
	o.start(t)
	registry := prometheus.NewRegistry()
	if err := o.recorder.Register(registry); err != nil {
		t.Fatal(err)
	}
	q, stays := newQueue(t, v1alpha1.TenantQueueSpec{}), newQueue(t, v1alpha1.TenantQueueSpec{})
	for _, each := range []*v1alpha1.TenantQueue{q, stays} {
		awaitQueue(t, each, "limits are in force")
		o.recorder.Started(each.Name, "High", time.Second)
	}
	series := func(g gomega.Gomega) []string {
		return labelled(g, registry, "tenantry_tenantjob_wait_seconds", "queue")
	}
	gomega.NewWithT(t).Expect(series(gomega.NewWithT(t))).To(gomega.ConsistOf(q.Name, stays.Name))
	Remove(t, q)
	Eventually(t, func(g gomega.Gomega) { g.Expect(series(g)).To(gomega.ConsistOf(stays.Name)) })
}

// labelled are the values of a label in the series of a metric.
func labelled(g gomega.Gomega, registry prometheus.Gatherer, metric, label string) []string {
	families, err := registry.Gather()
	g.Expect(err).NotTo(gomega.HaveOccurred())
	var values []string
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, pair := range m.GetLabel() {
				if family.GetName() == metric && pair.GetName() == label {
					values = append(values, pair.GetValue())
				}
			}
		}
	}
	return values
}

// operatorsRecorder is what the operator of all tests records its metrics with, if its series are where the metrics
// endpoint takes them from.
func operatorsRecorder(t *testing.T) *metrics.Recorder {
	t.Helper()
	err := ctrlmetrics.Registry.Register(metrics.New(metrics.Options{}))
	already, registered := errors.AsType[prometheus.AlreadyRegisteredError](err)
	if !registered {
		t.Fatal("the operator has not registered its metrics")
	}
	return already.ExistingCollector.(*metrics.Recorder)
}

func TestMetricsOfTenants(t *testing.T) {
	t.Parallel()
	const running, finished = "tenantry_tenant_running_tenantjobs", "tenantry_tenantjobs_finished_total"
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	AwaitRunningPod(t, NewTenantJob(t, tenant, NewReadyTemplate(t, nil)))
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(labelled(g, ctrlmetrics.Registry, running, "tenant")).To(gomega.ContainElement(tenant.Name))
	})
	operatorsRecorder(t).Finished(tenant.Name, metrics.OutcomeSucceeded)
	g := gomega.NewWithT(t)
	g.Expect(labelled(g, ctrlmetrics.Registry, finished, "tenant")).To(gomega.ContainElement(tenant.Name))
	Remove(t, tenant)
	AwaitGone(t, tenant)
	Eventually(t, func(g gomega.Gomega) {
		for _, metric := range []string{running, finished} {
			g.Expect(labelled(g, ctrlmetrics.Registry, metric, "tenant")).NotTo(gomega.ContainElement(tenant.Name), metric)
		}
	})
}

func TestMetricsOfQueues(t *testing.T) {
	t.Parallel()
	q := newQueue(t, v1alpha1.TenantQueueSpec{})
	Eventually(t, func(g gomega.Gomega) {
		for _, metric := range []string{"waiting_tenantjobs", "running_tenantjobs", "oldest_wait_seconds"} {
			g.Expect(labelled(g, ctrlmetrics.Registry, "tenantry_queue_"+metric, "queue")).To(gomega.ContainElement(q.Name))
		}
	})
}

// TestFlowSchemas: the API server accepts them, and what the operator asks of it goes where they say.
func TestFlowSchemas(t *testing.T) {
	t.Parallel()
	if err := Install(t.Context(), "config/flowcontrol/*.yaml"); err != nil {
		t.Fatal(err)
	}
	const leases, tenants = "/apis/coordination.k8s.io/v1/namespaces/%s/leases/tenantry.dev", "/apis/tenantry.dev/v1alpha1/tenants"
	for name, given := range map[string]struct {
		namespace, user, path string
		want                  string
	}{
		"the operator's lease": {
			OperatorNamespace, "tenantry", fmt.Sprintf(leases, OperatorNamespace), "tenantry-leader-election",
		},
		"a lease somewhere else":   {OperatorNamespace, "tenantry", fmt.Sprintf(leases, "default"), "tenantry"},
		"a tenant's Jobs":          {OperatorNamespace, "tenantry", "/apis/batch/v1/namespaces/tenant-acme/jobs", "tenantry"},
		"what is in no namespace":  {OperatorNamespace, "tenantry", tenants, "tenantry"},
		"what is no object":        {OperatorNamespace, "tenantry", "/version", "tenantry"},
		"somebody else's requests": {OperatorNamespace, "default", tenants, "service-accounts"},
		"a namesake's requests":    {"default", "tenantry", tenants, "service-accounts"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := rest.CopyConfig(RestConfig)
			cfg.Impersonate = rest.ImpersonationConfig{
				UserName: "system:serviceaccount:" + given.namespace + ":" + given.user,
				Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + given.namespace, "system:authenticated"},
			}
			transport, err := rest.HTTPClientFor(cfg)
			if err != nil {
				t.Fatal(err)
			}
			Eventually(t, func(g gomega.Gomega) {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, baseURL()+given.path, nil)
				g.Expect(err).NotTo(gomega.HaveOccurred())
				response, err := transport.Do(request)
				g.Expect(err).NotTo(gomega.HaveOccurred())
				g.Expect(response.Body.Close()).To(gomega.Succeed())
				g.Expect(schemaNamed(t, g, response.Header.Get("X-Kubernetes-Pf-Flowschema-Uid"))).To(gomega.Equal(given.want))
			})
		})
	}
}

// schemaNamed is the name of the FlowSchema that has a UID.
func schemaNamed(t *testing.T, g gomega.Gomega, uid string) string {
	t.Helper()
	var schemas flowcontrolv1.FlowSchemaList
	g.Expect(Admin.List(t.Context(), &schemas)).To(gomega.Succeed())
	for i := range schemas.Items {
		if string(schemas.Items[i].UID) == uid {
			return schemas.Items[i].Name
		}
	}
	return ""
}
