package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
)

// The streams of events. Each has its own watch, which is behind by its own delay.
const (
	tenantStream = iota
	tenantJobStream
	jobStream
	streams
)

// simEvent is what a watch tells: an object as it is now, or as it was when it was deleted.
type simEvent struct {
	obj     client.Object
	deleted bool
}

// simWorld is what the API server has, and what runs.
type simWorld struct {
	t     *testing.T
	ctx   context.Context
	rnd   *rand.Rand
	clock *clocktesting.FakeClock
	// turnedBack is by how much the clock was turned back.
	turnedBack time.Duration

	queue      *v1alpha1.TenantQueue
	template   *v1alpha1.TenantJobTemplate
	tenants    map[string]*v1alpha1.Tenant
	fanOuts    map[string]*v1alpha1.TenantFanOut
	configMaps map[string]*corev1.ConfigMap
	tenantJobs map[types.NamespacedName]*v1alpha1.TenantJob
	jobs       map[types.NamespacedName]*batchv1.Job
	pods       map[types.UID]*simPod // by the UID of the Job
	events     [streams][]simEvent
	version    int
	uids       int
	// fails are the tenants for which the API server answers creations and status writes with errors.
	fails map[string]simFault
	// unreadable means that reads fail.
	unreadable bool
	// listing is called while something is listed.
	listing func()

	leader, standby *simReplica
	// former are replicas that have lost the lease and do not know it yet.
	former []*simReplica

	// runs are the Jobs that the operator made, by UID.
	runs map[types.UID]*simRun
	// outcomes are those that were written: of fan-outs' tenants by "fan-out/tenant", of TenantJobs by UID.
	outcomes map[string]string
	// ranAs are the TenantJobs that ran for a fan-out's tenant, by "fan-out/tenant".
	ranAs map[string]map[types.UID]bool
	// turns is what is measured of the waits.
	turns simTurns
	// trace is what has happened.
	trace []string
}

// simRun is a Job that the operator made.
type simRun struct {
	jobUID, tenantJob types.UID
	key               types.NamespacedName
	tenant, fanOut    string
	succeeds, ended   bool
}

// simPod is the pod of a Job.
type simPod struct {
	job      *batchv1.Job
	running  bool
	ended    bool
	deleting bool
}

// simFault is what the API server answers to the writes for a tenant.
type simFault string

const (
	faultNone simFault = ""
	// faultError is a 5xx, which comes before or after the write was done.
	faultError simFault = "error"
	// faultHang is that no answer comes in time.
	faultHang simFault = "hang"
	// faultQuota is a full quota.
	faultQuota simFault = "quota"
)

const (
	hostile = "hooli"
	broken  = "initech"
)

var honest = []string{"acme", "globex", "massive", "soylent", "stark", "umbrella"}

func newSimWorld(t *testing.T, seed uint64) *simWorld {
	w := &simWorld{
		t: t, ctx: logr.NewContext(t.Context(), logr.Discard()), rnd: rand.New(rand.NewPCG(seed, 13)), clock: clocktesting.NewFakeClock(time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)),
		tenants: map[string]*v1alpha1.Tenant{}, fanOuts: map[string]*v1alpha1.TenantFanOut{}, configMaps: map[string]*corev1.ConfigMap{},
		tenantJobs: map[types.NamespacedName]*v1alpha1.TenantJob{}, jobs: map[types.NamespacedName]*batchv1.Job{}, pods: map[types.UID]*simPod{},
		fails: map[string]simFault{}, runs: map[types.UID]*simRun{}, outcomes: map[string]string{}, ranAs: map[string]map[types.UID]bool{},
		listing: func() {},
	}
	w.turns = newSimTurns(w)
	w.queue = &v1alpha1.TenantQueue{
		ObjectMeta: metav1.ObjectMeta{Name: "q", UID: "queue"},
		Spec: v1alpha1.TenantQueueSpec{
			MaxConcurrent: new(int32(3 + w.rnd.IntN(4))), MaxConcurrentPerTenant: new(int32(2 + w.rnd.IntN(2))), StartsPerMinute: new(int32(8 + w.rnd.IntN(30))),
		},
	}
	w.template = &v1alpha1.TenantJobTemplate{
		ObjectMeta: metav1.ObjectMeta{Name: "report", UID: "template", Generation: 1},
		Spec: v1alpha1.TenantJobTemplateSpec{
			QueueRef: &v1alpha1.LabelReference{Name: "q"}, MaxConcurrentPerTenant: new(int32(1 + w.rnd.IntN(3))),
			JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main"}}}}}},
		},
	}
	if w.rnd.IntN(2) == 0 {
		w.template.Spec.TTLSecondsAfterFinished = new(int32(300))
	}
	w.template.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonReady, ObservedGeneration: 1}}
	for _, name := range append([]string{hostile, broken}, honest...) {
		tn := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("tenant-" + name), Generation: 1}}
		tn.Spec.Jobs = &v1alpha1.TenantJobLimits{Weight: new(int32(1 + w.rnd.IntN(3)))}
		if w.rnd.IntN(3) == 0 {
			tn.Spec.Jobs.MaxConcurrent = new(int32(1 + w.rnd.IntN(2)))
		}
		tn.Status = v1alpha1.TenantStatus{
			ObservedGeneration: 1, State: v1alpha1.StateActive,
			Namespace:  &v1alpha1.TenantNamespaceStatus{Name: "tenant-" + name, UID: types.UID("namespace-" + name)},
			Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonReady, ObservedGeneration: 1}},
		}
		w.setTenant(tn)
	}
	return w
}

func (w *simWorld) now() time.Time { return w.clock.Now() }

// elapsed is the time that has really passed.
func (w *simWorld) elapsed() time.Duration {
	return w.now().Add(w.turnedBack).Sub(time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC))
}

// stamp is the time as the API server writes it.
func (w *simWorld) stamp() metav1.Time { return metav1.NewTime(w.now().Truncate(time.Second)) }

func (w *simWorld) newUID(what string) types.UID {
	w.uids++
	return types.UID(fmt.Sprintf("%s-%d", what, w.uids))
}

// note adds to the trace.
func (w *simWorld) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%v ", w.elapsed())+fmt.Sprintf(format, args...))
}

func (w *simWorld) fatalf(format string, args ...any) {
	w.t.Helper()
	from := max(0, len(w.trace)-200)
	w.t.Fatalf("%s\nafter\n%s", fmt.Sprintf(format, args...), strings.Join(w.trace[from:], "\n"))
}

// chance is true once in n times.
func (w *simWorld) chance(n int) bool { return w.rnd.IntN(n) == 0 }

// pick returns one of several, the zero value of none.
func pick[T any](w *simWorld, all []T) T {
	var none T
	if len(all) == 0 {
		return none
	}
	return all[w.rnd.IntN(len(all))]
}

func compareKeys(a, b types.NamespacedName) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// sorted returns the values of a map in the order of their keys that are right, or all without a test.
func sorted[V any](m map[types.NamespacedName]V, isRight func(V) bool) []V {
	var all []V
	for _, key := range slices.SortedFunc(maps.Keys(m), compareKeys) {
		if isRight == nil || isRight(m[key]) {
			all = append(all, m[key])
		}
	}
	return all
}

// stamped gives an object its next version, and tells the watches.
func (w *simWorld) stamped(stream int, obj client.Object) {
	w.version++
	obj.SetResourceVersion(strconv.Itoa(w.version))
	w.events[stream] = append(w.events[stream], simEvent{obj: obj})
}

func (w *simWorld) gone(stream int, obj client.Object) {
	w.version++
	w.events[stream] = append(w.events[stream], simEvent{obj: obj, deleted: true})
}

func (w *simWorld) setTenant(tn *v1alpha1.Tenant) {
	w.tenants[tn.Name] = tn
	w.stamped(tenantStream, tn)
}

// setTenantJob stores a TenantJob: nobody changes it any more.
func (w *simWorld) setTenantJob(tj *v1alpha1.TenantJob) {
	key := kube.KeyOf(tj)
	if before := w.tenantJobs[key]; before != nil && before.UID == tj.UID {
		tj.Generation = before.Generation
		if !equality.Semantic.DeepEqual(before.Spec, tj.Spec) {
			tj.Generation++
		}
	}
	w.tenantJobs[key] = tj
	w.stamped(tenantJobStream, tj)
}

// changeTenantJob changes one.
func (w *simWorld) changeTenantJob(tj *v1alpha1.TenantJob, change func(*v1alpha1.TenantJob)) {
	tj = tj.DeepCopy()
	change(tj)
	w.setTenantJob(tj)
}

func (w *simWorld) setJob(j *batchv1.Job) {
	w.jobs[kube.KeyOf(j)] = j
	w.stamped(jobStream, j)
}

func (w *simWorld) changeJob(j *batchv1.Job, change func(*batchv1.Job)) {
	j = j.DeepCopy()
	change(j)
	w.setJob(j)
}

func (w *simWorld) removeJob(j *batchv1.Job) {
	w.note("gone Job %s (%s)", kube.KeyOf(j), j.UID)
	delete(w.jobs, kube.KeyOf(j))
	w.gone(jobStream, j)
	if pod := w.pods[j.UID]; pod != nil {
		pod.deleting = true
	}
}

func (w *simWorld) removeTenantJob(tj *v1alpha1.TenantJob) {
	w.note("gone TenantJob %s (%s)", kube.KeyOf(tj), tj.UID)
	delete(w.tenantJobs, kube.KeyOf(tj))
	w.gone(tenantJobStream, tj)
}

// createTenantJob creates a TenantJob.
func (w *simWorld) createTenantJob(tj *v1alpha1.TenantJob) error {
	if w.tenantJobs[kube.KeyOf(tj)] != nil {
		return apierrors.NewAlreadyExists(schema.GroupResource{Resource: "tenantjobs"}, tj.Name)
	}
	tj.UID, tj.CreationTimestamp, tj.Generation = w.newUID("tj-"+tj.Spec.TenantRef.Name), w.stamp(), 1
	w.note("created TenantJob %s (%s)", kube.KeyOf(tj), tj.UID)
	w.setTenantJob(tj.DeepCopy())
	tj.ResourceVersion = w.tenantJobs[kube.KeyOf(tj)].ResourceVersion
	return nil
}

// createJob creates a Job.
func (w *simWorld) createJob(j *batchv1.Job) error {
	if w.jobs[kube.KeyOf(j)] != nil {
		return apierrors.NewAlreadyExists(schema.GroupResource{Resource: "jobs"}, j.Name)
	}
	j.UID, j.CreationTimestamp = w.newUID("job"), w.stamp()
	w.setJob(j.DeepCopy())
	j.ResourceVersion = w.jobs[kube.KeyOf(j)].ResourceVersion
	return nil
}

// deleteTenantJob deletes one as kubectl does with this --cascade.
func (w *simWorld) deleteTenantJob(tj *v1alpha1.TenantJob, cascade metav1.DeletionPropagation) {
	if tj.DeletionTimestamp != nil {
		return
	}
	if cascade == metav1.DeletePropagationBackground {
		w.removeTenantJob(tj)
		return
	}
	finalizer := metav1.FinalizerDeleteDependents
	if cascade == metav1.DeletePropagationOrphan {
		finalizer = metav1.FinalizerOrphanDependents
	}
	w.note("deletes TenantJob %s (%s) %s", kube.KeyOf(tj), tj.UID, cascade)
	w.changeTenantJob(tj, func(tj *v1alpha1.TenantJob) {
		tj.DeletionTimestamp, tj.Finalizers = new(w.stamp()), append(tj.Finalizers, finalizer)
	})
}

// stopJob deletes a Job in the foreground.
func (w *simWorld) stopJob(j *batchv1.Job) {
	if j.DeletionTimestamp == nil {
		w.note("deletes Job %s (%s)", kube.KeyOf(j), j.UID)
		w.changeJob(j, func(j *batchv1.Job) {
			j.DeletionTimestamp, j.Finalizers = new(w.stamp()), []string{metav1.FinalizerDeleteDependents}
		})
	}
}

// moves is what Kubernetes may do next: its garbage collector, Job controller and kubelet.
func (w *simWorld) moves() []func() {
	var all []func()
	add := func(move func()) { all = append(all, move) }
	for _, tj := range sorted(w.tenantJobs, nil) {
		switch {
		case tj.DeletionTimestamp == nil:
		case slices.Contains(tj.Finalizers, metav1.FinalizerOrphanDependents):
			add(func() { w.orphan(tj) })
		default:
			add(func() { w.deleteInForeground(tj) })
		}
	}
	for _, j := range sorted(w.jobs, nil) {
		if move := w.moveOf(j); move != nil {
			add(move)
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(w.pods)) {
		pod := w.pods[uid]
		switch {
		case pod.deleting && !pod.ended:
			add(func() { w.endPod(pod, false) })
		case pod.ended && (w.jobs[kube.KeyOf(pod.job)] == nil || w.jobs[kube.KeyOf(pod.job)].UID != uid):
			delete(w.pods, uid)
		case !pod.running && !pod.ended:
			add(func() {
				pod.running = true
				w.ofPod(pod, func(j *batchv1.Job) { j.Status.Ready = new(int32(1)) })
			})
		case !pod.ended:
			add(func() { w.endPod(pod, w.rnd.IntN(4) > 0) })
		}
	}
	return all
}

// orphan takes the owner reference off a TenantJob's Job, and then lets the TenantJob go.
func (w *simWorld) orphan(tj *v1alpha1.TenantJob) {
	j := w.jobs[kube.KeyOf(tj)]
	if j != nil && metav1.IsControlledBy(j, tj) {
		w.changeJob(j, func(j *batchv1.Job) { j.OwnerReferences = nil })
		return
	}
	w.removeTenantJob(tj)
}

func (w *simWorld) deleteInForeground(tj *v1alpha1.TenantJob) {
	j := w.jobs[kube.KeyOf(tj)]
	switch {
	case j == nil || !metav1.IsControlledBy(j, tj):
		w.removeTenantJob(tj)
	default:
		w.stopJob(j)
	}
}

// moveOf is what happens next to a Job, nil for nothing.
func (w *simWorld) moveOf(j *batchv1.Job) func() {
	pod := w.pods[j.UID]
	owner := metav1.GetControllerOf(j)
	switch {
	case j.DeletionTimestamp != nil && pod != nil && !pod.deleting && !pod.ended:
		return func() {
			pod.deleting = true
			w.changeJob(j, func(j *batchv1.Job) { j.Status.Terminating, j.Status.Ready = new(int32(1)), nil })
		}
	case j.DeletionTimestamp != nil && (pod == nil || pod.ended):
		return func() { w.removeJob(j) }
	case j.DeletionTimestamp != nil:
		return nil
	case owner != nil && owner.Kind == "TenantJob" && (w.tenantJobs[kube.KeyOf(j)] == nil || w.tenantJobs[kube.KeyOf(j)].UID != owner.UID):
		return func() { w.removeJob(j) } // the garbage collector
	case job.Ended(j):
		return nil
	case j.Status.StartTime == nil:
		return func() {
			w.pods[j.UID] = &simPod{job: j}
			w.changeJob(j, func(j *batchv1.Job) { j.Status.StartTime, j.Status.Active = new(w.stamp()), 1 })
		}
	case pod != nil && pod.ended:
		return func() { w.endJob(j) }
	}
	return nil
}

// ofPod changes the Job of a pod, if it is still there.
func (w *simWorld) ofPod(pod *simPod, change func(*batchv1.Job)) {
	if j := w.jobs[kube.KeyOf(pod.job)]; j != nil && j.UID == pod.job.UID && !job.Ended(j) {
		w.changeJob(j, change)
	}
}

func (w *simWorld) endPod(pod *simPod, succeeds bool) {
	pod.ended = true
	if run := w.runs[pod.job.UID]; run != nil {
		run.succeeds, run.ended = succeeds, true
	}
	w.ofPod(pod, func(j *batchv1.Job) { j.Status.Ready, j.Status.Terminating = nil, nil })
}

// endJob has the Job controller say how a Job ended.
func (w *simWorld) endJob(j *batchv1.Job) {
	how := batchv1.JobFailed
	if run := w.runs[j.UID]; run != nil && run.succeeds {
		how = batchv1.JobComplete
	}
	w.note("Job %s (%s) %s", kube.KeyOf(j), j.UID, how)
	w.changeJob(j, func(j *batchv1.Job) {
		j.Status.Active, j.Status.Ready, j.Status.Terminating = 0, nil, nil
		j.Status.Conditions = append(j.Status.Conditions, batchv1.JobCondition{Type: how, Status: corev1.ConditionTrue, LastTransitionTime: w.stamp()})
	})
}

// live returns what runs or may have a slot: Jobs that the operator made and that have not ended, and pods of those that are gone.
func (w *simWorld) live() []*simRun {
	return w.runsOf(func(j *batchv1.Job) bool { return job.IsLive(j) })
}

// running returns what runs. A Job that is being deleted gets no pod any more: without one it does not run.
func (w *simWorld) running() []*simRun {
	return w.runsOf(func(j *batchv1.Job) bool { return job.IsLive(j) && j.DeletionTimestamp == nil })
}

// runsOf returns the runs of which there is such a Job, or a pod that has not ended.
func (w *simWorld) runsOf(counts func(*batchv1.Job) bool) []*simRun {
	var all []*simRun
	for _, uid := range slices.Sorted(maps.Keys(w.runs)) {
		run := w.runs[uid]
		j, pod := w.jobs[run.key], w.pods[uid]
		if j != nil && j.UID == uid && counts(j) || pod != nil && !pod.ended {
			all = append(all, run)
		}
	}
	return all
}

// madeJob notes that the operator has made a Job, and checks that no limit is exceeded.
func (w *simWorld) madeJob(j *batchv1.Job, tj *v1alpha1.TenantJob) {
	run := &simRun{jobUID: j.UID, tenantJob: tj.UID, key: kube.KeyOf(j), tenant: j.Labels[v1alpha1.LabelTenant], fanOut: j.Labels[v1alpha1.LabelFanOut]}
	w.runs[j.UID] = run
	w.note("made Job %s (%s) of %s", run.key, j.UID, tj.UID)
	if run.fanOut != "" {
		as := run.fanOut + "/" + run.tenant
		if w.ranAs[as] == nil {
			w.ranAs[as] = map[types.UID]bool{}
		}
		w.ranAs[as][tj.UID] = true
		if len(w.ranAs[as]) > 1 {
			w.fatalf("%s ran more than once: %v", as, w.ranAs[as])
		}
	}
	w.checkLimits()
}

func (w *simWorld) checkLimits() {
	w.t.Helper()
	byTenant, byFanOut, total := map[string]int{}, map[string]int{}, 0
	for _, run := range w.running() {
		total++
		byTenant[run.tenant]++
		byFanOut[run.fanOut]++
	}
	check := func(what string, n int, limit *int32) {
		if limit != nil && n > int(*limit) {
			w.fatalf("%d run at once of %s, and %d may", n, what, *limit)
		}
	}
	check("the queue", total, w.queue.Spec.MaxConcurrent)
	for name, n := range byTenant {
		check("tenant "+name+" in the queue", n, w.queue.Spec.MaxConcurrentPerTenant)
		check("tenant "+name+" with the template", n, w.template.Spec.MaxConcurrentPerTenant)
		check("tenant "+name, n, w.tenants[name].Spec.Jobs.MaxConcurrent)
	}
	for name, f := range w.fanOuts {
		if limit := f.Spec.Strategy.MaxConcurrent; limit != nil {
			check("fan-out "+name, byFanOut[name], &limit.IntVal)
		}
	}
}

// recordOutcome checks that an outcome never changes.
func (w *simWorld) recordOutcome(of, outcome string) {
	w.t.Helper()
	if before := w.outcomes[of]; before != "" && before != outcome {
		w.fatalf("the outcome of %s was %s and is %s", of, before, outcome)
	}
	w.outcomes[of] = outcome
}

// simReader reads what is live.
type simReader struct{ *simWorld }

var errUnavailable = apierrors.NewInternalError(errors.New("unavailable"))

// Get implements client.Reader.
func (r simReader) Get(_ context.Context, key client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	if r.unreadable {
		return errUnavailable
	}
	notFound := apierrors.NewNotFound(schema.GroupResource{Resource: kube.KindOf(obj)}, key.Name)
	switch obj := obj.(type) {
	case *batchv1.Job:
		if found := r.jobs[key]; found != nil {
			found.DeepCopyInto(obj)
			return nil
		}
		return notFound
	case *v1alpha1.TenantJob:
		if found := r.tenantJobs[key]; found != nil {
			found.DeepCopyInto(obj)
			return nil
		}
		return notFound
	}
	return fmt.Errorf("reading %s: unexpected", kube.KindOf(obj))
}

// List implements client.Reader.
func (r simReader) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if r.unreadable {
		return errUnavailable
	}
	r.listing()
	asked := (&client.ListOptions{}).ApplyOptions(opts)
	switch list := list.(type) {
	case *v1alpha1.TenantQueueList:
		list.Items = append(list.Items, *r.queue.DeepCopy())
		return nil
	case *metav1.PartialObjectMetadataList:
		for _, obj := range r.metadata(list.Kind) {
			if asked.Namespace != "" && asked.Namespace != obj.Namespace || asked.LabelSelector != nil && !asked.LabelSelector.Matches(labelSet(obj.Labels)) {
				continue
			}
			list.Items = append(list.Items, obj)
		}
		return nil
	}
	return fmt.Errorf("listing %s: unexpected", kube.KindOf(list))
}

type labelSet map[string]string

func (l labelSet) Has(key string) bool              { _, has := l[key]; return has }
func (l labelSet) Get(key string) string            { return l[key] }
func (l labelSet) Lookup(key string) (string, bool) { value, has := l[key]; return value, has }

// metadata is that of all Jobs, or of all pods that have not ended.
func (r simReader) metadata(kind string) []metav1.PartialObjectMetadata {
	var all []metav1.PartialObjectMetadata
	if kind == "JobList" {
		for _, j := range sorted(r.jobs, nil) {
			all = append(all, metav1.PartialObjectMetadata{ObjectMeta: *j.ObjectMeta.DeepCopy()})
		}
		return all
	}
	for _, uid := range slices.Sorted(maps.Keys(r.pods)) {
		if pod := r.pods[uid]; !pod.ended {
			all = append(all, metav1.PartialObjectMetadata{ObjectMeta: podOf(pod.job).ObjectMeta})
		}
	}
	return all
}
