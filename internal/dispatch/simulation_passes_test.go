package dispatch

import (
	"errors"
	"maps"
	"reflect"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/queue"
)

// simPass is a pass of the TenantJob controller, as internal/controller/jobs makes it: what is pure is the same code.
type simPass struct {
	*simReplica
	job.Observed
	base     *v1alpha1.TenantJob
	standing Standing
	now      time.Time
}

// simStart is a start under way: the request for the Job is on its way.
type simStart struct {
	*simPass
	decision job.Decision
	answer   Answer
	built    *batchv1.Job
	began    time.Duration
	epochs   map[string]int
	// sent means that the API server has done what it will, and err is what it answers.
	sent bool
	err  error
}

var errStatusRefused = apierrors.NewInternalError(errors.New("no status"))

// reconcile makes a pass of a TenantJob.
func (r *simReplica) reconcile(key types.NamespacedName) {
	w := r.w
	cached, exists := r.tenantJobs.Get(key)
	r.stopOrphan(r.jobs.Get(key))
	if !exists {
		return
	}
	p := &simPass{simReplica: r, base: cached, standing: r.Standing(cached), now: w.now()}
	if p.standing.Settles > 0 && r.cachedJob(cached) == nil {
		r.after(key, p.standing.Settles)
		return
	}
	if !p.observe() {
		r.after(key, time.Second)
		return
	}
	d := job.Decide(p.Observed, p.now)
	switch d.Action {
	case job.ActionStart:
		p.start(d)
		return
	case job.ActionStop:
		if j := w.jobs[key]; j != nil && j.UID == p.Job.UID {
			w.stopJob(j)
		}
		d = job.Decision{}
	case job.ActionRemove:
		if tj := w.tenantJobs[key]; tj != nil && tj.UID == p.TenantJob.UID {
			w.deleteTenantJob(tj, metav1.DeletePropagationBackground)
		}
		d = job.Decision{}
	default:
		if p.Job == nil && !job.Ends(d) && p.TenantJob.DeletionTimestamp == nil && !job.IsOver(p.TenantJob) {
			j := queueJobOf(p.Observed)
			if j.Held = d.Message; j.Held == "" {
				j.Held = "it is being checked"
			}
			r.Wait(j)
		}
	}
	p.conclude(d, nil)
}

// stopOrphan stops a Job that has lost its TenantJob.
func (r *simReplica) stopOrphan(j *batchv1.Job) {
	if j == nil || !job.IsOrphan(j) || !job.IsLive(j) || j.DeletionTimestamp != nil || j.Namespace != "tenant-"+j.Labels[v1alpha1.LabelTenant] {
		return
	}
	if live := r.w.jobs[kube.KeyOf(j)]; live != nil && live.UID == j.UID {
		r.w.stopJob(live)
	}
}

// observe gathers what the decision needs. It is false when something could not be read.
func (p *simPass) observe() bool {
	w, tj := p.w, p.base.DeepCopy()
	p.Observed = job.Observed{TenantJob: tj, Started: p.standing.Started}
	if tn, known := w.tenants[tj.Namespace[len("tenant-"):]]; known {
		p.Namespace = &job.Namespace{UID: tn.Status.Namespace.UID, Tenant: tn.Name, TenantUID: tn.UID, State: v1alpha1.StateActive}
	}
	if cached, known, _ := p.stores[tenantStream].GetByKey(tj.Spec.TenantRef.Name); known {
		p.Tenant = cached.(*v1alpha1.Tenant)
	}
	p.FanOut, p.Template = p.standing.FanOut, p.standing.Template
	if owner := job.FanOutOf(tj); p.FanOut == nil && owner == nil {
		p.Template = w.template
	} else if p.FanOut == nil {
		p.FanOut = &job.FanOut{}
		if f := w.fanOuts[owner.Name]; f != nil && f.UID == owner.UID && f.Status.CompletionTime != nil {
			*p.FanOut = job.FanOut{Recorded: true, Skipped: true, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonSuperseded, Message: "it had ended"}
			p.Template = w.template
		}
	}
	if end := p.standing.Replaced; end != nil {
		p.Replaced = end.Message
	}
	p.Job = p.cachedJob(tj)
	if p.Job == nil && (p.standing.Started || tj.Status.JobRef != nil && !job.IsOver(tj)) {
		live, err := kube.Find(w.ctx, simReader{w}, kube.KeyOf(tj), &batchv1.Job{})
		if err != nil {
			return false
		}
		if live != nil && metav1.IsControlledBy(live, tj) {
			p.Job = live
		}
	}
	if job.NeedsPods(p.Observed, p.now) && !p.isDeferred() {
		p.Pods = &job.Pods{}
		if pod := w.pods[p.Job.UID]; pod != nil && !pod.ended {
			if pod.running {
				p.Pods.Running++
			} else {
				p.Pods.Pending++
			}
		}
	}
	return true
}

func (p *simPass) isDeferred() bool {
	tj := p.TenantJob
	return p.standing.Started && p.standing.Deferred && p.Job != nil && tj.Status.JobRef == nil && !job.IsOver(tj) && tj.DeletionTimestamp == nil
}

// start asks the dispatcher, and begins the start if it may.
func (p *simPass) start(d job.Decision) {
	w, key := p.w, kube.KeyOf(p.TenantJob)
	run := job.Run{TenantJob: p.TenantJob, Tenant: p.Tenant, Template: p.Template, FanOut: p.FanOut}
	candidate := queueJobOf(p.Observed)
	candidate.MaxWait = job.MaxWait(p.TenantJob, p.Template)
	candidate.Waited = waitedOf(&p.TenantJob.Status, p.now)
	message := ""
	if c := conditions.Get(p.TenantJob.Status.Conditions, v1alpha1.ConditionSucceeded); c.Reason == v1alpha1.ReasonQueued {
		message = c.Message
	}
	a := p.Ask(candidate, message)
	labels := job.Labels(run, d.Values)
	if a.Finish == nil {
		p.wait(a, labels)
		return
	}
	w.note("%s begins %s (%s)", p.name, key, p.TenantJob.UID)
	s := &simStart{simPass: p, decision: d, answer: a, began: w.elapsed(), epochs: w.turns.begins(p.simReplica, candidate)}
	if !p.label(labels) {
		s.sent, s.err = true, errStatusRefused
		p.finishStart(s, true)
		return
	}
	s.built = job.Build(run, d.Values)
	p.busy[key] = true
	p.starting = append(p.starting, s)
	if !w.chance(4) && w.fails[p.TenantJob.Spec.TenantRef.Name] != faultHang {
		p.send(s)
		p.finishStart(s, false)
	}
}

// label puts the operator's labels on a TenantJob. It is false when the API server refuses that.
func (p *simPass) label(labels map[string]string) bool {
	tj := p.TenantJob
	missing := maps.Clone(labels)
	maps.DeleteFunc(missing, func(key, value string) bool { return tj.Labels[key] == value })
	if len(missing) == 0 {
		return true
	}
	live := p.w.tenantJobs[kube.KeyOf(tj)]
	if live == nil || live.UID != tj.UID || p.w.fails[tj.Spec.TenantRef.Name] == faultError {
		return false
	}
	p.w.changeTenantJob(live, func(live *v1alpha1.TenantJob) {
		live.Labels = maps.Clone(live.Labels)
		for key, value := range missing {
			metav1.SetMetaDataLabel(&live.ObjectMeta, key, value)
		}
	})
	for key, value := range missing {
		metav1.SetMetaDataLabel(&tj.ObjectMeta, key, value)
	}
	tj.ResourceVersion = p.w.tenantJobs[kube.KeyOf(tj)].ResourceVersion
	return true
}

// wait concludes a pass of a TenantJob that the dispatcher did not admit.
func (p *simPass) wait(a Answer, labels map[string]string) {
	switch {
	case a.End != nil:
		p.conclude(job.EndWith(a.End.Reason, a.End.Message), nil)
		return
	case a.Hold.Kind == "":
		p.conclude(job.Decision{RequeueAfter: a.Again}, nil)
		return
	}
	before := p.TenantJob.ResourceVersion
	p.label(labels)
	if p.TenantJob.ResourceVersion != before {
		p.conclude(job.Decision{}, nil) // The watch brings it back.
		return
	}
	d := job.Queued(a.Hold.Message())
	switch {
	case a.Hold.Kind != queue.HeldByBackoff:
	case a.ServerInTrouble:
		d.Trouble = job.UnclearTrouble
	default:
		d.Trouble = job.TenantsTrouble
	}
	d.Waited = &job.Waited{Before: a.Waited, Counts: a.Hold.CountsAsWait()}
	p.conclude(d, nil)
}

// send lets the API server do what it does about a start.
func (p *simPass) send(s *simStart) {
	w, tenant := p.w, p.TenantJob.Spec.TenantRef.Name
	s.sent = true
	made := func() {
		if err := w.createJob(s.built); err != nil {
			s.err = err
		} else {
			w.madeJob(s.built, p.TenantJob)
			w.turns.starts()
		}
	}
	switch w.fails[tenant] {
	case faultError, faultHang:
		if w.chance(2) {
			made()
		}
		s.err = errUnavailable
	case faultQuota:
		s.err = apierrors.NewForbidden(schema.GroupResource{Resource: "jobs"}, s.built.Name, errors.New("exceeded quota: tenant-quota"))
	default:
		made()
	}
}

// finishStart tells the dispatcher what came of a start, and concludes the pass.
func (p *simPass) finishStart(s *simStart, labelRefused bool) {
	w, tj := p.w, p.TenantJob
	key := kube.KeyOf(tj)
	delete(p.busy, key)
	for i, other := range p.starting {
		if other == s {
			p.starting = append(p.starting[:i:i], p.starting[i+1:]...)
			break
		}
	}
	p.now = w.now()
	d, result, why, err := s.decision, NotMade, "", s.err
	created := s.built
	if apierrors.IsAlreadyExists(err) {
		if created, err = kube.Find(w.ctx, simReader{w}, key, &batchv1.Job{}); created == nil && err == nil {
			err = errUnavailable
		}
	}
	switch refusal := kube.RefusalOf(err); {
	case labelRefused:
		result, why = Refused, "the API server refuses the labels"
		d, err = job.Queued(why), nil
		d.Trouble = job.TenantsTrouble
	case err == nil && !metav1.IsControlledBy(created, tj):
		d = job.NameTaken(p.Observed, created)
		if d.RequeueAfter > 0 {
			d.RequeueAfter = job.RetryAfter(tj.CreationTimestamp.Time, p.now)
		}
		p.stopOrphan(created)
		why = d.Message
	case err == nil:
		result, p.Job, p.Started, p.standing.Started = Made, created, true, true
		d = job.Decide(p.Observed, p.now)
	case refusal == kube.RefusalUnknown:
		result, why = Uncertain, job.RefusedJob(tj, kube.MessageOf(err))
	default:
		result, why = Refused, job.RefusedJob(tj, kube.MessageOf(err))
		d, err = job.Queued(why), nil
		d.Trouble = job.TenantsTrouble
	}
	w.note("%s finishes %s (%s): %s %s", p.name, key, tj.UID, result, why)
	s.answer.Finish(result, why)
	w.turns.finishes(p.simReplica, s, result)
	p.conclude(d, err)
}

// conclude records a decision and writes the status.
func (p *simPass) conclude(d job.Decision, err error) {
	w, tj, key := p.w, p.TenantJob, kube.KeyOf(p.TenantJob)
	if d, err = p.limitTrouble(d, err); err != nil {
		p.after(key, time.Second)
		return
	}
	isWaiting := d.Action == job.ActionNone && (d.Reason == "" || d.Status == metav1.ConditionUnknown)
	deferred := isWaiting && p.isDeferred()
	base := *p.base
	base.Labels, base.ResourceVersion = tj.Labels, tj.ResourceVersion
	if !deferred {
		p.record(d)
	}
	report := Report{
		UID: tj.UID, Running: p.Job != nil, Deferred: deferred, Over: job.IsOver(tj) || tj.DeletionTimestamp != nil,
		Settled:     (base.Status.JobRef != nil || job.IsOver(&base)) && (p.Job == nil || p.cachedJob(tj) != nil),
		OverInCache: job.IsOver(&base),
	}
	if report.Over {
		report.Outcome = p.childOutcome()
	}
	p.Report(report)
	if deferred {
		return
	}
	if !reflect.DeepEqual(tj.Status, base.Status) {
		live := w.tenantJobs[key]
		switch {
		case live == nil || live.UID != tj.UID:
			return
		case live.ResourceVersion != tj.ResourceVersion:
			p.after(key, kube.StaleAfter)
			return
		case w.fails[tj.Namespace[len("tenant-"):]] == faultError && w.chance(2):
			p.after(key, time.Second)
			return
		}
		w.changeTenantJob(live, func(live *v1alpha1.TenantJob) { live.Status = *tj.Status.DeepCopy() })
		if job.IsOver(tj) {
			c := conditions.Get(tj.Status.Conditions, v1alpha1.ConditionSucceeded)
			w.note("%s: %s (%s) %s %s: %s", p.name, key, tj.UID, c.Status, c.Reason, c.Message)
			w.recordOutcome(string(tj.UID), string(c.Status)+c.Reason)
		}
	}
	if d.RequeueAfter > 0 {
		p.after(key, d.RequeueAfter)
	}
}

// limitTrouble ends a fan-out's child that trouble has kept from starting for too long.
func (p *simPass) limitTrouble(d job.Decision, err error) (job.Decision, error) {
	tj, key := p.TenantJob, kube.KeyOf(p.TenantJob)
	if p.FanOut == nil || p.Job != nil || p.Started || tj.Status.JobRef != nil || tj.DeletionTimestamp != nil || job.IsOver(tj) {
		delete(p.troubles, key)
		return d, err
	}
	limited := d
	if err != nil {
		limited = job.Queued(err.Error())
		limited.Trouble = job.UnclearTrouble
	}
	trouble := job.TroubleOf(p.Observed, limited)
	if p.FanOut.Paused {
		trouble = job.NoTrouble
	}
	clock := p.troubles[key]
	if trouble == job.NoTrouble && clock == nil {
		return d, err
	}
	if clock == nil || clock.uid != tj.UID {
		clock = &simTrouble{uid: tj.UID}
		p.troubles[key] = clock
	}
	limited = clock.Limit(limited, trouble, p.now)
	if err != nil && !job.Ends(limited) {
		return d, err
	}
	return limited, nil
}

// record puts a decision into the status.
func (p *simPass) record(d job.Decision) {
	tj := p.TenantJob
	status := &tj.Status
	if p.Job == nil && p.Started && status.JobRef == nil {
		status.JobRef = &v1alpha1.LocalReference{Name: tj.Name}
	}
	if d.Reason == "" {
		if job.IsOver(tj) {
			status.ObservedGeneration = tj.Generation
		}
		return
	}
	status.ObservedGeneration = tj.Generation
	if p.Job != nil && status.StartTime == nil {
		status.JobRef = &v1alpha1.LocalReference{Name: p.Job.Name}
		status.StartTime = &p.Job.CreationTimestamp
		status.TenantUID = p.Tenant.UID
	}
	if runs, counts := status.QueuedTime != nil, d.Waited != nil && d.Waited.Counts; runs != counts {
		before := waitedOf(status, p.now)
		if d.Waited != nil {
			before = d.Waited.Before
		}
		status.QueuedSeconds = int32(before / time.Second)
		if status.QueuedTime = nil; counts {
			status.QueuedTime = &metav1.Time{Time: p.now}
		}
	}
	if d.Status != metav1.ConditionUnknown && status.CompletionTime == nil {
		status.CompletionTime = job.CompletionTime(p.Job, p.now)
	}
	set := conditions.Setter{List: &status.Conditions, Generation: tj.Generation, Now: p.w.stamp().Time}
	set.Set(v1alpha1.ConditionSucceeded, d.Status, d.Reason, d.Message)
}

func waitedOf(status *v1alpha1.TenantJobStatus, now time.Time) time.Duration {
	before := time.Duration(status.QueuedSeconds) * time.Second
	if status.QueuedTime != nil {
		before += max(0, now.Sub(status.QueuedTime.Time))
	}
	return before
}

// childOutcome is what came of a TenantJob for the fan-out whose child it is. Nil means that it is nobody's.
func (p *simPass) childOutcome() *ChildOutcome {
	tj := p.TenantJob
	owner, c := job.FanOutOf(tj), conditions.Get(tj.Status.Conditions, v1alpha1.ConditionSucceeded)
	outcome := &ChildOutcome{TenantJob: tj.UID, Tenant: tj.Spec.TenantRef.Name, Outcome: fanout.OutcomeOf(c.Status, c.Reason, c.Message)}
	switch {
	case c.Type == "", c.Reason == v1alpha1.ReasonTenantMismatch:
		return nil
	case owner != nil:
		outcome.FanOut, outcome.UID = owner.Name, owner.UID
	case p.FanOut != nil:
		outcome.FanOut, outcome.UID = p.FanOut.Name, p.FanOut.UID
	default:
		return nil
	}
	return outcome
}
