package dispatch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	toolscache "k8s.io/client-go/tools/cache"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/queue"
)

// fixture is a dispatcher without an API server: the test tells it what the watches would, and what is live.
type fixture struct {
	*loop
	t      *testing.T
	clock  *clocktesting.FakeClock
	leader bool
	// othersRenewal is when another process last renewed the lease.
	othersRenewal time.Time
	// there is what the API server has.
	there client.WithWatch
	// jobStore and tenantJobStore are the caches.
	jobStore, tenantJobStore toolscache.Indexer
	// whileSyncing is called when it lists what runs.
	whileSyncing func()
	// requested are the names of those that were requested since they were last asked for.
	requested []string
	// unreserved are the queues whose starts are to be written down.
	unreserved []string
}

// newFixture knows queue q, template report, and tenants acme and globex without limits. It is not open.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	d := &fixture{t: t, clock: clocktesting.NewFakeClock(time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)), leader: true}
	d.there = newStore(func() {
		if d.whileSyncing != nil {
			d.whileSyncing()
		}
	})
	d.jobStore = toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, toolscache.Indexers{toolscache.NamespaceIndex: toolscache.MetaNamespaceIndexFunc})
	d.tenantJobStore = toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, nil)
	d.loop = &loop{
		Dispatcher: New(logr.Discard(), d.clock, d.there, leaseOf{d}),
		jobs:       kube.JobListerOf(kube.ListerOf[*kube.CachedJob](d.jobStore)),
		tenantJobs: kube.ListerOf[*v1alpha1.TenantJob](d.tenantJobStore),
	}
	d.SendRequests(func(s Request) { d.requested = append(d.requested, nameOf(s.NamespacedName)) })
	d.SendQueueRequests(func(name string) { d.unreserved = append(d.unreserved, name) })
	d.jobsIn = d.jobs.In
	d.tenantJob = func(key types.NamespacedName) *v1alpha1.TenantJob {
		tj, _ := d.tenantJobs.Get(key)
		return tj
	}
	d.limitQueue(v1alpha1.TenantQueueSpec{})
	d.limitTenant("acme", v1alpha1.TenantJobLimits{})
	d.limitTenant("globex", v1alpha1.TenantJobLimits{})
	return d
}

// leaseOf is what the dispatcher of a test knows of its lease.
type leaseOf struct{ *fixture }

func (l leaseOf) Leads() bool { return l.leader }

func (l leaseOf) OthersRenewal() time.Time { return l.othersRenewal }

// newSyncedFixture is one that has found that nothing runs.
func newSyncedFixture(t *testing.T) *fixture {
	t.Helper()
	d := newFixture(t)
	d.syncs()
	return d
}

// newStoreWith is an API server that has a Job, which may be being deleted.
func newStoreWith(j *batchv1.Job) client.WithWatch {
	return interceptor.NewClient(fake.NewClientBuilder().WithScheme(newScheme()).WithObjects(j.DeepCopy()).Build(), withoutFields(func() {}))
}

// newStore is an API server that leaves field selectors to the test.
func newStore(listed func()) client.WithWatch {
	return fake.NewClientBuilder().WithScheme(newScheme()).WithInterceptorFuncs(withoutFields(listed)).Build()
}

// withoutFields has lists ignore field selectors, and calls back with each.
func withoutFields(listed func()) interceptor.Funcs {
	return interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			asked := (&client.ListOptions{}).ApplyOptions(opts)
			asked.FieldSelector = nil
			err := c.List(ctx, list, asked)
			listed()
			return err
		},
	}
}

// caches puts a Job into the cache, without an event.
func (d *fixture) caches(j *batchv1.Job) {
	d.t.Helper()
	cached, err := kube.StripJob(j.DeepCopy())
	if err == nil {
		err = d.jobStore.Add(cached)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// uncaches takes a Job out of the cache, without a word to the dispatcher.
func (d *fixture) uncaches(j *batchv1.Job) {
	d.t.Helper()
	if err := d.jobStore.Delete(j); err != nil {
		d.t.Fatal(err)
	}
}

func (d *fixture) syncs() {
	d.t.Helper()
	if err := d.sync(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	d.admitDue()
}

func (d *fixture) limitQueue(spec v1alpha1.TenantQueueSpec) {
	d.queueChanged(&v1alpha1.TenantQueue{ObjectMeta: metav1.ObjectMeta{Name: "q"}, Spec: spec})
}

func (d *fixture) limitTenant(name string, limits v1alpha1.TenantJobLimits) {
	d.tenantChanged(&v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.TenantSpec{Jobs: &limits},
		Status: v1alpha1.TenantStatus{Namespace: &v1alpha1.TenantNamespaceStatus{Name: "tenant-" + name, UID: types.UID("namespace of " + name)}},
	})
}

func (d *fixture) limitTemplate(perTenant *int32) {
	d.templateChanged(&v1alpha1.TenantJobTemplate{
		ObjectMeta: metav1.ObjectMeta{Name: "report"}, Spec: v1alpha1.TenantJobTemplateSpec{MaxConcurrentPerTenant: perTenant},
	})
}

// run is the TenantJob called "<tenant>/<name>", which is its UID, too.
func (d *fixture) run(name string) queue.Job {
	tenant, name, _ := strings.Cut(name, "/")
	key := types.NamespacedName{Namespace: "tenant-" + tenant, Name: name}
	return queue.Job{UID: types.UID(nameOf(key)), Key: key, Queue: "q", Tenant: tenant, Template: "report", Created: d.clock.Now()}
}

func nameOf(key types.NamespacedName) string {
	return strings.TrimPrefix(key.Namespace, "tenant-") + "/" + key.Name
}

// ofFanOut makes a run a child.
func ofFanOut(j queue.Job, name string) queue.Job {
	j.FanOut = name
	return j
}

// ofSchedule makes a run one of a schedule.
func ofSchedule(j queue.Job, policy v1alpha1.ConcurrencyPolicy) queue.Job {
	j.Schedule, j.Overlap = "nightly", policy
	return j
}

// begins expects that a run may begin now, and returns its end.
func (d *fixture) begins(j queue.Job) func(StartResult) {
	d.t.Helper()
	a := d.Ask(j, "")
	if a.Finish == nil {
		d.t.Fatalf("%s may not begin: %+v", j.UID, a)
	}
	return func(r StartResult) { a.Finish(r, "the API server refuses the Job: quota") }
}

// starts expects that a run may begin now, and gives it its Job.
func (d *fixture) starts(j queue.Job) *batchv1.Job {
	d.t.Helper()
	end := d.begins(j)
	made := d.jobOf(j)
	end(Made)
	d.jobChanged(made)
	return made
}

// Ask asks again when starts had to be written down before.
func (d *fixture) Ask(j queue.Job, message string) Answer {
	a := d.Dispatcher.Ask(j, message)
	if d.recordStarts() {
		a = d.Dispatcher.Ask(j, message)
	}
	return a
}

// recordStarts writes down the starts that are to be written down, and says whether there were some.
func (d *fixture) recordStarts() bool {
	requested := d.unreserved
	d.unreserved = nil
	for _, name := range requested {
		if record := d.StartRecord(name); record != nil {
			d.StartsRecorded(name, record)
		}
	}
	return len(requested) > 0
}

// waits expects that a run may not begin now.
func (d *fixture) waits(j queue.Job) Answer {
	d.t.Helper()
	a := d.Ask(j, "")
	if a.Finish != nil || a.End != nil {
		d.t.Fatalf("%s does not wait: %+v", j.UID, a)
	}
	return a
}

// waitsFor expects that a run waits, and says this when it has for a while.
func (d *fixture) waitsFor(j queue.Job, message string) {
	d.t.Helper()
	d.waits(j)
	d.clock.Step(job.SettleAfter)
	if a := d.waits(j); a.Hold.Kind == "" || a.Hold.Message() != message {
		d.t.Errorf("%s waits for %q, want %q", j.UID, a.Hold.Message(), message)
	}
}

// expectEnd expects that a run is to end.
func (d *fixture) expectEnd(j queue.Job, reason, message string) {
	d.t.Helper()
	a := d.Ask(j, "")
	if a.End == nil || a.End.Reason != reason || !strings.Contains(a.End.Message, message) {
		d.t.Fatalf("%s: %+v, end %v, want %s: %s", j.UID, a, a.End, reason, message)
	}
}

// calls expects that these and no others were called since the last time, in whatever order.
func (d *fixture) expectRequests(want ...string) {
	d.t.Helper()
	got := d.requested
	d.requested = nil
	if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		d.t.Errorf("called %v, want %v", got, want)
	}
}

// jobOf is the live Job of a run.
func (d *fixture) jobOf(j queue.Job) *batchv1.Job {
	owner := &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{Name: j.Key.Name, UID: j.UID}}
	labels := map[string]string{v1alpha1.LabelTenant: j.Tenant, v1alpha1.LabelTemplate: j.Template, v1alpha1.LabelQueue: j.Queue}
	maps.Copy(labels, map[string]string{v1alpha1.LabelFanOut: j.FanOut, v1alpha1.LabelSchedule: j.Schedule})
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{
		Namespace: j.Key.Namespace, Name: j.Key.Name, UID: "job of " + j.UID, CreationTimestamp: metav1.NewTime(d.clock.Now()), Labels: labels,
		Annotations:     map[string]string{v1alpha1.AnnotationTemplateGeneration: "1"},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, v1alpha1.GroupVersion.WithKind("TenantJob"))},
	}}
}

// ended is a Job that has ended.
func ended(j *batchv1.Job, how batchv1.JobConditionType) *batchv1.Job {
	j = j.DeepCopy()
	j.Status.Conditions = append(j.Status.Conditions, batchv1.JobCondition{Type: how, Status: corev1.ConditionTrue})
	return j
}

// podOf is a pod that a Job has.
func podOf(j *batchv1.Job) *corev1.Pod {
	labels := maps.Clone(j.Labels)
	maps.Copy(labels, map[string]string{batchv1.ControllerUidLabel: string(j.UID), batchv1.JobNameLabel: j.Name})
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: j.Namespace, Name: j.Name + "-x", Labels: labels, CreationTimestamp: j.CreationTimestamp,
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(j, batchv1.SchemeGroupVersion.WithKind("Job"))},
	}}
}

// tenantJobOf is the TenantJob of a run.
func tenantJobOf(j queue.Job) *v1alpha1.TenantJob {
	return &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{Namespace: j.Key.Namespace, Name: j.Key.Name, UID: j.UID}}
}

// put objects into a store.
func (d *fixture) put(store client.Client, objects ...client.Object) {
	d.t.Helper()
	for _, obj := range objects {
		if err := store.Create(d.t.Context(), obj.DeepCopyObject().(client.Object)); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *fixture) running(want int) {
	d.t.Helper()
	if got := d.Counts()["q"].Running; got != want {
		d.t.Errorf("%d hold slots, want %d", got, want)
	}
}

// names of the runs acme/1 to acme/n.
func many(tenant string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s/%d", tenant, i+1)
	}
	return all
}

// standing is what the Dispatcher knows of a run.
func (d *fixture) standing(j queue.Job) Standing { return d.Standing(tenantJobOf(j)) }

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(s))
	utilruntime.Must(v1alpha1.AddToScheme(s))
	return s
}

// held is the message of what holds a run that waits, be it a limit or not.
func (d *fixture) held(j queue.Job) string {
	d.t.Helper()
	if waits, _ := d.state.Job(j.UID); waits.Held != "" {
		return waits.Held
	}
	d.clock.Step(job.SettleAfter)
	d.admitDue()
	return d.state.StatusHold(j.UID, "", job.SettleAfter).Message()
}
