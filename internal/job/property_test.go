package job

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

// FuzzDecide checks for random observations that no decision breaks a rule.
func FuzzDecide(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 0))
		started := 0
		for range 500 {
			o := observeAnything(random)
			before := o.TenantJob.DeepCopy()
			d := Decide(o, now)
			for _, rule := range brokenRules(o, d) {
				t.Errorf("%s\nobserved: %+v\ntenant: %+v\nnamespace: %+v\nJob: %+v\ndecided: %+v", rule, *before, o.Tenant, o.Namespace, o.Job, d)
			}
			if d.Action == ActionStart {
				started++
				Build(Run{TenantJob: o.TenantJob, Tenant: o.Tenant, Template: o.Template}, d.Values)
				MaxWait(o.TenantJob, o.Template)
			}
			NeedsPods(o, now)
		}
		if started == 0 {
			t.Error("nothing was started: these cases test nothing")
		}
	})
}

// statuses has the statuses that the condition Succeeded may have with each reason, as in the table of the design.
var statuses = map[string][]metav1.ConditionStatus{
	v1alpha1.ReasonPending: {unknown}, v1alpha1.ReasonNotYetDue: {unknown}, v1alpha1.ReasonQueued: {unknown},
	v1alpha1.ReasonIssuingCredentials: {unknown},
	v1alpha1.ReasonTenantSuspended:    {unknown, isFalse}, v1alpha1.ReasonTenantNotReady: {unknown},
	v1alpha1.ReasonTemplateNotFound: {unknown}, v1alpha1.ReasonTemplateNotReady: {unknown},
	v1alpha1.ReasonStarting: {unknown}, v1alpha1.ReasonRunning: {unknown}, v1alpha1.ReasonCompleted: {isTrue},
	v1alpha1.ReasonJobFailed: {isFalse}, v1alpha1.ReasonDeadlineExceeded: {isFalse}, v1alpha1.ReasonPodsRefused: {isFalse},
	v1alpha1.ReasonExpired: {isFalse}, v1alpha1.ReasonCredentialsFailed: {isFalse}, v1alpha1.ReasonInvalidParameters: {isFalse},
	v1alpha1.ReasonTenantMismatch: {isFalse}, v1alpha1.ReasonNameConflict: {isFalse}, v1alpha1.ReasonDeleted: {isFalse},
	v1alpha1.ReasonStoppedBySuspension: {isFalse}, v1alpha1.ReasonCancelled: {isFalse}, v1alpha1.ReasonTenantDeleted: {isFalse},
	v1alpha1.ReasonReplaced: {isFalse}, v1alpha1.ReasonSuperseded: {isFalse},
}

// brokenRules returns the rules that a decision breaks.
func brokenRules(o Observed, d Decision) []string {
	var all []string
	never := func(wrong bool, what string) {
		if wrong {
			all = append(all, what)
		}
	}
	over := IsOver(o.TenantJob)
	never(over && d.Action == ActionStart, "one that is over is started")
	never(over && d.Reason != "", "an outcome is changed")
	never(!over && (d.Action == ActionStop || d.Action == ActionRemove), "a Job is stopped or a TenantJob removed before the status has the outcome")
	never(d.Action == ActionRemove && o.Job != nil && !Ended(o.Job) && o.Job.DeletionTimestamp == nil, "a TenantJob is removed while its Job runs")
	never(d.RequeueAfter < 0, "decided again in the past")
	never(d.Reason != "" && !slices.Contains(statuses[d.Reason], d.Status), "a reason has a status that it never has")
	never(d.Reason != "" && d.Message == "", "a reason without a message")
	never(d.Status == unknown && d.Progress == conditions.Current, "Current before it is over")
	never(d.Status == isTrue && d.Progress != conditions.Current || d.Status == isFalse && d.Progress == conditions.Reconciling, "over and in progress")
	never(strings.Contains(d.Message, "s3cr3t"), "a value is quoted")
	never(o.Job != nil && Ended(o.Job) && !over && o.TenantJob.DeletionTimestamp == nil && d.Status == unknown, "a finished Job has no outcome")
	never(o.Job != nil && hasOutcome(o.Job) && !Ended(o.Job) && d.Status == isFalse && d.Reason != v1alpha1.ReasonTenantMismatch, "another outcome than the Job is about to have")
	if d.Action != ActionStart {
		return all
	}
	never(d.Reason != "", "started and something else")
	never(o.Job != nil || o.TenantJob.Status.JobRef != nil || o.Started, "started twice")
	never(o.TenantJob.DeletionTimestamp != nil, "started while it is being deleted")
	never(o.TenantJob.Spec.Cancel != nil && *o.TenantJob.Spec.Cancel, "started though cancelled")
	never(o.TenantJob.Spec.NotBeforeTime != nil && o.TenantJob.Spec.NotBeforeTime.After(now), "started before its time")
	never(o.Template == nil, "started without a template")
	never(o.Credentials != nil && *o.Credentials != Credentials{}, "started without its credentials")
	if o.Tenant == nil || o.Namespace == nil {
		return append(all, "started without a tenant or its namespace")
	}
	ready := o.Tenant.Status.Conditions
	never(len(ready) == 0 || ready[0].Status != isTrue, "started while the tenant is not ready")
	never(o.Tenant.Spec.Suspend != nil && *o.Tenant.Spec.Suspend, "started for a suspended tenant")
	never(len(o.TenantJob.Name) > MaxNameLength(o.Template), "started with a name that is too long for its pods")
	never(o.Tenant.DeletionTimestamp != nil, "started for a tenant that is being deleted")
	never(o.Namespace.State != v1alpha1.StateActive, "started in a namespace that is not active")
	never(o.Tenant.Name != o.TenantJob.Spec.TenantRef.Name || o.Namespace.Tenant != o.Tenant.Name || o.Namespace.TenantUID != o.Tenant.UID ||
		o.Tenant.Status.Namespace == nil || o.Tenant.Status.Namespace.UID != o.Namespace.UID || o.Tenant.NamespaceName() != o.TenantJob.Namespace,
		"started in a namespace that is not the tenant's")
	return all
}

// observeAnything returns a random observation. Most of its parts are right, so that every rule applies sometimes.
func observeAnything(random *rand.Rand) Observed {
	o := newObserved()
	maybe := func(percent int, changes ...change) {
		if random.IntN(100) < percent {
			changes[random.IntN(len(changes))](&o)
		}
	}
	anyTime := func() *metav1.Time { return agoPtr(time.Duration(random.IntN(400)-100) * time.Second) }
	anyStatus := func() metav1.ConditionStatus {
		return []metav1.ConditionStatus{isTrue, isFalse, unknown}[random.IntN(3)]
	}
	anyJob := func(o *Observed) {
		o.Job = newJob()
		o.Job.CreationTimestamp = *anyTime()
		o.Job.Status = batchv1.JobStatus{Active: int32(random.IntN(2)), Failed: int32(random.IntN(2)), Succeeded: int32(random.IntN(2))}
		if random.IntN(4) > 0 {
			o.Job.Status.StartTime = anyTime()
		}
		if random.IntN(2) > 0 {
			o.Job.Status.Ready, o.Job.Status.Terminating = new(int32(random.IntN(2))), new(int32(random.IntN(2)))
		}
		if random.IntN(4) == 0 {
			o.Job.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
		}
		if random.IntN(3) == 0 {
			conditionTypes := []batchv1.JobConditionType{batchv1.JobComplete, batchv1.JobFailed, batchv1.JobFailureTarget, batchv1.JobSuspended, batchv1.JobSuccessCriteriaMet}
			final(o.Job, conditionTypes[random.IntN(len(conditionTypes))], []string{"", batchv1.JobReasonDeadlineExceeded}[random.IntN(2)], []string{"", "x"}[random.IntN(2)])
		}
		if random.IntN(4) == 0 {
			beingDeleted(o.Job)
		}
	}
	maybe(5, func(o *Observed) { o.Namespace.Tenant = []string{"globex", ""}[random.IntN(2)] })
	maybe(5, func(o *Observed) { o.Namespace.TenantUID = types.UID([]string{"other", ""}[random.IntN(2)]) })
	maybe(5, func(o *Observed) { o.Namespace.UID = "other" })
	maybe(10, state(v1alpha1.StateSuspended), state(v1alpha1.StateDeleting), state(""))
	maybe(10, suspend(""), suspend(v1alpha1.SuspendPolicyStop), suspend(v1alpha1.SuspendPolicyDrain), tenantDeleting)
	maybe(5, func(o *Observed) { o.Tenant.UID = "other" })
	maybe(5, func(o *Observed) { o.Tenant.Status.Namespace = nil })
	maybe(5, func(o *Observed) { o.Tenant.Spec.Namespace = &v1alpha1.TenantNamespace{Name: "legacy"} })
	maybe(10, tenantReady(anyStatus(), "x"), func(o *Observed) { o.Tenant.Status.Conditions = nil })
	maybe(5, noTenant)
	maybe(5, noNamespace)
	maybe(30, accepted, checkedAgo(0), firstGeneration(0), firstGeneration(time.Hour))
	maybe(10, templateReady(anyStatus(), int64(3+random.IntN(2)), "x"), func(o *Observed) { o.Template.Status.Conditions = nil })
	maybe(5, credentials(Credentials{Missing: "x"}), credentials(Credentials{Blocked: "x"}))
	maybe(10, all(indexed(11), nameOf(61)), all(indexed(11), nameOf(60)))
	maybe(20, ttl(int32(random.IntN(200))))
	maybe(20, wrongParameters, func(o *Observed) {
		o.Template.Spec.Parameters = []v1alpha1.Parameter{{Name: "payment", Pattern: []string{"", "[", "^[0-9]+$"}[random.IntN(3)]}}
		o.TenantJob.Spec.Parameters = map[string]v1alpha1.ParameterValue{"payment": "s3cr3t"}
	})
	maybe(20, maxWait(new(int32(random.IntN(200))), nil), maxWait(nil, new(int32(random.IntN(200)))))
	maybe(20, queued(int32(random.IntN(200)), anyTime()), queued(int32(random.IntN(200)), nil))
	maybe(5, noTemplate)
	maybe(10, func(o *Observed) { o.TenantJob.Spec.NotBeforeTime = anyTime() })
	maybe(5, cancel)
	maybe(5, func(o *Observed) { o.TenantJob.DeletionTimestamp = agoPtr(0) })
	maybe(20, fanOutChild, childThat(FanOut{Recorded: true}), childThat(FanOut{Status: isFalse, Reason: v1alpha1.ReasonSuperseded, Message: "x", Skipped: true}))
	maybe(5, replacedBy("a later run"))
	maybe(5, func(o *Observed) { o.TenantJob.Namespace = "default" })
	maybe(40, anyJob)
	maybe(20, func(o *Observed) { o.TenantJob.Status.JobRef = &v1alpha1.LocalReference{Name: "report-8231"} }, startedHere)
	maybe(20, func(o *Observed) { o.TenantJob.Status.TenantUID = []types.UID{"tenant-uid", "other"}[random.IntN(2)] })
	maybe(30, withCondition(anyStatus(), v1alpha1.ReasonQueued, "held"))
	maybe(30, func(o *Observed) { o.TenantJob.Status.CompletionTime = anyTime() })
	maybe(30, pods(Pods{Running: random.IntN(2), Pending: random.IntN(2), Waiting: "x"}), pods(Pods{Refused: "x", RefusedSince: anyTime().Time}))
	return o
}
