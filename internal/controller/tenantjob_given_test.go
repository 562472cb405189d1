package controller_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/controller"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
)

// newRun makes a TenantJob with a name of its own.
func newRun(t *testing.T, tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate, change func(*v1alpha1.TenantJob)) *v1alpha1.TenantJob {
	t.Helper()
	tj := &v1alpha1.TenantJob{
		ObjectMeta: within(tenant, fmt.Sprintf("run-%d", names.Add(1))),
		Spec: v1alpha1.TenantJobSpec{
			TenantRef:   v1alpha1.TenantReference{Name: tenant.Name},
			TemplateRef: v1alpha1.LabelReference{Name: template.Name},
		},
	}
	change(tj)
	return create(t, tj)
}

// newReadyTemplate makes a TenantJobTemplate and waits until it can run.
func newReadyTemplate(t *testing.T, change func(*v1alpha1.TenantJobTemplate)) *v1alpha1.TenantJobTemplate {
	t.Helper()
	template := newTemplate(t, change)
	awaitReadiness(t, template, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	return template
}

// awaitReadiness waits until a template's condition Ready speaks of its present generation and says this.
func awaitReadiness(t *testing.T, template *v1alpha1.TenantJobTemplate, status metav1.ConditionStatus, reason, message string) {
	t.Helper()
	eventually(t, func(g gomega.Gomega) {
		get(t, g, template)
		ready := conditionOf(template.Status.Conditions, v1alpha1.ConditionReady)
		g.Expect([]any{ready.Status, ready.Reason, ready.Message}).To(gomega.HaveExactElements(status, reason, gomega.ContainSubstring(message)))
		g.Expect([]int64{ready.ObservedGeneration, template.Status.ObservedGeneration}).To(gomega.HaveEach(template.Generation))
	})
}

// awaitSaid waits until a TenantJob's condition Succeeded speaks of its present generation and says this.
func awaitSaid(t *testing.T, tj *v1alpha1.TenantJob, status metav1.ConditionStatus, reason, message string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			logAll(t, tj.Namespace)
		}
	}()
	eventually(t, func(g gomega.Gomega) {
		get(t, g, tj)
		c := conditionOf(tj.Status.Conditions, v1alpha1.ConditionSucceeded)
		g.Expect([]any{c.Status, c.Reason, c.Message}).To(gomega.HaveExactElements(status, reason, gomega.ContainSubstring(message)))
		g.Expect([]int64{c.ObservedGeneration, tj.Status.ObservedGeneration}).To(gomega.HaveEach(tj.Generation))
	})
}

func conditionOf(conditions []metav1.Condition, conditionType string) metav1.Condition {
	if c := meta.FindStatusCondition(conditions, conditionType); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// jobOf names the Job of a TenantJob, to be read.
func jobOf(tj *v1alpha1.TenantJob) *batchv1.Job {
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: tj.Namespace, Name: tj.Name}}
}

// finish ends the run of a TenantJob.
func finish(t *testing.T, tj *v1alpha1.TenantJob, phase corev1.PodPhase) {
	t.Helper()
	endPod(t, awaitRunningPod(t, tj), phase)
}

// exitPod ends a pod as its container would that exits with a code and last words.
func exitPod(t *testing.T, pod *corev1.Pod, code int32, words string) {
	t.Helper()
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: "Error", Message: words, FinishedAt: metav1.Now()},
	}}}
	if err := setExit(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

func setExit(ctx context.Context, pod *corev1.Pod) error {
	base := pod.DeepCopy()
	base.Status.ContainerStatuses = nil
	pod.Status.Phase = corev1.PodFailed
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}
	return admin.Status().Patch(ctx, pod, client.MergeFrom(base))
}

// finishAll ends each pod of a tenant well as soon as it runs, for as long as the test goes on.
func finishAll(t *testing.T, tenant *v1alpha1.Tenant) {
	t.Helper()
	follow(t, &corev1.PodList{}, tenant.NamespaceName(), func(ctx context.Context, _ watch.EventType, obj client.Object) {
		if pod := obj.(*corev1.Pod); pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil {
			_ = setPhase(ctx, pod, corev1.PodSucceeded, corev1.ConditionFalse)
		}
	})
}

// follow calls back with everything that happens to the objects of a namespace from now on.
func follow(t *testing.T, list client.ObjectList, namespace string, each func(context.Context, watch.EventType, client.Object)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w, err := admin.Watch(ctx, list, client.InNamespace(namespace))
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		w.Stop()
		<-done
	})
	go func() {
		defer close(done)
		for e := range w.ResultChan() {
			if obj, ok := e.Object.(client.Object); ok {
				each(ctx, e.Type, obj)
			}
		}
	}()
}

// jobLog is what has become of a namespace's Jobs, in the order of the API server.
type jobLog struct {
	mu sync.Mutex
	// order is the names of the Jobs as they were made. One that was made twice is in it twice.
	order []string
	live  map[types.UID]bool
	// most is how many lived at once.
	most int
}

// followJobs keeps the log of a tenant's Jobs from now on.
func followJobs(t *testing.T, tenant *v1alpha1.Tenant) *jobLog {
	t.Helper()
	l := &jobLog{live: map[types.UID]bool{}}
	follow(t, &batchv1.JobList{}, tenant.NamespaceName(), func(_ context.Context, event watch.EventType, obj client.Object) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if event == watch.Added {
			l.order = append(l.order, obj.GetName())
		}
		if event != watch.Deleted && job.IsLive(obj.(*batchv1.Job)) {
			l.live[obj.GetUID()] = true
		} else {
			delete(l.live, obj.GetUID())
		}
		l.most = max(l.most, len(l.live))
	})
	return l
}

// logAll logs what is in a namespace, for whoever has to find out why a test failed.
func logAll(t *testing.T, namespace string) {
	t.Helper()
	for _, list := range []client.ObjectList{&v1alpha1.TenantJobList{}, &batchv1.JobList{}, &corev1.PodList{}} {
		if err := admin.List(context.Background(), list, client.InNamespace(namespace)); err != nil {
			t.Log(err)
		}
		_ = meta.EachListItem(list, func(obj runtime.Object) error {
			o := obj.(client.Object)
			fields, _ := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
			status, _ := json.Marshal(fields["status"])
			t.Logf("%T %s made %s, going: %t, %s", o, o.GetName(), o.GetCreationTimestamp().Format(time.TimeOnly), o.GetDeletionTimestamp() != nil, status)
			return nil
		})
	}
}

// made returns the names of the Jobs that there have ever been, and how many there were at most at once.
func (l *jobLog) made() (names []string, most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string{}, l.order...), l.most
}

// writesFor are the writes for a TenantJob and its Job among some requests.
func writesFor(tj *v1alpha1.TenantJob, requests []string) []string {
	var writes []string
	for _, r := range requests {
		method, path, _ := strings.Cut(r, " ")
		if method != http.MethodGet && (strings.Contains(path, tj.Namespace+"/tenantjobs/"+tj.Name) || strings.HasSuffix(path, tj.Namespace+"/jobs") ||
			strings.Contains(path, tj.Namespace+"/jobs/"+tj.Name)) {
			writes = append(writes, strings.NewReplacer(tj.Namespace, "NS", tj.Name, "RUN").Replace(r))
		}
	}
	return writes
}

// shiftedClock is the real one, moved forward.
type shiftedClock struct {
	clock.RealClock
	ahead atomic.Int64
}

func (c *shiftedClock) Now() time.Time { return c.RealClock.Now().Add(time.Duration(c.ahead.Load())) }

func (c *shiftedClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// withoutOperator stops the operator of all tests until the test ends, which so must not be parallel.
func withoutOperator(t *testing.T) {
	t.Helper()
	operator.stop()
	t.Cleanup(func() {
		if err := operator.start(); err != nil {
			t.Fatal(err)
		}
	})
}

// another is an operator that runs in place of the one of all tests, until the end of the test or until it dies.
type another struct {
	clock *shiftedClock
	// through is asked instead of the API server. It may pass the request on.
	through func(next http.RoundTripper, r *http.Request) (*http.Response, error)
	// leads says whether it has its lease. Nil means that it does.
	leads func() bool
	// lease is the name of the one that it has to win before it does anything. Empty means none.
	lease string

	cancel context.CancelFunc
	done   chan struct{}
	once   sync.Once
}

func (a *another) start(t *testing.T) {
	t.Helper()
	t.Cleanup(a.stop)
	cfg := rest.CopyConfig(restConfig)
	if a.through != nil {
		cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) { return a.through(next, r) })
		})
	}
	mgr, err := ctrl.NewManager(cfg, manager.Options{
		Scheme: scheme, Cache: kube.CacheOptions(), Client: kube.ClientOptions(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: new(true)}, GracefulShutdownTimeout: new(10 * time.Second),
		LeaderElection: a.lease != "", LeaderElectionID: a.lease, LeaderElectionNamespace: operatorNamespace, LeaderElectionReleaseOnCancel: true,
		RetryPeriod: new(50 * time.Millisecond),
	})
	if err != nil {
		t.Fatal(err)
	}
	opts := controller.Options{OperatorNamespace: operatorNamespace, Leads: a.leads}
	if a.clock != nil {
		opts.Clock = a.clock
	}
	if err := controller.SetupWithManager(mgr, opts); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel, a.done = cancel, make(chan struct{})
	go func() {
		defer close(a.done)
		_ = mgr.Start(ctx) // it may have been killed
	}()
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		t.Fatal("the cache did not sync")
	}
}

// stop returns when it no longer runs.
func (a *another) stop() {
	a.once.Do(func() {
		a.cancel()
		<-a.done
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
