package dispatch

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/queue"
)

// TestNeighbours: whatever a hostile member does, however the API server fails for one tenant, whenever the operator dies and the
// clock is turned, no limit is exceeded, slots are held by what runs and by nothing else, every planned tenant gets one outcome,
// and the other tenants' TenantJobs run as if they were alone.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	seeds := uint64(20)
	if testing.Short() {
		seeds = 5
	}
	first, _ := strconv.ParseUint(os.Getenv("SIMULATION_SEED"), 10, 64) // to look for more, by hand
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newSimWorld(t, seed)
			w.simulate()
		})
	}
}

// simulate lets anything happen for a while, and then everything end.
func (w *simWorld) simulate() {
	w.leader = w.newReplica()
	w.leader.leads = true
	w.leader.startControllers()
	w.standby = w.newReplica()
	for step := range 1500 {
		if step%400 == 100 {
			w.newFanOut(w.randomFanOut(step))
		}
		w.happen()
		w.check()
		if step%250 == 249 {
			w.forgeJob()
			w.quiet()
		}
	}
	w.replaceAll()
	w.drain()
}

// replaceAll has the hostile member replace its TenantJobs while a watch is interrupted, and the child of a fan-out once that runs.
func (w *simWorld) replaceAll() {
	w.newFanOut(w.randomFanOut(9999))
	w.fanOuts["nightly-9999"].Spec.Strategy = &v1alpha1.FanOutStrategy{}
	w.quiet()
	key := types.NamespacedName{Namespace: "tenant-" + hostile, Name: "nightly-9999"}
	for _, tj := range sorted(w.tenantJobs, func(tj *v1alpha1.TenantJob) bool { return tj.Namespace == key.Namespace && tj.Name != key.Name }) {
		w.removeTenantJob(tj)
		if w.chance(2) {
			w.forge(tj.Name)
		}
	}
	w.leader.relist(tenantJobStream)
	w.quiet()
	for range 2000 {
		if j := w.jobs[key]; j != nil && w.runs[j.UID] != nil && w.tenantJobs[key] != nil {
			w.removeTenantJob(w.tenantJobs[key])
			w.forge(key.Name)
			return
		}
		w.leader.catchUp()
		w.pass(w.leader)
		if move := pick(w, w.moves()); move != nil {
			move()
		}
		w.advance(time.Second)
	}
}

func (w *simWorld) randomFanOut(step int) *v1alpha1.TenantFanOut {
	amounts := []*intstr.IntOrString{nil, new(intstr.FromInt32(1)), new(intstr.FromInt32(2)), new(intstr.FromInt32(4))}
	f := &v1alpha1.TenantFanOut{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("nightly-", step)}}
	f.Spec.Strategy = &v1alpha1.FanOutStrategy{MaxConcurrent: pick(w, amounts), MaxFailures: pick(w, amounts)}
	for i := range w.rnd.IntN(3) {
		f.Spec.Strategy.Waves = append(f.Spec.Strategy.Waves, v1alpha1.Wave{Name: fmt.Sprint("wave-", i), Size: pick(w, amounts[1:]), MaxFailures: pick(w, amounts)})
	}
	if w.chance(3) {
		f.Spec.SpreadSeconds = new(int32(120))
	}
	return f
}

// happen lets one random thing happen.
func (w *simWorld) happen() {
	replicas := append([]*simReplica{w.leader, w.leader, w.leader, w.standby}, w.former...)
	r := pick(w, replicas)
	switch n := w.rnd.IntN(100); {
	case n < 30:
		s := w.rnd.IntN(streams)
		for range 1 + w.rnd.IntN(4) {
			r.deliver(s)
		}
	case n < 55:
		for range 1 + w.rnd.IntN(3) {
			w.pass(r)
		}
	case n < 58:
		if len(w.fanOuts) > 0 && r.runs { // without a reason
			r.reconcileFanOut(pick(w, slices.Sorted(maps.Keys(w.fanOuts))))
		}
	case n < 60:
		if all := sorted(w.tenantJobs, nil); len(all) > 0 && r.runs {
			r.request(kube.KeyOf(pick(w, all)), 0)
		}
	case n < 75:
		if move := pick(w, w.moves()); move != nil {
			move()
		}
	case n < 84:
		w.wait()
	case n < 88:
		w.dispatches()
	case n < 94:
		w.misbehave()
	case n < 97:
		w.fail()
	default:
		w.upset(r)
	}
}

// pass lets a replica do what is next in its work queues.
func (w *simWorld) pass(r *simReplica) bool {
	if !r.runs {
		return false
	}
	if r.leads && !r.synced && w.chance(2) {
		_ = r.sync(w.ctx)
	}
	if r.writeStarts() {
		return true
	}
	if due := r.dueFanOuts(); len(due) > 0 && w.chance(2) {
		r.reconcileFanOut(pick(w, due))
		return true
	}
	if len(r.starting) > 0 && w.chance(3) {
		s := pick(w, r.starting)
		if !s.sent {
			s.send(s)
		}
		s.finishStart(s, false)
		return true
	}
	for _, name := range slices.Sorted(maps.Keys(r.fanOuts)) {
		if creating := slices.Sorted(maps.Keys(r.fanOuts[name].creating)); len(creating) > 0 && w.chance(4) {
			r.answerChild(name, pick(w, creating))
			return true
		}
	}
	if key, found := r.next(); found {
		r.reconcile(key)
		return true
	}
	return false
}

// wait lets some time pass.
func (w *simWorld) wait() {
	d := time.Duration(1+w.rnd.IntN(50)) * 20 * time.Millisecond
	switch w.rnd.IntN(20) {
	case 0, 1, 2:
		d = time.Duration(w.rnd.IntN(20)) * time.Second
	case 3:
		d = time.Duration(w.rnd.IntN(120)) * time.Second
	}
	w.advance(d)
}

// advance lets time pass. No start takes longer than WriteTimeout.
func (w *simWorld) advance(d time.Duration) {
	until := w.elapsed() + d
	for _, r := range w.replicas() {
		for _, s := range slices.Clone(r.starting) {
			if deadline := s.began + WriteTimeout; !s.sent && deadline <= until {
				if deadline > w.elapsed() {
					w.clock.Step(deadline - w.elapsed())
				}
				if s.send(s); w.fails[s.TenantJob.Spec.TenantRef.Name] == faultNone && w.chance(2) && s.err == nil {
					s.err = errUnavailable // The answer is late.
				}
			}
		}
	}
	if left := until - w.elapsed(); left > 0 {
		w.clock.Step(left)
	}
	for _, r := range w.replicas() {
		r.tick()
	}
}

// replicas are all processes.
func (w *simWorld) replicas() []*simReplica {
	return append([]*simReplica{w.leader, w.standby}, w.former...)
}

// dispatches has a person create TenantJobs for honest tenants, or for the broken one.
func (w *simWorld) dispatches() {
	tenant := pick(w, append([]string{broken}, honest...))
	for range 1 + w.rnd.IntN(3) {
		w.newTenantJob(tenant, fmt.Sprint("run-", w.uids), nil)
	}
}

func (w *simWorld) newTenantJob(tenant, name string, change func(*v1alpha1.TenantJob)) {
	tj := &v1alpha1.TenantJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "tenant-" + tenant, Name: name},
		Spec:       v1alpha1.TenantJobSpec{TenantRef: v1alpha1.TenantReference{Name: tenant}, TemplateRef: v1alpha1.LabelReference{Name: "report"}},
	}
	if change != nil {
		change(tj)
	}
	_ = w.createTenantJob(tj)
}

// fail has the API server fail for the broken tenant, or for reads, or no more.
func (w *simWorld) fail() {
	switch w.rnd.IntN(6) {
	case 0:
		w.unreadable = !w.unreadable && w.chance(3)
	case 1, 2:
		delete(w.fails, broken)
	default:
		w.fails[broken] = pick(w, []simFault{faultError, faultHang, faultQuota})
	}
	w.note("fails: %v, unreadable: %t", w.fails, w.unreadable)
}

// misbehave has the hostile member do something.
func (w *simWorld) misbehave() {
	namespace := "tenant-" + hostile
	tj := pick(w, sorted(w.tenantJobs, func(tj *v1alpha1.TenantJob) bool { return tj.Namespace == namespace }))
	fanOuts := slices.Sorted(maps.Keys(w.fanOuts))
	child := w.tenantJobs[types.NamespacedName{Namespace: namespace, Name: pick(w, fanOuts)}]
	if child != nil && w.chance(2) {
		tj = child
	}
	change := func(change func(*v1alpha1.TenantJob)) {
		if tj != nil {
			w.note("%s changes TenantJob %s", hostile, tj.Name)
			w.changeTenantJob(tj, change)
		}
	}
	switch w.rnd.IntN(14) {
	case 0:
		for range 1 + w.rnd.IntN(15) {
			w.newTenantJob(hostile, fmt.Sprint("flood-", w.uids), nil)
		}
	case 1, 2, 3:
		if tj != nil {
			w.deleteTenantJob(tj, pick(w, []metav1.DeletionPropagation{
				metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan,
			}))
		}
	case 4:
		if tj != nil {
			w.removeTenantJob(tj)
			w.forge(tj.Name)
			if w.chance(2) {
				w.leader.relist(tenantJobStream)
			}
		}
	case 5:
		if name := pick(w, fanOuts); name != "" {
			w.forge(name)
		}
	case 6:
		change(func(tj *v1alpha1.TenantJob) {
			tj.Spec.NotBeforeTime = new(metav1.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC))
		})
	case 7:
		change(func(tj *v1alpha1.TenantJob) { tj.Spec.Cancel = new(true) })
	case 8:
		change(func(tj *v1alpha1.TenantJob) { tj.Spec.MaxWaitSeconds = new(int32(w.rnd.IntN(60))) })
	case 9:
		change(func(tj *v1alpha1.TenantJob) { tj.OwnerReferences = nil })
	case 10:
		change(func(tj *v1alpha1.TenantJob) {
			tj.Labels = maps.Clone(tj.Labels)
			for _, label := range []string{v1alpha1.LabelTenant, v1alpha1.LabelFanOut, v1alpha1.LabelQueue} {
				metav1.SetMetaDataLabel(&tj.ObjectMeta, label, pick(w, append([]string{"q"}, honest...)))
			}
		})
	case 11:
		w.forgeJob()
	case 12:
		victim := pick(w, honest)
		w.newTenantJob(hostile, pick(w, append([]string{"other"}, fanOuts...)), func(tj *v1alpha1.TenantJob) { tj.Spec.TenantRef.Name = victim })
	case 13:
		if j := pick(w, sorted(w.jobs, func(j *batchv1.Job) bool { return j.Namespace == namespace })); j != nil {
			w.changeJob(j, func(j *batchv1.Job) { j.OwnerReferences = nil })
		}
	}
}

// forge creates a TenantJob with the name and the owner of a fan-out's child.
func (w *simWorld) forge(name string) {
	f := w.fanOuts[name]
	w.newTenantJob(hostile, name, func(tj *v1alpha1.TenantJob) {
		tj.Labels = map[string]string{v1alpha1.LabelFanOut: name}
		if f != nil && w.rnd.IntN(4) > 0 {
			tj.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(f, v1alpha1.GroupVersion.WithKind("TenantFanOut"))}
		}
	})
}

// forgeJob creates a Job in the member's namespace that looks like a run of another tenant.
func (w *simWorld) forgeJob() {
	victim := pick(w, honest)
	name := fmt.Sprint("forged-", w.uids)
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{
		Namespace: "tenant-" + hostile, Name: name, Annotations: map[string]string{v1alpha1.AnnotationTemplateGeneration: "1"},
		Labels: map[string]string{v1alpha1.LabelTenant: victim, v1alpha1.LabelTemplate: "report", v1alpha1.LabelQueue: "q"},
	}}
	if tj := pick(w, sorted(w.tenantJobs, func(tj *v1alpha1.TenantJob) bool { return tj.Namespace == "tenant-"+victim })); tj != nil {
		j.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(tj, v1alpha1.GroupVersion.WithKind("TenantJob"))}
	}
	w.note("%s forges a Job of %s", hostile, victim)
	_ = w.createJob(j)
}

// upset lets something happen to the operator or to its clock.
func (w *simWorld) upset(r *simReplica) {
	switch w.rnd.IntN(13) {
	case 0:
		w.restart()
	case 1, 12:
		w.takeOver()
	case 4:
		w.note("the clock is turned back")
		w.clock.Step(-time.Minute)
		w.turnedBack += time.Minute
	case 5:
		w.note("hours pass")
		w.advance(time.Duration(1+w.rnd.IntN(3)) * time.Hour)
	case 6, 7, 8:
		r.relist(w.rnd.IntN(streams))
	case 9:
		tn := w.tenants[pick(w, []string{hostile, broken})].DeepCopy()
		tn.Spec.Jobs.Weight = new(int32(1 + w.rnd.IntN(3)))
		tn.Generation++
		tn.Status.ObservedGeneration = tn.Generation
		w.setTenant(tn)
	case 10:
		if name := pick(w, slices.Sorted(maps.Keys(w.fanOuts))); name != "" {
			w.suspendFanOut(name, w.chance(2))
		}
	case 11:
		if len(w.former) > 0 {
			w.former = w.former[1:]
		}
	}
}

// restart has the leader die, and another process begin.
func (w *simWorld) restart() {
	w.note("%s dies", w.leader.name)
	for _, s := range w.leader.starting {
		if !s.sent && w.chance(2) {
			s.send(s)
		}
	}
	w.leader.starting = nil
	dead := w.leader
	w.leader = w.newReplica()
	dead.leads, dead.runs = false, false
	w.advance(LeaseDuration)
	w.lead()
}

// takeOver has the process that stands by become the leader. The former one goes on for a while.
func (w *simWorld) takeOver() {
	former := w.leader
	w.note("%s loses the lease to %s", former.name, w.standby.name)
	former.leads = false
	w.former = append(w.former, former)
	if len(w.former) > 2 {
		w.former = w.former[1:]
	}
	w.leader, w.standby = w.standby, w.newReplica()
	w.advance(LeaseDuration - RenewDeadline + leaseMargin) // It has sent what it began before its lease ends.
	w.lead()
}

// lead has the new leader begin.
func (w *simWorld) lead() {
	w.turns = newSimTurns(w)
	w.leader.leads = true
	w.leader.startControllers()
	r := w.leader
	w.listing = func() {
		for range w.rnd.IntN(4) {
			if move := pick(w, w.moves()); move != nil {
				move()
			}
			r.deliver(w.rnd.IntN(streams))
		}
	}
	if w.chance(2) {
		_ = r.sync(w.ctx)
	}
}

// check checks what must hold at any time.
func (w *simWorld) check() {
	w.t.Helper()
	w.checkLimits()
	w.turns.look()
}

// quiet lets everything be known, and checks that the slots are those of what runs.
func (w *simWorld) quiet() {
	w.t.Helper()
	unreadable, fails := w.unreadable, w.fails
	w.unreadable = false
	w.former = nil
	w.note("it gets quiet")
	for range 3 {
		w.leader.catchUp()
		for len(w.leader.starting) > 0 {
			s := w.leader.starting[0]
			if !s.sent {
				s.send(s)
			}
			s.finishStart(s, false)
		}
		for i := 0; w.pass(w.leader) || !w.leader.synced; i++ {
			if w.leader.catchUp(); i > 5000 {
				w.fatalf("%s never comes to rest", w.leader.name)
			}
		}
		w.advance(outcomeWithin)
	}
	w.leader.catchUp()
	w.leader.tick()
	w.checkSlots()
	w.unreadable, w.fails = unreadable, fails
}

// checkSlots checks that the leader's slots are those of what runs.
func (w *simWorld) checkSlots() {
	w.t.Helper()
	d := w.leader
	live := map[types.UID]bool{}
	for _, run := range w.live() {
		live[run.jobUID] = true
	}
	for _, run := range w.running() {
		if d.slotsByJob[run.jobUID] == nil && d.slotsByUID[run.tenantJob] == nil {
			w.fatalf("Job %s (%s) runs without a slot", run.key, run.jobUID)
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(d.slotsByUID)) {
		if s := d.slotsByUID[uid]; !live[s.jobUID] && !s.admitted && !s.starting && !s.mayBeMade(w.now()) {
			w.fatalf("a slot is held by nothing that runs: %+v", *s)
		}
		if s := d.slotsByUID[uid]; s.admitted && (w.tenantJobs[s.job.NamespacedName] == nil || w.tenantJobs[s.job.NamespacedName].UID != uid) {
			w.fatalf("a TenantJob is admitted that is gone: %+v", *s)
		}
	}
}

// drain lets everything end, without hostile acts, and checks what has come of it.
func (w *simWorld) drain() {
	w.note("it ends")
	w.unreadable, w.former = false, nil
	if w.chance(2) {
		delete(w.fails, broken)
	}
	began := w.elapsed()
	for !w.isOver() {
		if w.elapsed()-began > 90*time.Minute {
			w.fatalf("it never ends: %s", w.left())
		}
		w.leader.catchUp()
		moves := w.moves()
		for _, move := range moves {
			move()
		}
		passes := 0
		for ; w.pass(w.leader); passes++ {
			if passes > 10000 {
				w.fatalf("%s never comes to rest", w.leader.name)
			}
		}
		w.resume()
		w.check()
		if len(moves)+passes > 0 {
			w.advance(time.Second)
		} else {
			w.advance(releaseEvery)
		}
	}
	w.checkEnd()
}

// resume has a person resume all fan-outs that are paused.
func (w *simWorld) resume() {
	for _, name := range slices.Sorted(maps.Keys(w.fanOuts)) {
		f := w.fanOuts[name]
		paused := conditions.Get(f.Status.Conditions, v1alpha1.ConditionPaused)
		switch {
		case f.Status.CompletionTime != nil:
		case ptr.Deref(f.Spec.Suspend, false) && (paused.Reason == v1alpha1.ReasonSuspended || paused.Reason == ""):
			w.suspendFanOut(name, false)
		case paused.Reason == v1alpha1.ReasonFailureBudgetExceeded:
			w.suspendFanOut(name, true)
		}
	}
}

// left is what is not over: fan-outs, and honest TenantJobs, and what runs.
func (w *simWorld) left() string {
	text := ""
	for name, f := range w.fanOuts {
		if f.Status.CompletionTime == nil {
			text += fmt.Sprintf("fan-out %s %+v %v; ", name, f.Status.Counts, w.storedOutcomes(name))
		}
	}
	for _, tj := range sorted(w.tenantJobs, nil) {
		if w.isHonest(tj) && !job.IsOver(tj) {
			text += fmt.Sprintf("%s (%s) %+v; ", kube.KeyOf(tj), tj.UID, tj.Status)
		}
	}
	for _, run := range w.live() {
		text += fmt.Sprintf("%s runs; ", run.key)
	}
	return text
}

// isOver says whether nothing is left.
func (w *simWorld) isOver() bool {
	for _, f := range w.fanOuts {
		if f.Status.CompletionTime == nil {
			return false
		}
	}
	for _, tj := range w.tenantJobs {
		if w.isHonest(tj) && !job.IsOver(tj) {
			return false
		}
	}
	return len(w.live()) == 0
}

// isHonest says whether a TenantJob is one that has to run as if there were no others.
func (w *simWorld) isHonest(tj *v1alpha1.TenantJob) bool {
	return slices.Contains(honest, tj.Namespace[len("tenant-"):])
}

// checkEnd checks what has come of everything.
func (w *simWorld) checkEnd() {
	w.leader.catchUp()
	for range 3 {
		for w.pass(w.leader) {
			w.leader.catchUp()
		}
		w.advance(outcomeWithin)
	}
	w.checkSlots()
	for _, name := range slices.Sorted(maps.Keys(w.fanOuts)) {
		counts := map[fanout.Counter]int32{}
		for tenant, outcome := range w.storedOutcomes(name) {
			counts[outcome.Counter]++
			if !outcome.Decided() {
				w.fatalf("%s has no outcome in %s", tenant, name)
			}
			if slices.Contains(honest, tenant) && !w.isOwn(outcome.Reason, w.ranAs[name+"/"+tenant]) {
				w.fatalf("%s of %s ended with %+v, and ran as %v", name, tenant, outcome, w.ranAs[name+"/"+tenant])
			}
		}
		c := w.fanOuts[name].Status.Counts
		if c.Succeeded != counts[fanout.Succeeded] || c.Failed != counts[fanout.Failed] || c.Skipped != counts[fanout.Skipped] || c.Waiting+c.Running != 0 {
			w.fatalf("%s counts %+v, and has %v", name, *c, counts)
		}
	}
	for _, tj := range sorted(w.tenantJobs, nil) {
		c := conditions.Get(tj.Status.Conditions, v1alpha1.ConditionSucceeded)
		if w.isHonest(tj) && !w.isOwn(c.Reason, map[types.UID]bool{tj.UID: true}) {
			w.fatalf("%s ended with %s: %s", kube.KeyOf(tj), c.Reason, c.Message)
		}
	}
}

// isOwn says whether an outcome is that of the pod of one of these TenantJobs.
func (w *simWorld) isOwn(reason string, tenantJobs map[types.UID]bool) bool {
	for _, run := range w.runs {
		if tenantJobs[run.tenantJob] {
			return run.ended && (run.succeeds && reason == v1alpha1.ReasonCompleted || !run.succeeds && reason == v1alpha1.ReasonJobFailed)
		}
	}
	return false
}

// simTurns measures how long tenants wait, and how many start in a minute.
type simTurns struct {
	w *simWorld
	// passed counts the starts of others, since a tenant that could start but for the queue's limits has last started.
	passed map[string]map[string]int
	epochs map[string]int
	// admitted are the TenantJobs that were admitted and had not begun their start when a tenant last started. They may have been
	// before it.
	admitted map[string]map[types.UID]time.Time
	made     []time.Duration
}

func newSimTurns(w *simWorld) simTurns {
	turns := simTurns{w: w, passed: map[string]map[string]int{}, epochs: map[string]int{}, admitted: map[string]map[types.UID]time.Time{}, made: w.turns.made}
	return turns
}

// reset begins anew to count the starts that a tenant waits for.
func (t *simTurns) reset(tenant string) {
	t.passed[tenant] = map[string]int{}
	t.epochs[tenant]++
}

// look finds the tenants that something else holds than the queue's limits.
func (t *simTurns) look() {
	for _, tenant := range honest {
		if !t.waits(tenant) {
			t.reset(tenant)
		}
	}
}

// waits says whether a tenant has a TenantJob that the queue's own limits hold, and nothing else.
func (t *simTurns) waits(tenant string) bool {
	d, w := t.w.leader, t.w
	if !d.synced {
		return false
	}
	slots := 0
	for _, s := range d.slotsByUID {
		if s.job.Tenant == tenant {
			slots++
		}
	}
	limits := []*int32{w.queue.Spec.MaxConcurrentPerTenant, w.template.Spec.MaxConcurrentPerTenant, w.tenants[tenant].Spec.Jobs.MaxConcurrent}
	for _, limit := range limits {
		if limit != nil && slots >= int(*limit) {
			return false
		}
	}
	if _, failed := d.failures[tenant]; failed {
		return false
	}
	for _, tj := range w.tenantJobs {
		if j, known := d.state.Job(tj.UID); known && j.Tenant == tenant && j.Held == "" && j.FanOut == "" && d.slot(tj.UID) == nil {
			return true
		}
	}
	return false
}

// isAdmitted says whether a TenantJob of a tenant is about to start.
func (t *simTurns) isAdmitted(tenant string) bool {
	d := t.w.leader
	for uid := range d.admitted {
		if d.slot(uid).job.Tenant == tenant {
			return true
		}
	}
	return false
}

// begins takes in that a start begins. It returns for whom it counts.
func (t *simTurns) begins(r *simReplica, j queue.Job) map[string]int {
	if r != t.w.leader {
		return nil
	}
	t.look()
	t.reset(j.Tenant)
	t.admitted[j.Tenant] = maps.Clone(r.admitted)
	counts := map[string]int{}
	for _, tenant := range honest {
		if t.waits(tenant) && !t.isAdmitted(tenant) && t.admitted[tenant][j.UID].IsZero() {
			counts[tenant] = t.epochs[tenant]
		}
	}
	return counts
}

// finishes takes in what came of a start.
func (t *simTurns) finishes(r *simReplica, s *simStart, result StartResult) {
	if r != t.w.leader || result != Made {
		return
	}
	by := s.TenantJob.Spec.TenantRef.Name
	for _, tenant := range honest {
		if epoch, counts := s.epochs[tenant]; tenant == by || !counts || t.epochs[tenant] != epoch {
			continue
		}
		t.passed[tenant][by]++
		weight := func(name string) int { return int(*t.w.tenants[name].Spec.Jobs.Weight) }
		if bound := 1 + 3/weight(tenant); t.passed[tenant][by] > bound {
			t.w.fatalf("%s started %d times while %s waited, and may %d times", by, t.passed[tenant][by], tenant, bound)
		}
	}
}

// starts takes in that a Job was made.
func (t *simTurns) starts() {
	now := t.w.elapsed()
	t.made = append(t.made, now)
	for len(t.made) > 0 && now-t.made[0] >= time.Minute {
		t.made = t.made[1:]
	}
	if limit := int(*t.w.queue.Spec.StartsPerMinute); len(t.made) > limit {
		t.w.fatalf("%d starts in a minute, and there may be %d", len(t.made), limit)
	}
}
