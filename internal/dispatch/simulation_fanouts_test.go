package dispatch

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
)

// simFanOut is what a replica remembers of a fan-out, as internal/controller/fanouts does: what is pure is the same code.
type simFanOut struct {
	plan *fanout.Plan
	// ledger is the stored one, as far as the replica knows, and version its resource version.
	ledger  *fanout.Ledger
	version string
	// children are the API server's answers about children, delayed the tenants whose child it does not accept for now, and
	// creating those whose child is being created.
	children map[string]simChild
	delayed  map[string]*simDelay
	creating map[string]*v1alpha1.TenantJob
}

// simChild is an answer of the API server, and when it came.
type simChild struct {
	fanout.Child
	at time.Time
}

// simDelay is why a child can't be created for now.
type simDelay struct {
	message string
	retryAt time.Time
	retries int
	clock   job.TroubleClock
	ended   bool
}

const simAnswerLasts = 5 * time.Second

func (f *simFanOut) has(tj *v1alpha1.TenantJob) bool {
	i, planned := f.plan.Find(tj.Spec.TenantRef.Name)
	return kube.ControllerUID(tj, "TenantFanOut") == f.plan.FanOut || planned && f.ledger.Knows(i, tj.UID)
}

// fanOutAfter has a fan-out reconciled after a while.
func (r *simReplica) fanOutAfter(name string, d time.Duration) {
	at := r.w.now().Add(d)
	if before, set := r.fanOutsDue[name]; !set || at.Before(before) {
		r.fanOutsDue[name] = at
	}
}

// dueFanOuts are those that are to be reconciled by now.
func (r *simReplica) dueFanOuts() []string {
	var due []string
	for _, name := range slices.Sorted(maps.Keys(r.fanOutsDue)) {
		if !r.fanOutsDue[name].After(r.w.now()) {
			due = append(due, name)
		}
	}
	return due
}

// reconcileFanOut makes a pass of a fan-out.
func (r *simReplica) reconcileFanOut(name string) {
	w, object := r.w, r.w.fanOuts[name]
	delete(r.fanOutsDue, name)
	if object.Status.CompletionTime != nil {
		r.forgetFanOut(name)
		return
	}
	f := r.loadFanOut(object)
	if f == nil {
		r.fanOutAfter(name, kube.StaleAfter)
		return
	}
	for range 3 {
		if !r.passFanOut(object, f) {
			return
		}
		if w.fanOuts[name].Status.CompletionTime != nil {
			r.forgetFanOut(name)
			return
		}
	}
	r.fanOutAfter(name, 0)
}

func (r *simReplica) forgetFanOut(name string) {
	delete(r.fanOuts, name)
	r.RemoveFanOut(name)
}

// loadFanOut returns what is remembered of a fan-out, or reads it. It seals the plan if there is none.
func (r *simReplica) loadFanOut(object *v1alpha1.TenantFanOut) *simFanOut {
	w := r.w
	if f := r.fanOuts[object.Name]; f != nil {
		return f
	}
	head := w.configMaps[fanout.PlanName(object.UID)]
	if head == nil {
		request := fanout.Request{FanOut: object, Template: w.template, Start: fanout.WindowStart(object, w.now())}
		for _, obj := range r.objects(tenantStream) {
			request.Tenants = append(request.Tenants, fanout.TenantOf(obj.(*v1alpha1.Tenant)))
		}
		plan, err := fanout.Seal(request, w.now())
		if err != nil {
			w.fatalf("sealing %s: %v", object.Name, err)
		}
		objects, err := plan.ConfigMaps(object, "tenantry-system")
		if err != nil {
			w.fatalf("sealing %s: %v", object.Name, err)
		}
		w.note("%s seals %s", r.name, object.Name)
		w.configMaps[objects[0].Name], head = objects[0], objects[0]
	}
	plan, err := fanout.DecodePlan(head)
	if err != nil {
		w.fatalf("reading the plan of %s: %v", object.Name, err)
	}
	f := &simFanOut{
		plan: plan, ledger: fanout.NewLedger(plan), children: map[string]simChild{}, delayed: map[string]*simDelay{}, creating: map[string]*v1alpha1.TenantJob{},
	}
	if stored := w.configMaps[fanout.LedgerName(object.UID)]; stored != nil {
		f.version = stored.ResourceVersion
		if f.ledger, err = fanout.DecodeLedger(stored, plan); err != nil {
			w.fatalf("reading the ledger of %s: %v", object.Name, err)
		}
	}
	r.fanOuts[object.Name] = f
	return f
}

// passFanOut observes, decides and acts once. It says whether another pass may find more to do.
func (r *simReplica) passFanOut(object *v1alpha1.TenantFanOut, f *simFanOut) bool {
	w, now := r.w, r.w.now()
	o, unrecordedAt := r.observeFanOut(object, f)
	d := fanout.Decide(o, now)
	justStored := false
	if f.version == "" || d.Changed && (d.Urgent || w.rnd.IntN(3) > 0) {
		if !r.storeLedger(object, f, d.Ledger) {
			r.fanOutAfter(object.Name, kube.StaleAfter)
			return false
		}
		justStored = true
	}
	stored := justStored || !d.Changed
	r.SetFanOut(object, d.Ledger, f.ledger, o.End)
	acted, fresh := r.actFanOut(object, f, o, d, stored, justStored)
	if !fresh {
		r.fanOutAfter(object.Name, kube.StaleAfter)
		return false
	}
	if stored {
		r.reportFanOut(object, f, d)
	} else {
		r.fanOutAfter(object.Name, 2*time.Second)
	}
	for _, at := range []time.Time{d.RequeueAt, unrecordedAt, f.requeueAt(now)} {
		if !at.IsZero() {
			r.fanOutAfter(object.Name, at.Sub(now))
		}
	}
	return acted || justStored && d.Ledger.Complete()
}

// requeueAt is when what is remembered changes by itself.
func (f *simFanOut) requeueAt(now time.Time) time.Time {
	var first time.Time
	sooner := func(at time.Time) {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	for _, c := range f.children {
		sooner(c.at.Add(simAnswerLasts))
	}
	for _, d := range f.delayed {
		if d.retryAt.After(now) {
			sooner(d.retryAt)
		}
	}
	if len(f.creating) > 0 {
		sooner(now.Add(time.Second))
	}
	return first
}

// observeFanOut gathers what the decision needs, and says when the next unrecorded outcome counts.
func (r *simReplica) observeFanOut(object *v1alpha1.TenantFanOut, f *simFanOut) (fanout.Observed, time.Time) {
	now := r.w.now()
	o := fanout.Observed{FanOut: object, Ledger: f.ledger, Children: map[string]fanout.Child{}, Tenants: map[string]fanout.Tenant{}, Delayed: map[string]string{}}
	for i, e := range f.plan.Entries {
		if f.ledger.Outcome(i).Decided() {
			continue
		}
		if cached, known, _ := r.stores[tenantStream].GetByKey(e.Tenant); known {
			o.Tenants[e.Tenant] = fanout.TenantOf(cached.(*v1alpha1.Tenant))
		}
		if f.ledger.Untouched(i) {
			continue
		}
		if tj, cached := r.tenantJobs.Get(types.NamespacedName{Namespace: "tenant-" + e.Tenant, Name: object.Name}); cached {
			if child := r.childOf(object, f, i, tj); child.Presence == fanout.Ours {
				o.Children[e.Tenant] = child
			}
		}
	}
	for tenant, c := range f.children {
		if _, cached := o.Children[tenant]; cached || now.Sub(c.at) >= simAnswerLasts {
			delete(f.children, tenant)
		} else {
			o.Children[tenant] = c.Child
		}
	}
	for tenant, d := range f.delayed {
		o.Delayed[tenant] = d.message
		if _, exists := o.Children[tenant]; d.ended && !exists {
			o.Children[tenant] = fanout.Child{Presence: fanout.Refused, Reason: v1alpha1.ReasonPodsRefused, Message: d.message}
		}
	}
	outcomes, next := r.Unrecorded(object.Name, now.Add(-job.TroubleAfter))
	for i, outcome := range outcomes {
		tenant := f.plan.Entries[i].Tenant
		if c := o.Children[tenant]; c.Presence == fanout.Ours && c.Status == metav1.ConditionUnknown {
			c.Status, c.Reason, c.Message = outcome.Status(), outcome.Reason, outcome.Message
			o.Children[tenant] = c
		}
	}
	if !next.IsZero() {
		next = next.Add(job.TroubleAfter)
	}
	return o, next
}

func (r *simReplica) childOf(object *v1alpha1.TenantFanOut, f *simFanOut, i int, tj *v1alpha1.TenantJob) fanout.Child {
	child := f.ledger.ChildOf(object, i, tj)
	if child.Status == metav1.ConditionUnknown && !child.Started {
		child.Started = r.Holding(tj.UID)
	}
	return child
}

// storeLedger stores a ledger, unless another one was stored since this replica has read it.
func (r *simReplica) storeLedger(object *v1alpha1.TenantFanOut, f *simFanOut, l *fanout.Ledger) bool {
	w, name := r.w, fanout.LedgerName(object.UID)
	if !r.isFresh(object, f) {
		return false
	}
	cm := l.ConfigMap(object, "tenantry-system")
	w.version++
	cm.ResourceVersion = strconv.Itoa(w.version)
	w.configMaps[name] = cm
	for i, e := range f.plan.Entries {
		outcome := l.Outcome(i)
		if of := object.Name + "/" + e.Tenant; outcome.Decided() || w.outcomes[of] != "" {
			if w.outcomes[of] == "" {
				w.note("%s stores %s: %+v", r.name, of, outcome)
			}
			w.recordOutcome(of, string(outcome.Counter)+" "+outcome.Reason)
		}
	}
	if w.chance(30) { // It is stored, and no answer comes.
		delete(r.fanOuts, object.Name)
		return false
	}
	f.ledger, f.version = l, cm.ResourceVersion
	maps.DeleteFunc(f.children, func(_ string, c simChild) bool { return c.Presence != fanout.Ours })
	return true
}

// isFresh says whether the stored ledger is the one that a replica remembers. If not, the replica forgets it.
func (r *simReplica) isFresh(object *v1alpha1.TenantFanOut, f *simFanOut) bool {
	version := ""
	if stored := r.w.configMaps[fanout.LedgerName(object.UID)]; stored != nil {
		version = stored.ResourceVersion
	}
	if version != f.version {
		delete(r.fanOuts, object.Name)
		return false
	}
	return true
}

// actFanOut creates and reads children. Fresh is false when another replica has stored a ledger since.
func (r *simReplica) actFanOut(
	object *v1alpha1.TenantFanOut, f *simFanOut, o fanout.Observed, d fanout.Decision, stored, justStored bool,
) (acted, fresh bool) {
	now := r.w.now()
	create := f.withoutDelayed(d.Create, now)
	if len(create) > 0 && !justStored && !r.isFresh(object, f) {
		return false, false
	}
	if stored {
		create = append(create, f.withoutDelayed(d.Announced, now)...)
	}
	check := f.withoutDelayed(d.Check, now)
	limited := r.limitDelays(f, slices.Concat(d.Create, d.Announced))
	for _, i := range create {
		child := fanout.BuildChild(object, f.plan, i, o.Tenants[f.plan.Entries[i].Tenant].Namespace)
		if tenant := f.plan.Entries[i].Tenant; r.w.fails[tenant] == faultHang || r.w.chance(15) {
			f.creating[tenant] = child // no answer yet
			continue
		}
		r.createChild(object, f, i, child)
	}
	for _, i := range check {
		r.readChild(object, f, i)
	}
	return limited || len(create)+len(check) > 0, true
}

func (f *simFanOut) withoutDelayed(indexes []int, now time.Time) []int {
	return slices.DeleteFunc(slices.Clone(indexes), func(i int) bool {
		tenant := f.plan.Entries[i].Tenant
		d := f.delayed[tenant]
		return f.creating[tenant] != nil || d != nil && (d.ended || now.Before(d.retryAt))
	})
}

// limitDelays ends the creation of children that can't be created for too long.
func (r *simReplica) limitDelays(f *simFanOut, wanted []int) bool {
	limited := false
	for tenant, d := range f.delayed {
		i, _ := f.plan.Find(tenant)
		if f.ledger.HasChild(i) || f.ledger.Outcome(i).Decided() {
			delete(f.delayed, tenant)
			continue
		}
		trouble := job.NoTrouble
		if slices.Contains(wanted, i) {
			trouble = job.TenantsTrouble
		}
		if left := d.clock.Tick(trouble, r.w.now()); left <= 0 && trouble != job.NoTrouble {
			limited = limited || !d.ended
			d.ended = true
		}
	}
	return limited
}

// answerChild lets the API server answer a request for a child that was under way.
func (r *simReplica) answerChild(name, tenant string) {
	f := r.fanOuts[name]
	child := f.creating[tenant]
	delete(f.creating, tenant)
	i, _ := f.plan.Find(tenant)
	r.createChild(r.w.fanOuts[name], f, i, child)
	r.fanOutAfter(name, 0)
}

// createChild creates a child.
func (r *simReplica) createChild(object *v1alpha1.TenantFanOut, f *simFanOut, i int, child *v1alpha1.TenantJob) {
	w, tenant := r.w, f.plan.Entries[i].Tenant
	var err error
	switch w.fails[tenant] {
	case faultError, faultHang:
		if err = errUnavailable; w.chance(2) {
			_ = w.createTenantJob(child)
		}
	case faultQuota:
		err = apierrors.NewForbidden(schema.GroupResource{Resource: "tenantjobs"}, child.Name, errors.New("exceeded quota: tenant-quota"))
	default:
		err = w.createTenantJob(child)
	}
	switch {
	case err == nil:
		f.setChild(tenant, r.childOf(object, f, i, child), w.now())
	case apierrors.IsAlreadyExists(err):
		r.readChild(object, f, i)
	default:
		d := f.delayed[tenant]
		if d == nil {
			d = &simDelay{}
			f.delayed[tenant] = d
		}
		d.message = err.Error()
		d.retryAt = w.now().Add(min(2*time.Second<<min(d.retries, 10), 30*time.Second))
		d.retries++
	}
}

func (f *simFanOut) setChild(tenant string, child fanout.Child, now time.Time) {
	f.children[tenant] = simChild{child, now}
	delete(f.delayed, tenant)
}

// readChild reads what has the name of a child.
func (r *simReplica) readChild(object *v1alpha1.TenantFanOut, f *simFanOut, i int) {
	tenant := f.plan.Entries[i].Tenant
	tj := r.w.tenantJobs[types.NamespacedName{Namespace: "tenant-" + tenant, Name: object.Name}]
	switch {
	case r.w.unreadable:
	case tj == nil:
		f.setChild(tenant, fanout.Child{Presence: fanout.NotFound}, r.w.now())
	default:
		f.setChild(tenant, r.childOf(object, f, i, tj), r.w.now())
	}
}

// reportFanOut writes the status, and checks the counters.
func (r *simReplica) reportFanOut(object *v1alpha1.TenantFanOut, f *simFanOut, d fanout.Decision) {
	w := r.w
	if !r.isFresh(object, f) {
		return
	}
	status := d.Status(w.now())
	c := status.Counts
	if sum := c.Waiting + c.Running + c.Succeeded + c.Failed + c.Skipped; sum != c.Total || int(c.Total) != len(f.plan.Entries) || min(c.Waiting, c.Running) < 0 {
		w.fatalf("the counters of %s don't sum up: %+v", object.Name, c)
	}
	before := w.fanOuts[object.Name]
	after := before.DeepCopy()
	after.Status = status
	if status.CompletionTime != nil && before.Status.CompletionTime == nil {
		w.note("%s is complete: %+v", object.Name, *c)
	}
	w.fanOuts[object.Name] = after
}

// newFanOut has a person create a fan-out for all tenants.
func (w *simWorld) newFanOut(f *v1alpha1.TenantFanOut) {
	f.UID, f.CreationTimestamp, f.Generation = w.newUID("fan-out"), w.stamp(), 1
	f.Spec.TemplateRef, f.Spec.Tenants = v1alpha1.LabelReference{Name: "report"}, v1alpha1.TenantSelection{All: new(true)}
	w.fanOuts[f.Name] = f
	w.note("created fan-out %s", f.Name)
	if w.leader != nil {
		w.leader.fanOutAfter(f.Name, 0)
	}
}

// suspendFanOut has a person suspend a fan-out, or resume it.
func (w *simWorld) suspendFanOut(name string, suspend bool) {
	f := w.fanOuts[name].DeepCopy()
	f.Spec.Suspend = &suspend
	f.Generation++
	w.fanOuts[name] = f
	w.note("suspends fan-out %s: %t", name, suspend)
	if w.leader != nil {
		w.leader.fanOutAfter(name, 0)
	}
}

// storedOutcomes reads the outcomes of a fan-out's tenants from its ledger.
func (w *simWorld) storedOutcomes(name string) map[string]fanout.Outcome {
	f := w.fanOuts[name]
	var plan *fanout.Plan
	var ledger *fanout.Ledger
	var err error
	if plan, err = fanout.DecodePlan(w.configMaps[fanout.PlanName(f.UID)]); err == nil {
		ledger, err = fanout.DecodeLedger(w.configMap(fanout.LedgerName(f.UID)), plan)
	}
	if err != nil {
		w.fatalf("reading the ledger of %s: %v", name, err)
	}
	outcomes := map[string]fanout.Outcome{}
	for i, e := range plan.Entries {
		outcomes[e.Tenant] = ledger.Outcome(i)
	}
	return outcomes
}

func (w *simWorld) configMap(name string) *corev1.ConfigMap {
	if cm := w.configMaps[name]; cm != nil {
		return cm
	}
	return &corev1.ConfigMap{}
}
