package controller_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/internal/dispatch"
	"github.com/tenantry/tenantry/internal/kube"
)

// throughQueue has a template's runs wait in a queue.
func throughQueue(name string) func(*v1alpha1.TenantJobTemplate) {
	return func(o *v1alpha1.TenantJobTemplate) { o.Spec.QueueRef = &v1alpha1.LabelReference{Name: name} }
}

func limitedTo(n int32) v1alpha1.TenantQueueSpec {
	return v1alpha1.TenantQueueSpec{MaxConcurrent: &n}
}

// awaitStarted waits until a TenantJob has its Job.
func awaitStarted(t *testing.T, tj *v1alpha1.TenantJob) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) { Get(t, g, JobOf(tj)) })
}

// TestDispatcherSaysWhatHolds: what a TenantJob says that holds it is what has to be changed for it to start.
func TestDispatcherSaysWhatHolds(t *testing.T) {
	t.Parallel()
	// given starts what is in the way, and returns who waits, for what it says, and what lifts exactly that.
	type given func(t *testing.T) (waits *v1alpha1.TenantJob, says string, lift func())
	ofQueue := func(spec v1alpha1.TenantQueueSpec, says string, runs int) given {
		return func(t *testing.T) (*v1alpha1.TenantJob, string, func()) {
			q := newQueue(t, spec)
			tenant, template := NewReadyTenant(t, v1alpha1.TenantSpec{}), NewReadyTemplate(t, throughQueue(q.Name))
			for range runs {
				awaitStarted(t, NewTenantJob(t, tenant, template))
			}
			return NewTenantJob(t, tenant, template), fmt.Sprintf(says, q.Name), func() {
				Patch(t, q, func(o *v1alpha1.TenantQueue) { o.Spec = v1alpha1.TenantQueueSpec{} })
			}
		}
	}
	for name, prepare := range map[string]given{
		"queue":           ofQueue(limitedTo(1), "queue %s is full (`spec.maxConcurrent`: 1)", 1),
		"share":           ofQueue(v1alpha1.TenantQueueSpec{MaxConcurrentPerTenant: new(int32(1))}, "queue %s runs at most 1 at once for a tenant (`spec.maxConcurrentPerTenant`)", 1),
		"suspended queue": ofQueue(v1alpha1.TenantQueueSpec{Suspend: new(true)}, "queue %s is suspended (`spec.suspend`)", 0),
		"no queue": func(t *testing.T) (*v1alpha1.TenantJob, string, func()) {
			name := fmt.Sprintf("queue-%d", Serial.Add(1))
			tj := NewTenantJob(t, NewReadyTenant(t, v1alpha1.TenantSpec{}), NewReadyTemplate(t, throughQueue(name)))
			return tj, "there is no TenantQueue " + name + ": create it", func() { Create(t, &v1alpha1.TenantQueue{ObjectMeta: metav1.ObjectMeta{Name: name}}) }
		},
		"tenant": func(t *testing.T) (*v1alpha1.TenantJob, string, func()) {
			tenant, template := NewReadyTenant(t, AtMost(1)), NewReadyTemplate(t, nil)
			awaitStarted(t, NewTenantJob(t, tenant, template))
			return NewTenantJob(t, tenant, template), "tenant " + tenant.Name + " runs at most 1 at once (`spec.jobs.maxConcurrent`)", func() {
				Patch(t, tenant, func(o *v1alpha1.Tenant) { o.Spec.Jobs = nil })
			}
		},
		"template": func(t *testing.T) (*v1alpha1.TenantJob, string, func()) {
			tenant, template := NewReadyTenant(t, v1alpha1.TenantSpec{}), NewReadyTemplate(t, AtMostPerTenant(1))
			awaitStarted(t, NewTenantJob(t, tenant, template))
			return NewTenantJob(t, tenant, template), "template " + template.Name + " runs at most 1 at once for a tenant (`spec.maxConcurrentPerTenant`)", func() {
				Patch(t, template, func(o *v1alpha1.TenantJobTemplate) { o.Spec.MaxConcurrentPerTenant = nil })
			}
		},
		"fan-out": func(t *testing.T) (*v1alpha1.TenantJob, string, func()) {
			one := intstr.FromInt32(1)
			tenants := NewReadyTenants(t, 2)
			fanOut := NewFanOut(t, NewReadyTemplate(t, nil).Name, tenants, func(o *v1alpha1.TenantFanOut) {
				o.Spec.Strategy = &v1alpha1.FanOutStrategy{MaxConcurrent: &one}
			})
			return theWaiting(t, tenants, fanOut), "fan-out " + fanOut.Name + " is full (`spec.strategy.maxConcurrent`: 1)", func() {
				Patch(t, fanOut, func(o *v1alpha1.TenantFanOut) { o.Spec.Strategy.MaxConcurrent = nil })
			}
		},
		"suspended fan-out": func(t *testing.T) (*v1alpha1.TenantJob, string, func()) {
			q := newQueue(t, limitedTo(1))
			tenants := NewReadyTenants(t, 2)
			fanOut := NewFanOut(t, NewReadyTemplate(t, throughQueue(q.Name)).Name, tenants, nil)
			waits := theWaiting(t, tenants, fanOut)
			Patch(t, fanOut, func(o *v1alpha1.TenantFanOut) { o.Spec.Suspend = new(true) })
			AwaitFanOut(t, fanOut, v1alpha1.ConditionPaused, IsTrue, v1alpha1.ReasonSuspended, "")
			Patch(t, q, func(o *v1alpha1.TenantQueue) { o.Spec.MaxConcurrent = nil })
			return waits, "fan-out " + fanOut.Name + " is paused", func() {
				Patch(t, fanOut, func(o *v1alpha1.TenantFanOut) { o.Spec.Suspend = nil })
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			waits, says, lift := prepare(t)
			AwaitStatus(t, waits, Unknown, v1alpha1.ReasonQueued, says)
			lift()
			awaitStarted(t, waits)
		})
	}
}

// TestDispatcherSaysThatTheRateHolds: the minute of startsPerMinute is that of the operator's clock, which hardly goes on here.
func TestDispatcherSaysThatTheRateHolds(t *testing.T) {
	q := newQueue(t, v1alpha1.TenantQueueSpec{StartsPerMinute: new(int32(2))})
	tenant, template := NewReadyTenant(t, v1alpha1.TenantSpec{}), NewReadyTemplate(t, throughQueue(q.Name))
	WithoutOperator(t)
	a := &OtherOperator{Clock: &ShiftedClock{}}
	a.Clock.StopAt(time.Now())
	a.Start(t)
	for range 2 {
		awaitStarted(t, NewTenantJob(t, tenant, template))
	}
	waits := NewTenantJob(t, tenant, template)
	a.Clock.GoSlowly() // It says so when it has waited for a while.
	AwaitStatus(t, waits, Unknown, v1alpha1.ReasonQueued, "queue "+q.Name+" starts at most 2 a minute (`spec.startsPerMinute`)")
	Patch(t, q, func(o *v1alpha1.TenantQueue) { o.Spec = v1alpha1.TenantQueueSpec{} })
	awaitStarted(t, waits)
}

// theWaiting is the child of a fan-out that waits while the other one runs.
func theWaiting(t *testing.T, tenants []*v1alpha1.Tenant, fanOut *v1alpha1.TenantFanOut) *v1alpha1.TenantJob {
	t.Helper()
	var waits []*v1alpha1.TenantJob
	Eventually(t, func(g gomega.Gomega) {
		waits = nil
		for _, tenant := range tenants {
			child := Get(t, g, ChildIn(tenant, fanOut))
			if conditions.Get(child.Status.Conditions, v1alpha1.ConditionSucceeded).Reason == v1alpha1.ReasonQueued {
				waits = append(waits, child)
			}
		}
		g.Expect(waits).To(gomega.HaveLen(1))
	})
	return waits[0]
}

// makeMany makes TenantJobs, many at a time. They go with their tenants.
func makeMany(t *testing.T, n int, template *v1alpha1.TenantJobTemplate, tenants ...*v1alpha1.Tenant) []*v1alpha1.TenantJob {
	t.Helper()
	all := make([]*v1alpha1.TenantJob, n)
	var makers sync.WaitGroup
	for maker := range 20 {
		makers.Go(func() {
			for i := maker; i < n; i += 20 {
				tenant := tenants[i%len(tenants)]
				all[i] = &v1alpha1.TenantJob{ObjectMeta: Within(tenant, fmt.Sprintf("run-%d", Serial.Add(1))), Spec: v1alpha1.TenantJobSpec{
					TenantRef: v1alpha1.TenantReference{Name: tenant.Name}, TemplateRef: v1alpha1.LabelReference{Name: template.Name},
				}}
				if err := Admin.Create(t.Context(), all[i]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	makers.Wait()
	return all
}

// awaitAllSay waits until all TenantJobs in a tenant's namespace that run a template say a reason.
func awaitAllSay(t *testing.T, tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate, n int, reason string) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		var list v1alpha1.TenantJobList
		g.Expect(Admin.List(t.Context(), &list, client.InNamespace(tenant.NamespaceName()))).To(gomega.Succeed())
		say := 0
		for _, tj := range list.Items {
			if tj.Spec.TemplateRef.Name == template.Name && conditions.Get(tj.Status.Conditions, v1alpha1.ConditionSucceeded).Reason == reason {
				say++
			}
		}
		g.Expect(say).To(gomega.Equal(n))
	})
}

// TestDispatcherWaitingCostsNothing: hundreds that wait cost two writes each, their labels and why they wait, and none
// after that, whatever starts and ends beside them.
func TestDispatcherWaitingCostsNothing(t *testing.T) {
	t.Parallel()
	n := 300
	if testing.Short() {
		n = 100
	}
	q := newQueue(t, limitedTo(4))
	template := NewReadyTemplate(t, throughQueue(q.Name))
	crowd, other := NewReadyTenant(t, AtMost(1)), NewReadyTenant(t, v1alpha1.TenantSpec{})
	blocks := NewTenantJob(t, crowd, template)
	awaitStarted(t, blocks)
	AwaitStatus(t, blocks, Unknown, v1alpha1.ReasonRunning, "")
	waiting := makeMany(t, n, template, crowd)
	awaitAllSay(t, crowd, template, n, v1alpha1.ReasonQueued)
	before := len(Operator.Requests())
	writes := writesPerRun(Operator.Requests(), waiting)
	for _, tj := range waiting {
		// Of a cache that is behind comes one that is refused.
		if n := writes[tj.Name]; n > 3 {
			t.Errorf("%s cost %d writes until it said what holds it", tj.Name, n)
		}
	}
	// The others come and go through what is left of the queue, which is full at times.
	FinishAll(t, other)
	var others []*v1alpha1.TenantJob
	for range 20 {
		others = append(others, NewTenantJob(t, other, template))
	}
	for _, tj := range others {
		AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
	}
	if writes := writesPerRun(Operator.Requests()[before:], waiting); len(writes) != 0 {
		t.Errorf("writes for those that wait: %v", writes)
	}
}

// writesPerRun counts the writes for TenantJobs among some requests, by name.
func writesPerRun(requests []string, runs []*v1alpha1.TenantJob) map[string]int {
	is := map[string]bool{}
	for _, tj := range runs {
		is[tj.Name] = true
	}
	n := map[string]int{}
	for _, r := range requests {
		method, path, _ := strings.Cut(r, " ")
		_, name, found := strings.Cut(path, "/tenantjobs/")
		name, _, _ = strings.Cut(name, "/")
		if found && method != http.MethodGet && is[name] {
			n[name]++
		}
	}
	return n
}

// TestDispatcherLimitsChange: limits take effect at once, in both directions, and stop nothing that runs.
func TestDispatcherLimitsChange(t *testing.T) {
	t.Parallel()
	q := newQueue(t, limitedTo(3))
	tenant, template := NewReadyTenant(t, v1alpha1.TenantSpec{}), NewReadyTemplate(t, throughQueue(q.Name))
	starts := followStarts(t, q.Name, map[string]int{"queue": 3})
	for range 7 {
		NewTenantJob(t, tenant, template)
	}
	live := func(n int) {
		t.Helper()
		Eventually(t, func(g gomega.Gomega) { g.Expect(starts.alive()).To(gomega.HaveLen(n)) })
	}
	endOne := func() {
		t.Helper()
		tj := tenantJobOfStart(starts.alive()[0])
		Finish(t, tj, corev1.PodSucceeded)
		AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
	}
	live(3)
	Patch(t, q, func(o *v1alpha1.TenantQueue) { o.Spec = limitedTo(1) })
	awaitQueue(t, q, "limits are in force")
	endOne()
	endOne()
	live(1)
	Patch(t, q, func(o *v1alpha1.TenantQueue) { o.Spec.Suspend = new(true) })
	awaitQueue(t, q, "suspended: nothing starts")
	endOne()
	live(0)
	gomega.NewWithT(t).Expect(starts.total()).To(gomega.Equal(3))
	Patch(t, q, func(o *v1alpha1.TenantQueue) { o.Spec.Suspend = nil })
	live(1)
	Patch(t, q, func(o *v1alpha1.TenantQueue) { o.Spec = limitedTo(3) })
	live(3)
	endOne()
	live(3)
	gomega.NewWithT(t).Expect(starts.total()).To(gomega.Equal(7))
}

// alive are the Jobs that live, the oldest first.
func (l *startLog) alive() []*batchv1.Job {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*batchv1.Job
	for _, j := range l.order {
		if l.live[j.UID] != nil {
			all = append(all, j)
		}
	}
	return all
}

// TestDispatcherDefaultQueue: it needs no object, and takes limits when there is one. It is not parallel, since other
// tests use the queue.
func TestDispatcherDefaultQueue(t *testing.T) {
	tenant, template := NewReadyTenant(t, v1alpha1.TenantSpec{}), NewReadyTemplate(t, nil)
	var running []*v1alpha1.TenantJob
	for range 2 {
		tj := NewTenantJob(t, tenant, template)
		awaitStarted(t, tj)
		running = append(running, tj)
	}
	q := Create(t, &v1alpha1.TenantQueue{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultQueue}, Spec: v1alpha1.TenantQueueSpec{
		MaxConcurrentPerTenant: new(int32(2)), // whatever other tests have left in it
	}})
	awaitQueue(t, q, "limits are in force")
	waits := NewTenantJob(t, tenant, template)
	AwaitStatus(t, waits, Unknown, v1alpha1.ReasonQueued, "queue default runs at most 2 at once for a tenant")
	Finish(t, running[0], corev1.PodSucceeded)
	awaitStarted(t, waits)
	another := NewTenantJob(t, tenant, template)
	AwaitStatus(t, another, Unknown, v1alpha1.ReasonQueued, "queue default runs at most 2")
	Remove(t, q)
	awaitStarted(t, another)
}

// TestDispatcherWeights: with weights 1 and 3, and both always waiting, starts come 1 to 3.
func TestDispatcherWeights(t *testing.T) {
	t.Parallel()
	q := newQueue(t, v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(1)), Suspend: new(true)})
	template := NewReadyTemplate(t, throughQueue(q.Name))
	weighing := func(n int32) *v1alpha1.Tenant {
		return NewReadyTenant(t, v1alpha1.TenantSpec{Jobs: &v1alpha1.TenantJobLimits{Weight: &n}})
	}
	light, heavy := weighing(1), weighing(3)
	const n = 16
	for _, tenant := range []*v1alpha1.Tenant{light, heavy} {
		makeMany(t, n, template, tenant)
		awaitAllSay(t, tenant, template, n, v1alpha1.ReasonQueued)
	}
	starts := followStarts(t, q.Name, map[string]int{"queue": 1})
	FinishAll(t, light)
	FinishAll(t, heavy)
	Patch(t, q, func(o *v1alpha1.TenantQueue) { o.Spec.Suspend = nil })
	Eventually(t, func(g gomega.Gomega) { g.Expect(starts.total()).To(gomega.BeNumerically(">=", n)) })
	// The order is that of the weights at every moment, but for a turn that somebody was called back in.
	ofLight := 0
	for i, name := range starts.tenants()[:n] {
		if name == light.Name {
			ofLight++
		}
		if share := float64(i+1) / 4; float64(ofLight) < share-1.5 || float64(ofLight) > share+1.5 {
			t.Fatalf("after %d starts %d were of weight 1: %v", i+1, ofLight, starts.tenants())
		}
	}
}

// TestDispatcherFlood: one tenant's flood is not felt by the others: each has its turn after one of each. The queue is suspended
// while they are made, so that the flood waits when the others come, however fast the machine makes and starts them.
func TestDispatcherFlood(t *testing.T) {
	t.Parallel()
	tenants, flood, slots := 50, 1000, 20
	if testing.Short() {
		tenants, flood, slots = 8, 200, 4
	}
	q := newQueue(t, limitedTo(int32(slots)))
	template := NewReadyTemplate(t, throughQueue(q.Name))
	all := NewReadyTenants(t, tenants)
	floods, others := all[0], all[1:]
	starts := followStarts(t, q.Name, map[string]int{"queue": slots})
	for _, tenant := range all {
		FinishAll(t, tenant)
	}
	makeMany(t, flood/2, template, floods)
	Patch(t, q, func(o *v1alpha1.TenantQueue) { o.Spec.Suspend = new(true) })
	awaitQueue(t, q, "suspended: nothing starts")
	makeMany(t, flood/2, template, floods)
	waited := oneEach(t, starts, others, template, func() {
		// The operator may hear of them late.
		for _, tenant := range others {
			awaitAllSay(t, tenant, template, 1, v1alpha1.ReasonQueued)
		}
		Patch(t, q, func(o *v1alpha1.TenantQueue) { o.Spec.Suspend = nil })
	})
	t.Logf("they waited for so many starts of others: %v", waited)
	if most := waited[len(waited)-1]; most > tenants+slots {
		t.Errorf("one waited for %d starts of others", most)
	}
}

// oneEach makes a TenantJob for each tenant, lets them start, and waits until they have. It returns for how many starts of others
// each has waited, the fewest first.
func oneEach(t *testing.T, l *startLog, tenants []*v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate, let func()) (starts []int) {
	t.Helper()
	all := makeMany(t, len(tenants), template, tenants...)
	let()
	for _, tj := range all {
		var made *batchv1.Job
		Eventually(t, func(g gomega.Gomega) {
			all := l.all()
			i := slices.IndexFunc(all, func(j *batchv1.Job) bool { return kube.KeyOf(j) == kube.KeyOf(tj) })
			g.Expect(i).To(gomega.BeNumerically(">=", 0))
			made = all[i]
		})
		from, to, n := version(t, tj), version(t, made), 0
		for _, other := range l.all() {
			if v := version(t, other); from < v && v < to {
				n++
			}
		}
		starts = append(starts, n)
	}
	slices.Sort(starts)
	return starts
}

// version is the place of what happened last to an object in the order of the API server.
func version(t *testing.T, obj metav1.Object) int {
	t.Helper()
	v, err := strconv.Atoi(obj.GetResourceVersion())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestDispatcherDefersStatuses: in a rush of starts nothing is written about those that have started, which else would
// be after SettleAfter, but when it is over.
func TestDispatcherDefersStatuses(t *testing.T) {
	tenant, template := NewReadyTenant(t, v1alpha1.TenantSpec{}), NewReadyTemplate(t, nil)
	WithoutOperator(t)
	all := makeMany(t, 3*dispatch.RushStarts, template, tenant)
	var mu sync.Mutex
	var firstStatus time.Time
	a := &OtherOperator{Clock: &ShiftedClock{}}
	a.Through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if strings.Contains(r.URL.Path, tenant.NamespaceName()+"/tenantjobs/") && strings.HasSuffix(r.URL.Path, "/status") {
			mu.Lock()
			if firstStatus.IsZero() {
				firstStatus = a.Clock.Now()
			}
			mu.Unlock()
		}
		return next.RoundTrip(r)
	}
	// By the operator's clock all start at the same time, however long it takes.
	started := time.Now()
	a.Clock.StopAt(started)
	a.Start(t)
	for _, tj := range all {
		awaitStarted(t, tj)
	}
	a.Clock.GoOn()
	for _, tj := range all {
		Eventually(t, func(g gomega.Gomega) { g.Expect(Get(t, g, tj).Status.JobRef).NotTo(gomega.BeNil()) })
	}
	mu.Lock()
	defer mu.Unlock()
	if after := firstStatus.Sub(started); after < dispatch.RushLasts {
		t.Errorf("the first status was written %s after the last start", after)
	}
}
