package controller_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
)

// These tests stop the operator of all tests, so none of them is parallel.

// TestDispatcherRestarts kills the operator in the middle of a burst, with caches that are behind, again and again: no
// limit is ever exceeded, and nothing starts twice.
func TestDispatcherRestarts(t *testing.T) {
	lives, runs := 40, 12
	if testing.Short() {
		lives, runs = 15, 5
	}
	q := newQueue(t, v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(5)), MaxConcurrentPerTenant: new(int32(2))})
	inQueue := func(o *v1alpha1.TenantJobTemplate) { o.Spec.QueueRef = &v1alpha1.LabelReference{Name: q.Name} }
	alone := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { inQueue(o); AtMostPerTenant(1)(o) })
	templates := []*v1alpha1.TenantJobTemplate{alone, NewReadyTemplate(t, inQueue)}
	urgent := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { inQueue(o); o.Spec.Priority = v1alpha1.PriorityHigh })
	var tenants []*v1alpha1.Tenant
	for range 4 {
		tenants = append(tenants, NewReadyTenant(t, AtMost(2)))
	}
	starts := followStarts(t, q.Name, map[string]int{"queue": 5, "tenant": 2, "template " + alone.Name: 1})
	WithoutOperator(t)
	var all []*v1alpha1.TenantJob
	for _, tenant := range tenants {
		finishLate(t, tenant, time.Second)
		for i := range runs {
			all = append(all, NewTenantJob(t, tenant, templates[i%2]))
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	began := time.Now()
	leads := newCrashing(t, q.Name, random)
	for life := range lives {
		// The next one stands by while this one leads.
		next := newCrashing(t, q.Name, random)
		leads.die()
		// Not all that comes next is what would have come next.
		if life%2 == 0 {
			all = append(all, NewTenantJob(t, tenants[random.IntN(len(tenants))], urgent))
		}
		leads = next
	}
	leads.Stop()
	t.Logf("%d of %d runs were started in %d lives, in %s", starts.total(), len(all), lives, time.Since(began))
	(&OtherOperator{}).Start(t)
	for _, tj := range all {
		AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
	}
	gomega.NewWithT(t).Expect(starts.total()).To(gomega.Equal(len(all)))
}

// crashingOperator dies when it has sent so many writes for runs, or has made so many Jobs. Its events about
// Jobs are late.
type crashingOperator struct {
	OtherOperator
	late time.Duration
	// left are the writes until it dies. The last one may reach the API server, without an answer, or not.
	left              atomic.Int32
	arrives, onlyJobs bool
	died              chan struct{}
}

func newCrashing(t *testing.T, lease string, random *rand.Rand) *crashingOperator {
	t.Helper()
	m := &crashingOperator{
		OtherOperator: OtherOperator{Lease: lease}, died: make(chan struct{}),
		late: time.Duration(random.IntN(300)) * time.Millisecond, arrives: random.IntN(4) > 0, onlyJobs: random.IntN(2) == 0,
	}
	if m.left.Store(1 + random.Int32N(8)); m.onlyJobs {
		m.left.Store(1 + random.Int32N(2))
	}
	m.Through = m.roundTrip
	m.Start(t)
	return m
}

func (m *crashingOperator) roundTrip(next http.RoundTripper, r *http.Request) (*http.Response, error) {
	switch {
	case strings.Contains(r.URL.Path, "/leases"): // so that the next one need not wait for it to expire
		return next.RoundTrip(r)
	case m.left.Load() <= 0:
		return nil, errKilled
	case r.Method == http.MethodGet:
		return delayed(m.late, next, r)
	case !strings.Contains(r.URL.Path, "/namespaces/tenant-"), m.onlyJobs && !strings.HasSuffix(r.URL.Path, "/jobs"):
		return next.RoundTrip(r)
	}
	n := m.left.Add(-1)
	switch {
	case n < 0:
		return nil, errKilled
	case n > 0:
		return next.RoundTrip(r)
	case m.arrives:
		if response, err := next.RoundTrip(r); err == nil {
			_ = response.Body.Close()
		}
	}
	close(m.died)
	return nil, errKilled
}

// die returns when it is dead: with its last write, or when it has had nothing to write for a while.
func (m *crashingOperator) die() {
	select {
	case <-m.died:
	case <-time.After(time.Second): // everything that may run does
		m.left.Store(0)
	}
	m.Stop()
}

var errKilled = errors.New("killed")

// delayed has what the watch of Jobs tells come late.
func delayed(late time.Duration, next http.RoundTripper, r *http.Request) (*http.Response, error) {
	response, err := next.RoundTrip(r)
	if err == nil && strings.HasSuffix(r.URL.Path, "/apis/batch/v1/jobs") && r.URL.Query().Has("watch") {
		response.Body = newLateBody(response.Body, late)
	}
	return response, err
}

// lateBody is a body of which each part comes a fixed time late.
type lateBody struct {
	io.Closer
	late  time.Duration
	parts chan part
	rest  part
}

type part struct {
	data []byte
	err  error
	came time.Time
}

func newLateBody(body io.ReadCloser, late time.Duration) *lateBody {
	b := &lateBody{Closer: body, late: late, parts: make(chan part, 10000)}
	go func() {
		for {
			data := make([]byte, 32<<10)
			n, err := body.Read(data)
			b.parts <- part{data[:n], err, time.Now()}
			if err != nil {
				return
			}
		}
	}()
	return b
}

func (b *lateBody) Read(p []byte) (int, error) {
	if len(b.rest.data) == 0 && b.rest.err == nil {
		b.rest = <-b.parts
		<-time.After(time.Until(b.rest.came.Add(b.late)))
	}
	n := copy(p, b.rest.data)
	if b.rest.data = b.rest.data[n:]; len(b.rest.data) > 0 {
		return n, nil
	}
	return n, b.rest.err
}

// finishLate ends each pod of a tenant well, up to some time after it came to run.
func finishLate(t *testing.T, tenant *v1alpha1.Tenant, most time.Duration) {
	t.Helper()
	Follow(t, &corev1.PodList{}, tenant.NamespaceName(), func(ctx context.Context, _ watch.EventType, obj client.Object) {
		if pod := obj.(*corev1.Pod); pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil {
			time.AfterFunc(rand.N(most), func() { _ = SetPhase(ctx, pod, corev1.PodSucceeded, corev1.ConditionFalse) })
		}
	})
}

// startLog is what has become of the Jobs of a queue, in the order of the API server.
type startLog struct {
	mu sync.Mutex
	// order are the Jobs as they were made.
	order []*batchv1.Job
	names map[types.NamespacedName]bool
	live  map[types.UID]*batchv1.Job
}

// followStarts keeps the log of a queue's Jobs from now on. It fails the test when a TenantJob is started twice, and when
// more live than may: in the "queue", of a "tenant", or of a "template x" for a tenant.
func followStarts(t *testing.T, name string, limits map[string]int) *startLog {
	t.Helper()
	l := &startLog{names: map[types.NamespacedName]bool{}, live: map[types.UID]*batchv1.Job{}}
	Follow(t, &batchv1.JobList{}, "", func(_ context.Context, event watch.EventType, obj client.Object) {
		j := obj.(*batchv1.Job)
		if j.Labels[v1alpha1.LabelQueue] != name {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if event == watch.Added {
			if l.names[kube.KeyOf(j)] {
				t.Errorf("%s was started twice", kube.KeyOf(j))
			}
			l.names[kube.KeyOf(j)] = true
			l.order = append(l.order, j)
		}
		delete(l.live, j.UID)
		if event != watch.Deleted && job.IsLive(j) {
			l.live[j.UID] = j
		}
		for what, n := range l.counts() {
			kind, _, _ := strings.Cut(what, " of ")
			if limit := limits[kind]; limit > 0 && n > limit {
				t.Errorf("%d live at once in %s after %s: %d may", n, what, kube.KeyOf(j), limit)
			}
		}
	})
	return l
}

// counts are how many live.
func (l *startLog) counts() map[string]int {
	n := map[string]int{}
	for _, j := range l.live {
		tenant := j.Labels[v1alpha1.LabelTenant]
		n["queue"]++
		n["tenant of "+tenant]++
		n[fmt.Sprintf("template %s of %s", j.Labels[v1alpha1.LabelTemplate], tenant)]++
	}
	return n
}

func (l *startLog) total() int { return len(l.all()) }

// all are the Jobs that there have ever been, in the order in which they were made.
func (l *startLog) all() []*batchv1.Job {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.order)
}

// tenants are those whose Jobs were made, in that order.
func (l *startLog) tenants() []string {
	var all []string
	for _, j := range l.all() {
		all = append(all, j.Labels[v1alpha1.LabelTenant])
	}
	return all
}

// TestDispatcherLosesItsLease: an operator that has lost its lease starts nothing more beside the one that has it.
func TestDispatcherLosesItsLease(t *testing.T) {
	q := newQueue(t, v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(2))})
	template := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.QueueRef = &v1alpha1.LabelReference{Name: q.Name} })
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	starts := followStarts(t, q.Name, map[string]int{"queue": 2})
	WithoutOperator(t)
	var lost atomic.Bool
	var late atomic.Int32
	old := &OtherOperator{Leadership: WhileNot{Lost: &lost}}
	old.Through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if lost.Load() && r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/jobs") {
			late.Add(1)
		}
		return next.RoundTrip(r)
	}
	old.Start(t)
	var all []*v1alpha1.TenantJob
	for range 12 {
		all = append(all, NewTenantJob(t, tenant, template))
	}
	Eventually(t, func(g gomega.Gomega) { g.Expect(starts.total()).To(gomega.Equal(2)) })
	lost.Store(true)
	// There is room for a third, and the old one knows it: it does not look away from what has ended.
	Finish(t, tenantJobOfStart(starts.all()[0]), corev1.PodSucceeded)
	AwaitStatus(t, tenantJobOfStart(starts.all()[0]), IsTrue, v1alpha1.ReasonCompleted, "")
	gomega.NewWithT(t).Expect(starts.total()).To(gomega.Equal(2))
	(&OtherOperator{}).Start(t)
	Finish(t, tenantJobOfStart(starts.all()[1]), corev1.PodSucceeded)
	FinishAll(t, tenant)
	for _, tj := range all {
		AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
	}
	gomega.NewWithT(t).Expect(starts.total()).To(gomega.Equal(len(all)))
	gomega.NewWithT(t).Expect(late.Load()).To(gomega.BeZero())
}

// TestDispatcherRestartKeepsStartsPerMinute: the starts of the last minute count after the operator was killed, although nothing is
// left of them.
func TestDispatcherRestartKeepsStartsPerMinute(t *testing.T) {
	q := newQueue(t, v1alpha1.TenantQueueSpec{StartsPerMinute: new(int32(3))})
	template := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.QueueRef = &v1alpha1.LabelReference{Name: q.Name} })
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	WithoutOperator(t)
	// By the operators' clock it is all within one minute, however long it takes.
	clock, began := &ShiftedClock{}, time.Now()
	clock.StopAt(began)
	killed := &OtherOperator{Clock: clock}
	killed.Start(t)
	for range 3 {
		tj := NewTenantJob(t, tenant, template)
		Finish(t, tj, corev1.PodSucceeded)
		AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
		Remove(t, tj)
		AwaitGone(t, JobOf(tj))
	}
	killed.Stop()
	next := &OtherOperator{Clock: clock}
	next.Start(t)
	waits := NewTenantJob(t, tenant, template)
	clock.GoSlowly() // It says so when it has waited for a while.
	AwaitStatus(t, waits, Unknown, v1alpha1.ReasonQueued, fmt.Sprintf("queue %s starts at most 3 a minute", q.Name))
	clock.StopAt(began.Add(time.Hour))
	AwaitRunningPod(t, waits)
}

// tenantJobOfStart names the TenantJob of a Job, to be read.
func tenantJobOfStart(j *batchv1.Job) *v1alpha1.TenantJob {
	tj := &v1alpha1.TenantJob{}
	tj.Namespace, tj.Name = j.Namespace, j.Name
	return tj
}
