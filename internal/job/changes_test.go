package job

import (
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// change is what a case changes in a TenantJob that may start.
type change = func(*Observed)

func all(changes ...change) change {
	return func(o *Observed) {
		for _, c := range changes {
			c(o)
		}
	}
}

// withJob adds a Job that was created a minute ago, and a status that says so.
func withJob(changes ...func(*batchv1.Job)) change {
	return func(o *Observed) {
		o.Job = newJob()
		o.TenantJob.Status.JobRef = &v1alpha1.LocalReference{Name: o.Job.Name}
		o.TenantJob.Status.TenantUID = "tenant-uid"
		for _, c := range changes {
			c(o.Job)
		}
	}
}

func createdAgo(d time.Duration) func(*batchv1.Job) {
	return func(j *batchv1.Job) { j.CreationTimestamp, j.Status.StartTime = ago(d), agoPtr(d) }
}

func podReady(j *batchv1.Job) { j.Status.Ready = new(int32(1)) }

func deletedAgo(d time.Duration) func(*batchv1.Job) {
	return func(j *batchv1.Job) { j.DeletionTimestamp = agoPtr(d) }
}

// haltedAgo is the state of a Job that others have suspended.
func haltedAgo(d time.Duration) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		j.Status.StartTime, j.Status.Active = nil, 0
		j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobSuspended, Status: corev1.ConditionTrue, LastTransitionTime: ago(d)}}
	}
}

func podless(j *batchv1.Job) { j.Status.Active = 0 }

// beingCounted is the state of a Job between the end of its pod and the update of its counters.
func beingCounted(j *batchv1.Job) {
	j.Status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{Succeeded: []types.UID{"pod-uid"}}
}

func aboutTo(condition batchv1.JobConditionType) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		final(j, condition, "", "")
		beingCounted(j)
	}
}

// heldBack is the state of a Job that others have suspended an hour ago.
func heldBack(j *batchv1.Job) {
	j.Status = batchv1.JobStatus{}
	haltedAgo(time.Hour)(j)
}

// resumed is the state of a Job that others have suspended, and then let go on.
func resumed(j *batchv1.Job) {
	j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobSuspended, Status: corev1.ConditionFalse}}
}

// failing is the state of a Job that has failed and whose pods have not ended.
func failing(reason string) func(*batchv1.Job) {
	return func(j *batchv1.Job) { final(j, batchv1.JobFailureTarget, reason, "x") }
}

func failedIndexes(indexes string) func(*batchv1.Job) {
	return func(j *batchv1.Job) { j.Status.FailedIndexes = &indexes }
}

// said sets what the status of a run says.
func said(reason, message string) change { return withCondition(unknown, reason, message) }

func namespaceDeleting(o *Observed) { o.Namespace.Deleting = true }

// indexed makes the template's Job an Indexed one.
func indexed(completions int32) change {
	return func(o *Observed) {
		spec := &o.Template.Spec.JobTemplate.Spec
		spec.CompletionMode, spec.Completions = new(batchv1.IndexedCompletion), &completions
	}
}

func nameOf(length int) change {
	return func(o *Observed) { o.TenantJob.Name = strings.Repeat("x", length) }
}

func failedOnce(j *batchv1.Job) { j.Status.Active, j.Status.Failed = 0, 1 }

func beingDeleted(j *batchv1.Job) { j.DeletionTimestamp = agoPtr(time.Second) }

func completed(j *batchv1.Job) { final(j, batchv1.JobComplete, "", "") }

func failedWith(reason, message string) func(*batchv1.Job) {
	return func(j *batchv1.Job) { final(j, batchv1.JobFailed, reason, message) }
}

// endedBefore says when the Job ended.
func endedBefore(d time.Duration) func(*batchv1.Job) {
	return func(j *batchv1.Job) { j.Status.Conditions[0].LastTransitionTime = ago(d) }
}

func restartsInPlace(o *Observed) {
	o.Template.Spec.JobTemplate.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
}

func pods(p Pods) change { return func(o *Observed) { o.Pods = &p } }

// gone removes the Job. The status says that there was one.
func gone(o *Observed) {
	o.Job, o.TenantJob.Status.JobRef = nil, &v1alpha1.LocalReference{Name: "report-8231"}
}

// startedHere means that this process has created the Job, which the status does not say.
func startedHere(o *Observed) { o.Started = true }

func withCondition(status metav1.ConditionStatus, reason, message string) change {
	return func(o *Observed) { outcome(o.TenantJob, status, reason, message) }
}

func completedAgo(d time.Duration) change {
	return all(withCondition(isTrue, v1alpha1.ReasonCompleted, ""), func(o *Observed) { o.TenantJob.Status.CompletionTime = agoPtr(d) })
}

func ttl(seconds int32) change {
	return func(o *Observed) { o.Template.Spec.TTLSecondsAfterFinished = &seconds }
}

func failedTTL(seconds int32) change {
	return func(o *Observed) { o.Template.Spec.FailedTTLSecondsAfterFinished = &seconds }
}

func failedAgo(d time.Duration) change {
	return all(withCondition(isFalse, v1alpha1.ReasonJobFailed, ""), func(o *Observed) { o.TenantJob.Status.CompletionTime = agoPtr(d) })
}

func cancel(o *Observed) { o.TenantJob.Spec.Cancel = new(true) }

func suspend(policy v1alpha1.SuspendPolicy) change {
	return func(o *Observed) {
		o.Tenant.Spec.Suspend, o.Tenant.Spec.SuspendPolicy = new(true), policy
		o.Namespace.State = v1alpha1.StateSuspended
	}
}

func state(s string) change { return func(o *Observed) { o.Namespace.State = s } }

func noTenant(o *Observed) { o.Tenant = nil }

func noNamespace(o *Observed) { o.Namespace = nil }

func noTemplate(o *Observed) { o.Template = nil }

func tenantDeleting(o *Observed) { o.Tenant.DeletionTimestamp = agoPtr(0) }

func tenantReady(status metav1.ConditionStatus, message string) change {
	return func(o *Observed) {
		o.Tenant.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: status, Message: message}}
	}
}

func templateReady(status metav1.ConditionStatus, generation int64, message string) change {
	return func(o *Observed) {
		o.Template.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: status, ObservedGeneration: generation, Message: message}}
	}
}

func wrongParameters(o *Observed) {
	o.TenantJob.Spec.Parameters = map[string]v1alpha1.ParameterValue{"payment": "s3cr3t"}
}

// accepted says that the template has accepted the TenantJob in an earlier generation.
func accepted(o *Observed) { o.TenantJob.Status.TemplateGeneration = 3 }

// checkedAgo says when the operator has found the template Ready in its present generation.
func checkedAgo(d time.Duration) change {
	return func(o *Observed) { o.Template.ManagedFields[1].Time = agoPtr(d) }
}

// firstGeneration is a template that was never changed, and was created some time ago.
func firstGeneration(d time.Duration) change {
	return func(o *Observed) {
		o.Template.Generation, o.Template.CreationTimestamp = 1, ago(d)
		o.Template.Status.Conditions[0].ObservedGeneration = 1
	}
}

// credentials is a run that needs one, of which this is known.
func credentials(c Credentials) change {
	return func(o *Observed) {
		o.Template.Spec.Credentials = []v1alpha1.TemplateCredential{{Name: "database"}}
		o.Credentials = &c
	}
}

func notBefore(d time.Duration) change {
	return func(o *Observed) { o.TenantJob.Spec.NotBeforeTime = new(metav1.NewTime(now.Add(d))) }
}

func fanOutChild(o *Observed) {
	o.TenantJob.OwnerReferences = ownedByFanOut(o.TenantJob.Name)
	o.FanOut = &FanOut{}
}

func ownedByFanOut(name string) []metav1.OwnerReference {
	return []metav1.OwnerReference{{APIVersion: "tenantry.dev/v1alpha1", Kind: "TenantFanOut", Name: name, Controller: new(true)}}
}

func maxWait(own, templates *int32) change {
	return func(o *Observed) { o.TenantJob.Spec.MaxWaitSeconds, o.Template.Spec.MaxWaitSeconds = own, templates }
}

// queued sets how long limits have held the TenantJob, before and since a time.
func queued(before int32, since *metav1.Time) change {
	return func(o *Observed) { o.TenantJob.Status.QueuedSeconds, o.TenantJob.Status.QueuedTime = before, since }
}

func replacedBy(message string) change { return func(o *Observed) { o.Replaced = message } }

func childThat(f FanOut) change { return all(fanOutChild, func(o *Observed) { o.FanOut = &f }) }
