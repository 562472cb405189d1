package dispatch

import (
	"cmp"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"time"

	"github.com/go-logr/logr"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/queue"
)

// simReplica is a process of the operator: a real Dispatcher with caches, and what its controllers would do around it.
type simReplica struct {
	*loop
	w    *simWorld
	name string
	// runs means that its controllers run, leads that it has the lease.
	runs, leads bool
	stores      [streams]toolscache.Indexer
	// cached is how many events of each stream its caches have, handled how many of them its dispatcher knows, and seen how many
	// its controllers know.
	cached, handled, seen [streams]int
	handlers              [streams]toolscache.ResourceEventHandler

	// requests are the TenantJobs that are to be reconciled, by what they were requested for.
	work   map[types.NamespacedName]simRequest
	steps  int
	timers map[types.NamespacedName]time.Time
	// busy are those that are being reconciled, and starting the starts under way.
	busy     map[types.NamespacedName]bool
	starting []*simStart
	troubles map[types.NamespacedName]*simTrouble

	// unreserved are the queues whose starts are to be written down.
	unreserved bool
	fanOuts    map[string]*simFanOut
	// fanOutsDue are when fan-outs are to be reconciled.
	fanOutsDue map[string]time.Time
	// releaseAt is when it asks again for what no event tells.
	releaseAt time.Time
}

// simRequest is a place in the work queue. What was requested in one step is in the order of the names, since the dispatcher goes over
// maps.
type simRequest struct{ priority, step int }

// simTrouble is for how long a TenantJob has been in trouble.
type simTrouble struct {
	job.TroubleClock
	uid types.UID
}

// Leads implements Leadership.
func (r *simReplica) Leads() bool { return r.leads }

// OthersRenewal implements Leadership.
func (r *simReplica) OthersRenewal() time.Time { return time.Time{} }

// newReplica returns a process that has listed everything, as it was some events ago, and leads nothing.
func (w *simWorld) newReplica() *simReplica {
	w.uids++
	r := &simReplica{
		w: w, name: fmt.Sprint("replica-", w.uids), work: map[types.NamespacedName]simRequest{}, timers: map[types.NamespacedName]time.Time{},
		busy: map[types.NamespacedName]bool{}, troubles: map[types.NamespacedName]*simTrouble{},
		fanOuts: map[string]*simFanOut{}, fanOutsDue: map[string]time.Time{},
	}
	for s := range r.stores {
		r.stores[s] = toolscache.NewIndexer(toolscache.MetaNamespaceKeyFunc, toolscache.Indexers{toolscache.NamespaceIndex: toolscache.MetaNamespaceIndexFunc})
	}
	r.loop = &loop{
		Dispatcher: New(logr.Discard(), w.clock, simReader{w}, r),
		jobs:       kube.JobListerOf(kube.ListerOf[*kube.CachedJob](r.stores[jobStream])),
		tenantJobs: kube.ListerOf[*v1alpha1.TenantJob](r.stores[tenantJobStream]),
	}
	r.jobsIn = r.jobs.In
	r.namespaceUID = func(name string) types.UID { return types.UID("namespace-" + name[len("tenant-"):]) }
	watches := r.watches()
	r.handlers = [streams]toolscache.ResourceEventHandler{watches[0].handler, watches[3].handler, watches[4].handler}
	watches[1].handler.OnAdd(w.template, true)
	watches[2].handler.OnAdd(w.queue, true)
	for s := range r.stores {
		behind := 0
		if s != tenantStream {
			behind = w.rnd.IntN(6)
		}
		for r.cached[s] < len(w.events[s])-behind {
			r.store(s, w.events[s][r.cached[s]])
			r.cached[s]++
		}
		for _, obj := range r.objects(s) {
			r.handlers[s].OnAdd(obj, true)
		}
		r.handled[s], r.seen[s] = r.cached[s], r.cached[s]
	}
	return r
}

// objects are all that a cache has.
func (r *simReplica) objects(s int) []client.Object {
	var all []client.Object
	for _, key := range slices.Sorted(slices.Values(r.stores[s].ListKeys())) {
		obj, _, _ := r.stores[s].GetByKey(key)
		all = append(all, obj.(client.Object))
	}
	return all
}

// cachedForm is an object as a cache has it.
func (r *simReplica) cachedForm(obj client.Object) client.Object {
	if j, ok := obj.(*batchv1.Job); ok {
		stripped, err := kube.StripJob(j.DeepCopy())
		if err != nil {
			r.w.t.Fatal(err)
		}
		return stripped.(client.Object)
	}
	return obj
}

func (r *simReplica) store(s int, e simEvent) {
	var err error
	if e.deleted {
		err = r.stores[s].Delete(e.obj)
	} else {
		err = r.stores[s].Update(r.cachedForm(e.obj))
	}
	if err != nil {
		r.w.t.Fatal(err)
	}
}

// starts its controllers, after it has become the leader.
func (r *simReplica) startControllers() {
	r.runs = true
	r.SendRequests(func(req Request) { r.request(req.NamespacedName, req.Priority) })
	r.SendQueueRequests(func(string) { r.unreserved = true })
	for _, tj := range r.objects(tenantJobStream) {
		r.request(kube.KeyOf(tj), 0)
	}
	for name := range r.w.fanOuts {
		r.fanOutsDue[name] = r.w.now()
	}
}

// request puts a TenantJob into the work queue.
func (r *simReplica) request(key types.NamespacedName, priority int) {
	before, queued := r.work[key]
	if !queued {
		before = simRequest{priority, r.steps}
	}
	before.priority = max(before.priority, priority)
	r.work[key] = before
}

// after has a TenantJob reconciled after a while.
func (r *simReplica) after(key types.NamespacedName, d time.Duration) {
	at := r.w.now().Add(d)
	if before, set := r.timers[key]; !set || at.Before(before) {
		r.timers[key] = at
	}
}

// next takes the TenantJob that is first in the work queue.
func (r *simReplica) next() (types.NamespacedName, bool) {
	r.steps++
	for _, key := range slices.SortedFunc(maps.Keys(r.timers), compareKeys) {
		if !r.timers[key].After(r.w.now()) {
			delete(r.timers, key)
			r.request(key, PriorityStarted)
		}
	}
	keys := slices.SortedFunc(maps.Keys(r.work), func(a, b types.NamespacedName) int {
		return cmp.Or(r.work[b].priority-r.work[a].priority, r.work[a].step-r.work[b].step, compareKeys(a, b))
	})
	for _, key := range keys {
		if !r.busy[key] {
			delete(r.work, key)
			return key, true
		}
	}
	return types.NamespacedName{}, false
}

// deliver lets one event of a stream come a step further. It says whether there was one.
func (r *simReplica) deliver(s int) bool {
	r.steps++
	behind := []func(){}
	if n := r.cached[s]; n < len(r.w.events[s]) {
		behind = append(behind, func() { r.store(s, r.w.events[s][n]); r.cached[s]++ })
	}
	if n := r.handled[s]; n < r.cached[s] {
		behind = append(behind, func() { r.handled[s]++; r.handle(r.handlers[s], r.w.events[s][n]) })
	}
	if n := r.seen[s]; n < r.cached[s] && r.runs {
		behind = append(behind, func() { r.seen[s]++; r.see(s, r.w.events[s][n]) })
	}
	if len(behind) == 0 {
		return false
	}
	pick(r.w, behind)()
	return true
}

// catchUp delivers all events.
func (r *simReplica) catchUp() {
	for s := range r.stores {
		for r.deliver(s) {
		}
	}
}

func (r *simReplica) handle(handler toolscache.ResourceEventHandler, e simEvent) {
	obj := r.cachedForm(e.obj)
	if e.deleted {
		handler.OnDelete(obj)
	} else {
		handler.OnUpdate(obj, obj)
	}
}

// relist has a watch begin anew: of what happened meanwhile it tells only the difference.
func (r *simReplica) relist(s int) {
	for r.handled[s] < r.cached[s] || r.runs && r.seen[s] < r.cached[s] {
		r.deliver(s)
	}
	r.w.note("%s relists %d", r.name, s)
	before := map[string]client.Object{}
	for _, obj := range r.objects(s) {
		before[kube.KeyOf(obj).String()] = obj
	}
	for ; r.cached[s] < len(r.w.events[s]); r.cached[s]++ {
		r.store(s, r.w.events[s][r.cached[s]])
	}
	r.handled[s], r.seen[s] = r.cached[s], r.cached[s]
	for _, obj := range r.objects(s) {
		key := kube.KeyOf(obj).String()
		if old := before[key]; old != nil {
			r.handlers[s].OnUpdate(old, obj)
		} else {
			r.handlers[s].OnAdd(obj, false)
		}
		delete(before, key)
		r.see(s, simEvent{obj: obj})
	}
	for _, key := range slices.Sorted(maps.Keys(before)) {
		r.handlers[s].OnDelete(toolscache.DeletedFinalStateUnknown{Key: key, Obj: before[key]})
		r.see(s, simEvent{obj: before[key], deleted: true})
	}
}

// see tells the controllers of an event.
func (r *simReplica) see(s int, e simEvent) {
	if !r.runs {
		return
	}
	key := kube.KeyOf(e.obj)
	switch s {
	case tenantStream:
		for _, tj := range r.tenantJobs.In("tenant-" + key.Name) {
			if !job.IsOver(tj) {
				r.request(kube.KeyOf(tj), 0)
			}
		}
	case tenantJobStream:
		if !e.deleted {
			r.request(key, -bits.Len(uint(r.Waiting(e.obj.(*v1alpha1.TenantJob).Spec.TenantRef.Name))))
		}
		if f := r.fanOuts[key.Name]; f != nil && f.has(e.obj.(*v1alpha1.TenantJob)) {
			r.fanOutAfter(key.Name, 100*time.Millisecond)
		}
	case jobStream:
		if owner := metav1.GetControllerOf(e.obj); owner != nil && owner.Kind == "TenantJob" {
			r.request(types.NamespacedName{Namespace: key.Namespace, Name: owner.Name}, 0)
		}
		if job.IsOrphan(e.obj) {
			r.request(key, 0)
		}
	}
}

// tick does what the dispatcher's loop does as time passes.
func (r *simReplica) tick() {
	if !r.runs {
		return
	}
	if r.synced {
		r.admitDue()
		r.review()
		if !r.w.now().Before(r.releaseAt) || r.releaseAt.Sub(r.w.now()) > releaseEvery {
			r.releaseAt = r.w.now().Add(releaseEvery)
			r.releaseGone(r.w.ctx)
			r.settleUncertain(r.w.ctx)
		}
	}
}

// writeStarts writes down the starts of the queue, if that is requested, and says whether it was.
func (r *simReplica) writeStarts() bool {
	if !r.unreserved || !r.runs {
		return false
	}
	r.unreserved = false
	record := r.StartRecord("q")
	if record == nil {
		return false
	}
	r.w.queue = r.w.queue.DeepCopy()
	r.w.queue.Status.Starts = record
	if r.w.chance(20) { // It is done, and no answer comes.
		r.unreserved = true
		return true
	}
	r.StartsRecorded("q", record)
	return true
}

// cachedJob is the Job of a TenantJob, as the cache has it.
func (r *simReplica) cachedJob(tj *v1alpha1.TenantJob) *batchv1.Job {
	if cached := r.jobs.Get(kube.KeyOf(tj)); cached != nil && metav1.IsControlledBy(cached, tj) {
		return cached
	}
	return nil
}

// queueJob is what the dispatcher has to know of a TenantJob that waits.
func queueJobOf(o job.Observed) queue.Job {
	tj := o.TenantJob
	j := queue.Job{UID: tj.UID, Key: kube.KeyOf(tj), Tenant: tj.Spec.TenantRef.Name, Template: tj.Spec.TemplateRef.Name, Created: tj.CreationTimestamp.Time}
	if o.FanOut != nil {
		j.FanOut = tj.Name
	}
	if due := tj.Spec.NotBeforeTime; due != nil {
		j.NotBefore = due.Time
	}
	if o.Template != nil {
		j.Queue, j.Priority = o.Template.QueueName(), o.Template.Spec.Priority
	}
	return j
}
