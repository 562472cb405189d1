package job

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

const (
	isTrue  = metav1.ConditionTrue
	isFalse = metav1.ConditionFalse
	unknown = metav1.ConditionUnknown
)

const (
	invalidMessage   = "`parameters.payment` must be left out: the template declares no parameters"
	noLongerAccepted = asItIsNow + invalidMessage + correctIt
	longMessage      = "`metadata.name` must have at most 60 characters, since the index is appended to it: the Job of TenantJobTemplate report is Indexed"
	tooLongByNow     = asItIsNow + longMessage + correctIt
	asItIsNow        = "TenantJobTemplate report, as it is now, does not accept this TenantJob: "
	correctIt        = "; correct the template, or delete this TenantJob and create another"
)

func TestDecide(t *testing.T) {
	const day = 24 * time.Hour
	var (
		start  = Decision{Action: ActionStart, Values: Values{}}
		leave  = Decision{}
		stop   = Decision{Action: ActionStop}
		stalls = func(reason, message string) Decision {
			return Decision{Status: isFalse, Reason: reason, Message: message, Progress: conditions.Stalled}
		}
		ends = func(reason, message string) Decision {
			return Decision{Status: isFalse, Reason: reason, Message: message, Progress: conditions.Current}
		}
		waits = func(reason, message string) Decision {
			return Decision{Status: unknown, Reason: reason, Message: message, Progress: conditions.Reconciling}
		}
		needs = func(reason, message string) Decision {
			return Decision{Status: unknown, Reason: reason, Message: message, Progress: conditions.Stalled}
		}
		after    = func(d time.Duration, of Decision) Decision { of.RequeueAfter = d; return of }
		runs     = waits(v1alpha1.ReasonRunning, "a pod is running")
		starts   = waits(v1alpha1.ReasonStarting, "waiting for its pod")
		drains   = after(PollInterval, waits(v1alpha1.ReasonRunning, "tenant acme is being suspended; its running pods may finish"))
		stopped  = stalls(v1alpha1.ReasonStoppedBySuspension, "tenant acme was suspended; create another TenantJob when it is active again")
		vanished = stalls(v1alpha1.ReasonDeleted, "the Job was deleted before it finished; create another TenantJob to run it again")
		cancels  = ends(v1alpha1.ReasonCancelled, "cancelled by `spec.cancel`")
		success  = Decision{Status: isTrue, Reason: v1alpha1.ReasonCompleted, Message: "the Job completed", Progress: conditions.Current}
		unset    *int32
	)
	cases := map[string]struct {
		given change
		want  Decision
	}{
		// Ready to start.
		"may start": {func(*Observed) {}, start},
		"may start with parameters": {
			func(o *Observed) {
				o.Template.Spec.Parameters = []v1alpha1.Parameter{{Name: "payment"}, {Name: "days", Default: new(v1alpha1.ParameterValue("3"))}}
				o.TenantJob.Spec.Parameters = map[string]v1alpha1.ParameterValue{"payment": "8231"}
			},
			Decision{Action: ActionStart, Values: Values{"payment": "8231", "days": "3"}},
		},
		"may start, whatever it waited for before": {all(withCondition(unknown, v1alpha1.ReasonTenantSuspended, "x"), notBefore(-time.Second), maxWait(new(int32(1)), unset)), start},
		"may start a child of a fan-out":           {fanOutChild, start},

		// The template.
		"TemplateNotFound": {noTemplate, needs(v1alpha1.ReasonTemplateNotFound, "there is no TenantJobTemplate report: create it, or delete this TenantJob")},
		"TemplateNotReady: never checked": {
			func(o *Observed) { o.Template.Status.Conditions = nil },
			waits(v1alpha1.ReasonTemplateNotReady, "TenantJobTemplate report is being checked"),
		},
		"TemplateNotReady: checked in an earlier generation": {
			templateReady(isTrue, 3, ""),
			waits(v1alpha1.ReasonTemplateNotReady, "TenantJobTemplate report is being checked"),
		},
		"TemplateNotReady: checked again, the status stays": {all(withCondition(unknown, v1alpha1.ReasonQueued, "x"), templateReady(isTrue, 3, "")), leave},
		"TemplateNotReady: can't run": {
			templateReady(isFalse, 4, "`spec.x` must be y"),
			needs(v1alpha1.ReasonTemplateNotReady, "TenantJobTemplate report can't run: `spec.x` must be y"),
		},
		"TemplateNotReady goes before InvalidParameters: the template may be at fault": {
			all(wrongParameters, templateReady(isFalse, 4, "`spec.x` must be y")),
			needs(v1alpha1.ReasonTemplateNotReady, "TenantJobTemplate report can't run: `spec.x` must be y"),
		},
		"TemplateNotReady goes before InvalidParameters: the template is being checked": {
			all(wrongParameters, templateReady(isTrue, 3, "")),
			waits(v1alpha1.ReasonTemplateNotReady, "TenantJobTemplate report is being checked"),
		},

		// Its credentials.
		"starts: they can be issued":         {credentials(Credentials{}), start},
		"IssuingCredentials: one is missing": {credentials(Credentials{Missing: "acme has none"}), needs(v1alpha1.ReasonIssuingCredentials, "acme has none")},
		"CredentialsFailed: one is missing to a fan-out's child": {
			all(fanOutChild, credentials(Credentials{Missing: "acme has none"})), stalls(v1alpha1.ReasonCredentialsFailed, "acme has none"),
		},
		"IssuingCredentials: the provider is down": {
			credentials(Credentials{Blocked: "it is down", Trouble: UnclearTrouble, RetryAfter: time.Second}),
			Decision{Status: unknown, Reason: v1alpha1.ReasonIssuingCredentials, Message: "it is down", Progress: conditions.Reconciling, Trouble: UnclearTrouble, RequeueAfter: time.Second},
		},
		"TenantSuspended goes before credentials": {
			all(suspend(v1alpha1.SuspendPolicyStop), credentials(Credentials{Missing: "acme has none"})),
			waits(v1alpha1.ReasonTenantSuspended, "tenant acme is suspended; it starts when the tenant is resumed"),
		},

		// Its own spec.
		"InvalidParameters": {wrongParameters, stalls(v1alpha1.ReasonInvalidParameters, invalidMessage)},
		"InvalidParameters comes before NotYetDue": {
			all(wrongParameters, notBefore(time.Hour)),
			stalls(v1alpha1.ReasonInvalidParameters, invalidMessage),
		},
		"TemplateNotReady: it has accepted the parameters before":          {all(wrongParameters, accepted), needs(v1alpha1.ReasonTemplateNotReady, noLongerAccepted)},
		"TemplateNotReady: it was changed after the TenantJob was created": {all(wrongParameters, checkedAgo(9*time.Minute)), needs(v1alpha1.ReasonTemplateNotReady, noLongerAccepted)},
		"TemplateNotReady: nobody knows when it was changed": {
			all(wrongParameters, func(o *Observed) { o.Template.ManagedFields = nil }), needs(v1alpha1.ReasonTemplateNotReady, noLongerAccepted),
		},
		"TemplateNotReady: it came after the TenantJob": {all(wrongParameters, firstGeneration(9*time.Minute)), needs(v1alpha1.ReasonTemplateNotReady, noLongerAccepted)},
		"InvalidParameters: it was changed before the TenantJob was created, in the same second": {
			all(wrongParameters, checkedAgo(10*time.Minute)), stalls(v1alpha1.ReasonInvalidParameters, invalidMessage),
		},
		"InvalidParameters: it was never changed": {
			all(wrongParameters, firstGeneration(10*time.Minute), checkedAgo(0)), stalls(v1alpha1.ReasonInvalidParameters, invalidMessage),
		},
		"InvalidParameters: the sealed template of its fan-out never changes": {
			all(fanOutChild, wrongParameters, accepted, checkedAgo(0)), stalls(v1alpha1.ReasonInvalidParameters, invalidMessage),
		},
		"a name that is too long for an Indexed Job": {
			all(indexed(11), nameOf(61)), stalls(v1alpha1.ReasonInvalidParameters, longMessage),
		},
		"a name that was not too long for the template when it accepted the TenantJob": {
			all(indexed(11), nameOf(61), accepted), needs(v1alpha1.ReasonTemplateNotReady, tooLongByNow),
		},
		"a name that is too long for a template that was changed after the TenantJob was created": {
			all(indexed(11), nameOf(61), checkedAgo(9*time.Minute)), needs(v1alpha1.ReasonTemplateNotReady, tooLongByNow),
		},
		"a name that is too long for a template that was never changed": {
			all(indexed(11), nameOf(61), firstGeneration(10*time.Minute), checkedAgo(0)), stalls(v1alpha1.ReasonInvalidParameters, longMessage),
		},
		"a name that is too long for the sealed template of its fan-out": {
			all(fanOutChild, indexed(11), nameOf(61), accepted, checkedAgo(0)), stalls(v1alpha1.ReasonInvalidParameters, longMessage),
		},
		"the longest name of an Indexed Job": {all(indexed(11), nameOf(60)), start},
		"the longest name":                   {nameOf(63), start},
		"a name that is too long for a template that is being checked": {
			all(indexed(11), nameOf(61), templateReady(isTrue, 3, "")), waits(v1alpha1.ReasonTemplateNotReady, "TenantJobTemplate report is being checked"),
		},
		"NotYetDue":                     {notBefore(time.Hour), after(time.Hour, waits(v1alpha1.ReasonNotYetDue, "waits for `spec.notBeforeTime`"))},
		"NotYetDue by a nanosecond":     {notBefore(1), after(1, waits(v1alpha1.ReasonNotYetDue, "waits for `spec.notBeforeTime`"))},
		"due this instant":              {notBefore(0), start},
		"Cancelled while it waits":      {cancel, cancels},
		"Cancelled without a template":  {all(cancel, noTemplate), cancels},
		"Cancelled while it runs":       {all(withJob(podReady), cancel), cancels},
		"Cancelled while its Job goes":  {all(withJob(beingDeleted), cancel), cancels},
		"cancel comes too late":         {all(withJob(completed), cancel), success},
		"cancel: false":                 {func(o *Observed) { o.TenantJob.Spec.Cancel = new(false) }, start},
		"being deleted: it is left":     {func(o *Observed) { o.TenantJob.DeletionTimestamp = agoPtr(0) }, leave},
		"being deleted while it runs":   {all(withJob(podReady), func(o *Observed) { o.TenantJob.DeletionTimestamp = agoPtr(0) }), leave},
		"being deleted, and cancelled":  {all(cancel, func(o *Observed) { o.TenantJob.DeletionTimestamp = agoPtr(0) }), leave},
		"being deleted, without tenant": {all(noTenant, func(o *Observed) { o.TenantJob.DeletionTimestamp = agoPtr(0) }), leave},

		// In the namespace of another tenant.
		"TenantMismatch: another's namespace": {
			func(o *Observed) { o.Namespace.Tenant = "globex" },
			stalls(v1alpha1.ReasonTenantMismatch, "namespace tenant-acme is tenant globex's: `spec.tenantRef.name` must be globex, or the TenantJob in the namespace of acme"),
		},
		"TenantMismatch: another's namespace, and there is no such tenant": {
			all(noTenant, func(o *Observed) { o.Namespace.Tenant = "globex" }),
			stalls(v1alpha1.ReasonTenantMismatch, "namespace tenant-acme is tenant globex's: `spec.tenantRef.name` must be globex, or the TenantJob in the namespace of acme"),
		},
		"TenantMismatch: a namespace of no tenant": {
			all(noNamespace, func(o *Observed) { o.TenantJob.Namespace = "default" }),
			stalls(v1alpha1.ReasonTenantMismatch, "namespace default is not tenant acme's: create the TenantJob in namespace tenant-acme"),
		},
		"TenantMismatch: a namespace that only says it is the tenant's": {
			func(o *Observed) {
				o.Tenant.Spec.Namespace = &v1alpha1.TenantNamespace{Name: "legacy-acme"}
				o.Tenant.Status.Namespace = &v1alpha1.TenantNamespaceStatus{Name: "legacy-acme", UID: "legacy-uid"}
			},
			stalls(v1alpha1.ReasonTenantMismatch, "namespace tenant-acme is not tenant acme's: create the TenantJob in namespace legacy-acme"),
		},
		"TenantMismatch of what runs": {
			all(withJob(podReady), func(o *Observed) { o.Namespace.Tenant = "globex" }),
			stalls(v1alpha1.ReasonTenantMismatch, "namespace tenant-acme is tenant globex's: `spec.tenantRef.name` must be globex, or the TenantJob in the namespace of acme"),
		},

		// The tenant is not ready.
		"TenantNotReady: there is none":               {noTenant, waits(v1alpha1.ReasonTenantNotReady, "there is no Tenant acme")},
		"TenantNotReady: no tenant, no namespace":     {all(noTenant, noNamespace), waits(v1alpha1.ReasonTenantNotReady, "there is no Tenant acme")},
		"TenantNotReady: its namespace is not marked": {noNamespace, waits(v1alpha1.ReasonTenantNotReady, "the namespace of tenant acme is not ready")},
		"TenantNotReady: the namespace is of an earlier tenant of this name": {
			func(o *Observed) { o.Namespace.TenantUID = "earlier-uid" },
			waits(v1alpha1.ReasonTenantNotReady, "the namespace of tenant acme is not ready"),
		},
		"TenantNotReady: another namespace under the same name": {
			func(o *Observed) { o.Namespace.UID = "other-uid" },
			waits(v1alpha1.ReasonTenantNotReady, "the namespace of tenant acme is not ready"),
		},
		"TenantNotReady: the Tenant does not know its namespace yet": {
			func(o *Observed) { o.Tenant.Status.Namespace = nil },
			waits(v1alpha1.ReasonTenantNotReady, "the namespace of tenant acme is not ready"),
		},
		"TenantNotReady: the namespace has no state": {state(""), waits(v1alpha1.ReasonTenantNotReady, "the namespace of tenant acme is not ready")},
		"TenantNotReady: the namespace still says deleting": {
			state(v1alpha1.StateDeleting), waits(v1alpha1.ReasonTenantNotReady, "the namespace of tenant acme is not ready"),
		},
		"TenantNotReady: not yet":       {func(o *Observed) { o.Tenant.Status.Conditions = nil }, waits(v1alpha1.ReasonTenantNotReady, "tenant acme is not ready")},
		"TenantNotReady: not known yet": {tenantReady(unknown, "x"), waits(v1alpha1.ReasonTenantNotReady, "tenant acme is not ready")},
		"TenantNotReady: a conflict": {
			all(noNamespace, tenantReady(isFalse, "namespace tenant-acme exists")),
			waits(v1alpha1.ReasonTenantNotReady, "the namespace of tenant acme is not ready: namespace tenant-acme exists"),
		},
		"TenantNotReady: False":                           {tenantReady(isFalse, "quota is wrong"), waits(v1alpha1.ReasonTenantNotReady, "tenant acme is not ready: quota is wrong")},
		"what runs goes on while its tenant is not ready": {all(withJob(podReady), tenantReady(isFalse, "quota is wrong")), runs},

		// The tenant is suspended.
		"TenantSuspended": {suspend(v1alpha1.SuspendPolicyStop), waits(v1alpha1.ReasonTenantSuspended, "tenant acme is suspended; it starts when the tenant is resumed")},
		"TenantSuspended: the namespace does not say so yet": {
			all(suspend(v1alpha1.SuspendPolicyDrain), state(v1alpha1.StateActive)),
			waits(v1alpha1.ReasonTenantSuspended, "tenant acme is suspended; it starts when the tenant is resumed"),
		},
		"TenantSuspended: the namespace still says so": {
			state(v1alpha1.StateSuspended), waits(v1alpha1.ReasonTenantSuspended, "tenant acme is suspended; it starts when the tenant is resumed"),
		},
		"TenantSuspended is the end of a fan-out's child": {all(fanOutChild, suspend("")), ends(v1alpha1.ReasonTenantSuspended, "tenant acme is suspended")},
		"TenantSuspended is not the end of a fan-out's child whose tenant is being resumed": {
			all(fanOutChild, state(v1alpha1.StateSuspended)),
			waits(v1alpha1.ReasonTenantSuspended, "tenant acme is suspended; it starts when the tenant is resumed"),
		},
		"TenantSuspended: a child whose fan-out was not read": {
			all(childThat(FanOut{}), noTemplate, suspend("")), ends(v1alpha1.ReasonTenantSuspended, "tenant acme is suspended"),
		},
		"TenantSuspended: it does not expire": {
			all(suspend(""), maxWait(new(int32(1)), unset), queued(5, nil)),
			waits(v1alpha1.ReasonTenantSuspended, "tenant acme is suspended; it starts when the tenant is resumed"),
		},
		"StoppedBySuspension":                      {all(withJob(podReady), suspend(v1alpha1.SuspendPolicyStop)), stopped},
		"StoppedBySuspension: no policy":           {all(withJob(podReady), suspend("")), stopped},
		"StoppedBySuspension in its first moments": {all(withJob(createdAgo(time.Second)), suspend("")), stopped},
		"StoppedBySuspension of a fan-out's child": {all(fanOutChild, withJob(podReady), suspend("")), stopped},
		"a run that finished is not stopped":       {all(withJob(completed), suspend("")), success},
		"Drain: its pod may finish":                {all(withJob(podReady), suspend(v1alpha1.SuspendPolicyDrain), pods(Pods{Running: 1})), drains},
		"Drain: one of its pods may finish":        {all(withJob(podReady), suspend(v1alpha1.SuspendPolicyDrain), pods(Pods{Running: 1, Pending: 2})), drains},
		"Drain: a pod that does not run yet is stopped": {
			all(withJob(), suspend(v1alpha1.SuspendPolicyDrain), pods(Pods{Pending: 1})), stopped,
		},
		"Drain: a Job that has no pod yet is stopped": {all(withJob(podless), suspend(v1alpha1.SuspendPolicyDrain), pods(Pods{})), stopped},
		"Drain: a Job that would retry is stopped":    {all(withJob(failedOnce), suspend(v1alpha1.SuspendPolicyDrain), pods(Pods{Exit: "x"})), stopped},
		"Drain: the pods were not read":               {all(withJob(podReady), suspend(v1alpha1.SuspendPolicyDrain)), stopped},
		"Drain: its pod has ended, and the Job controller has not seen it": {
			all(withJob(podReady), suspend(v1alpha1.SuspendPolicyDrain), pods(Pods{})), drains,
		},
		"Drain: its pod has ended, and is about to be counted": {
			all(withJob(podless, beingCounted), suspend(v1alpha1.SuspendPolicyDrain), pods(Pods{})),
			drains,
		},
		"Drain: the Job is about to be complete": {
			all(withJob(aboutTo(batchv1.JobSuccessCriteriaMet)), suspend(v1alpha1.SuspendPolicyDrain), pods(Pods{})), leave,
		},
		"Drain: finished": {all(withJob(completed), suspend(v1alpha1.SuspendPolicyDrain)), success},

		// The tenant is deleted.
		"TenantDeleted before it started":    {tenantDeleting, ends(v1alpha1.ReasonTenantDeleted, "tenant acme is being deleted")},
		"TenantDeleted while it runs":        {all(withJob(podReady), tenantDeleting), ends(v1alpha1.ReasonTenantDeleted, "tenant acme is being deleted")},
		"TenantDeleted: the Tenant is gone":  {all(withJob(podReady), noTenant), ends(v1alpha1.ReasonTenantDeleted, "tenant acme was deleted")},
		"TenantDeleted: Tenant and Job gone": {all(gone, noTenant), ends(v1alpha1.ReasonTenantDeleted, "tenant acme was deleted")},
		"TenantDeleted: Tenant and Job gone, and the status does not say that it was started": {
			all(startedHere, noTenant), ends(v1alpha1.ReasonTenantDeleted, "tenant acme was deleted"),
		},
		"TenantDeleted: the Tenant is being deleted, and the status does not say that it was started": {
			all(startedHere, tenantDeleting), ends(v1alpha1.ReasonTenantDeleted, "tenant acme is being deleted"),
		},
		"TenantDeleted: created again under its name": {
			all(withJob(podReady), func(o *Observed) { o.Tenant.UID = "new-uid" }), ends(v1alpha1.ReasonTenantDeleted, "tenant acme was deleted"),
		},
		"a run that finished stays so when its tenant goes": {all(withJob(completed), tenantDeleting), success},
		"a run that finished stays so when its tenant has gone": {
			all(withJob(failedWith(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")), noTenant),
			stalls(v1alpha1.ReasonJobFailed, "Job has reached the specified backoff limit"),
		},

		// It runs.
		"the status is not written before SettleAfter":                         {withJob(createdAgo(500 * time.Millisecond)), after(1500*time.Millisecond, leave)},
		"the status is not written before SettleAfter, even when its pod runs": {withJob(createdAgo(time.Second), podReady), after(time.Second, leave)},
		"Starting":                                                {withJob(createdAgo(SettleAfter)), after(PollInterval, starts)},
		"Starting: the Job controller is busy":                    {withJob(createdAgo(time.Hour), podless, func(j *batchv1.Job) { j.Status.StartTime = nil }), starts},
		"Starting, as its pod says it":                            {all(withJob(), pods(Pods{Pending: 1, Waiting: "ImagePullBackOff: x"})), after(15*time.Second, waits(v1alpha1.ReasonStarting, "ImagePullBackOff: x"))},
		"Starting: its pod is refused":                            {all(withJob(podless), pods(Pods{Refused: "quota"})), after(15*time.Second, waits(v1alpha1.ReasonStarting, "its pod is refused: quota"))},
		"Starting: decided again when it is refused for too long": {all(withJob(podless, createdAgo(115*time.Second)), pods(Pods{Refused: "quota"})), after(5*time.Second, waits(v1alpha1.ReasonStarting, "its pod is refused: quota"))},
		"Starting for hours costs little":                         {all(withJob(createdAgo(5*time.Hour)), pods(Pods{Pending: 1, Waiting: "Unschedulable: x"})), after(5*time.Minute, waits(v1alpha1.ReasonStarting, "Unschedulable: x"))},
		"Starting again after a failure":                          {all(withJob(failedOnce, createdAgo(day)), pods(Pods{Exit: "x"})), after(5*time.Minute, starts)},
		"Running":                                                 {withJob(podReady), runs},
		"Running, though not ready":                               {all(withJob(), pods(Pods{Running: 1})), runs},
		"Running without its template":                            {all(withJob(podReady), noTemplate), runs},
		"Running with a template that is changed":                 {all(withJob(podReady), templateReady(isFalse, 9, "x"), wrongParameters), runs},
		"Running after its maxWaitSeconds":                        {all(withJob(podReady), maxWait(new(int32(1)), unset), queued(5, nil)), runs},

		"Running, restarted in place": {
			all(withJob(), pods(Pods{Running: 1, Restarting: crashes})), after(15*time.Second, waits(v1alpha1.ReasonRunning, crashes)),
		},
		"Starting: its pod was evicted, has ended and is not counted": {
			all(withJob(beingCounted, podless), said(v1alpha1.ReasonStarting, evicted), pods(Pods{Exit: evicted, ExitFades: true})),
			after(15*time.Second, waits(v1alpha1.ReasonStarting, evicted)),
		},
		"Starting: its pod is deleted":  {all(withJob(podless), pods(Pods{Stopping: 1})), after(15*time.Second, waits(v1alpha1.ReasonStarting, "its pod was deleted and is still stopping"))},
		"Starting: its node is drained": {all(withJob(podless), pods(Pods{Stopping: 1, Exit: "EvictionByEvictionAPI: x", ExitFades: true})), after(15*time.Second, waits(v1alpha1.ReasonStarting, "EvictionByEvictionAPI: x"))},
		"Starting: a pod follows one that is deleted": {
			all(withJob(), pods(Pods{Stopping: 1, Pending: 1, Exit: "x", ExitFades: true})), after(15*time.Second, starts),
		},

		// Others have suspended its Job.
		"suspended by others":                       {all(withJob(heldBack), func(o *Observed) { o.Suspension = "its Job is suspended by x" }), after(23*time.Hour, waits(v1alpha1.ReasonStarting, "its Job is suspended by x"))},
		"suspended by others, nobody knows by whom": {withJob(heldBack), after(23*time.Hour, waits(v1alpha1.ReasonStarting, "its Job is suspended"))},
		"suspended by others for an hour, not PodsRefused": {
			withJob(heldBack, podless, createdAgo(day)), after(23*time.Hour, waits(v1alpha1.ReasonStarting, "its Job is suspended")),
		},
		"suspended by others in its first moments": {withJob(heldBack, func(j *batchv1.Job) { j.CreationTimestamp = ago(time.Second) }), after(time.Second, leave)},
		"suspended by others, and its tenant is":   {all(withJob(heldBack), suspend(v1alpha1.SuspendPolicyDrain)), stopped},
		"suspended by others, and it went on":      {withJob(resumed, podReady), runs},

		// No pod.
		"PodsRefused at first": {
			all(withJob(podless, createdAgo(RefusedAfter)), pods(Pods{Refused: "exceeded quota", RefusedSince: now.Add(-time.Second)})),
			stalls(v1alpha1.ReasonPodsRefused, "no pod for two minutes: exceeded quota"),
		},
		"PodsRefused without a reason": {
			all(withJob(podless, createdAgo(RefusedAfter)), pods(Pods{})),
			stalls(v1alpha1.ReasonPodsRefused, "no pod for two minutes: the Job has no pod"),
		},
		"PodsRefused counts from when the Job controller got to it": {
			all(withJob(podless, createdAgo(RefusedAfter-1), func(j *batchv1.Job) { j.CreationTimestamp = ago(time.Hour) }), pods(Pods{Refused: "exceeded quota"})),
			after(1, waits(v1alpha1.ReasonStarting, "its pod is refused: exceeded quota")),
		},
		"PodsRefused on retry": {
			all(withJob(failedOnce, createdAgo(time.Hour)), pods(Pods{Refused: "exceeded quota", RefusedSince: now.Add(-RefusedAfter)})),
			stalls(v1alpha1.ReasonPodsRefused, "no pod for two minutes: exceeded quota"),
		},
		"not yet PodsRefused on retry": {
			all(withJob(failedOnce, createdAgo(time.Hour)), pods(Pods{Refused: "exceeded quota", RefusedSince: now.Add(1 - RefusedAfter)})),
			after(5*time.Minute, waits(v1alpha1.ReasonStarting, "its pod is refused: exceeded quota")),
		},
		"not PodsRefused while a pod is active": {all(withJob(createdAgo(time.Hour)), pods(Pods{Refused: "x", RefusedSince: now.Add(-day)})), after(5*time.Minute, waits(v1alpha1.ReasonStarting, "its pod is refused: x"))},
		"not PodsRefused while the last pod terminates": {
			all(withJob(podless, createdAgo(time.Hour), func(j *batchv1.Job) { j.Status.Terminating = new(int32(1)) }), pods(Pods{})), after(5*time.Minute, starts),
		},

		"others have suspended the Job for hours": {
			withJob(createdAgo(day), haltedAgo(HeldAfter-time.Second)), after(time.Second, waits(v1alpha1.ReasonStarting, suspensionPrefix)),
		},
		"PodsRefused: others have suspended the Job for a day": {
			withJob(createdAgo(2*day), haltedAgo(HeldAfter)), stalls(v1alpha1.ReasonPodsRefused, "no pod for a day: "+suspensionPrefix),
		},
		"others have suspended the Job of a child": {
			all(fanOutChild, withJob(createdAgo(time.Hour), haltedAgo(UnclearAfter-time.Second))),
			after(time.Second, waits(v1alpha1.ReasonStarting, suspensionPrefix)),
		},
		"PodsRefused: others have suspended the Job of a child for ten minutes": {
			all(fanOutChild, withJob(createdAgo(time.Hour), haltedAgo(UnclearAfter))), stalls(v1alpha1.ReasonPodsRefused, "no pod for ten minutes: "+suspensionPrefix),
		},
		"resumed": {
			withJob(createdAgo(time.Hour), haltedAgo(time.Hour), podReady, func(j *batchv1.Job) { j.Status.Conditions[0].Status = corev1.ConditionFalse }), runs,
		},

		// It has finished.
		"Completed":                        {withJob(completed), success},
		"Completed in its first moments":   {withJob(createdAgo(time.Second), completed), success},
		"Completed, its Job being deleted": {withJob(completed, beingDeleted), success},
		"JobFailed":                        {withJob(failedWith(batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")), stalls(v1alpha1.ReasonJobFailed, "Job has reached the specified backoff limit")},
		"JobFailed, with its exit code":    {all(withJob(failedWith("BackoffLimitExceeded", "x")), pods(Pods{Exit: "container main exited with code 3"})), stalls(v1alpha1.ReasonJobFailed, "x: container main exited with code 3")},
		"JobFailed for no reason":          {withJob(failedWith("", " ")), stalls(v1alpha1.ReasonJobFailed, "the Job failed")},
		"JobFailed, with what a pod said that is gone": {
			all(withJob(failedWith("BackoffLimitExceeded", "x")), said(v1alpha1.ReasonRunning, crashes), pods(Pods{})), stalls(v1alpha1.ReasonJobFailed, "x: "+crashes),
		},
		"JobFailed, and the status says nothing of pods": {
			all(withJob(failedWith("BackoffLimitExceeded", "x")), said(v1alpha1.ReasonRunning, "a pod is running"), pods(Pods{})), stalls(v1alpha1.ReasonJobFailed, "x"),
		},
		"JobFailed, and the status says what it waited for": {
			all(withJob(failedWith("BackoffLimitExceeded", "x")), said(v1alpha1.ReasonQueued, "a limit"), pods(Pods{})), stalls(v1alpha1.ReasonJobFailed, "x"),
		},
		"JobFailed, with the pod that is there before one that is gone": {
			all(withJob(failedWith("BackoffLimitExceeded", "x")), said(v1alpha1.ReasonStarting, "y"), pods(Pods{Exit: "z"})), stalls(v1alpha1.ReasonJobFailed, "x: z"),
		},
		"JobFailed, since its pod was deleted": {
			all(withJob(failedWith("BackoffLimitExceeded", "x")), said(v1alpha1.ReasonStarting, "its pod was deleted and is still stopping"), pods(Pods{})),
			stalls(v1alpha1.ReasonJobFailed, "x: its pod was deleted"),
		},
		"JobFailed, since its pod was deleted so fast that nobody has seen it": {
			all(withJob(failedWith("BackoffLimitExceeded", "x")), said(v1alpha1.ReasonRunning, "a pod is running"), pods(Pods{None: true})),
			stalls(v1alpha1.ReasonJobFailed, "x: its pod was deleted"),
		},
		"JobFailed some time ago, and its pod may have been deleted since": {
			all(withJob(failedWith("BackoffLimitExceeded", "x"), endedBefore(RefusedAfter)), pods(Pods{None: true})), stalls(v1alpha1.ReasonJobFailed, "x"),
		},
		"JobFailed, and the Job controller may have deleted its pod": {
			all(withJob(failedWith("BackoffLimitExceeded", "x")), restartsInPlace, pods(Pods{None: true})), stalls(v1alpha1.ReasonJobFailed, "x"),
		},
		"JobFailed, and nobody knows whether the Job controller has deleted its pod": {
			all(withJob(failedWith("BackoffLimitExceeded", "x")), noTemplate, pods(Pods{None: true})), stalls(v1alpha1.ReasonJobFailed, "x"),
		},
		"DeadlineExceeded, and the Job controller has deleted its pod": {
			all(withJob(failedWith(batchv1.JobReasonDeadlineExceeded, "x")), pods(Pods{None: true})), stalls(v1alpha1.ReasonDeadlineExceeded, "x"),
		},
		"JobFailed, with the indexes": {
			all(withJob(failedWith("FailedIndexes", "Job has failed indexes"), failedIndexes("1,3-5")), pods(Pods{Exit: "index 1: container main exited with code 1"})),
			stalls(v1alpha1.ReasonJobFailed, "Job has failed indexes: index 1: container main exited with code 1; failed indexes: 1,3-5"),
		},
		"JobFailed by its podFailurePolicy, without the pod's name": {
			withJob(failedWith("PodFailurePolicy", "Container main for pod tenant-acme/report-8231-x7x9c failed with exit code 42 matching FailJob rule at index 0")),
			stalls(v1alpha1.ReasonJobFailed, "Container main failed with exit code 42 matching FailJob rule at index 0"),
		},
		"JobFailed by its podFailurePolicy for a condition of the pod, without the pod's name": {
			withJob(failedWith("PodFailurePolicy", "Pod tenant-acme/report-8231-x7x9c has condition DisruptionTarget matching FailJob rule at index 0")),
			stalls(v1alpha1.ReasonJobFailed, "Pod has condition DisruptionTarget matching FailJob rule at index 0"),
		},
		"JobFailed, since its namespace goes": {
			all(withJob(failedWith("BackoffLimitExceeded", "x")), namespaceDeleting), stalls(v1alpha1.ReasonJobFailed, "x; namespace tenant-acme is being deleted"),
		},
		"DeadlineExceeded, with what kept it from starting": {
			all(withJob(failedWith(batchv1.JobReasonDeadlineExceeded, "x")), said(v1alpha1.ReasonStarting, "container main: ImagePullBackOff: y"), pods(Pods{})),
			stalls(v1alpha1.ReasonDeadlineExceeded, "x: container main: ImagePullBackOff: y"),
		},
		"about to fail, and its pod goes": {
			all(withJob(failing("BackoffLimitExceeded")), said(v1alpha1.ReasonRunning, "a pod is running"), pods(Pods{Stopping: 1, Exit: "container main exited with code 1", ExitFades: true})),
			waits(v1alpha1.ReasonRunning, "container main exited with code 1"),
		},
		"about to fail, and the status says so already": {
			all(withJob(failing("BackoffLimitExceeded")), said(v1alpha1.ReasonRunning, crashes), pods(Pods{Stopping: 1, Exit: "x", ExitFades: true})), leave,
		},
		"about to fail, and its pod stays":      {all(withJob(failing("BackoffLimitExceeded")), pods(Pods{Exit: "x"})), leave},
		"DeadlineExceeded":                      {withJob(failedWith(batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")), stalls(v1alpha1.ReasonDeadlineExceeded, "Job was active longer than specified deadline")},
		"about to be complete is not stopped":   {all(withJob(aboutTo(batchv1.JobSuccessCriteriaMet)), suspend("")), leave},
		"about to be complete is not cancelled": {all(withJob(aboutTo(batchv1.JobSuccessCriteriaMet)), cancel), leave},
		"about to be complete, the tenant goes": {all(withJob(aboutTo(batchv1.JobSuccessCriteriaMet)), tenantDeleting), leave},
		"about to be complete is not refused":   {all(withJob(aboutTo(batchv1.JobSuccessCriteriaMet), createdAgo(day)), pods(Pods{})), leave},
		"about to fail is not failed":           {all(withJob(aboutTo(batchv1.JobFailureTarget), createdAgo(day)), pods(Pods{})), leave},
		"a pod that is being counted is not one that is missing": {
			all(withJob(podless, beingCounted, createdAgo(day)), pods(Pods{})), after(5*time.Minute, starts),
		},
		"Deleted":                         {gone, vanished},
		"Deleted, whatever else is wrong": {all(gone, noTemplate, noNamespace), vanished},
		"Deleted, and the status does not say that it was started":                         {startedHere, vanished},
		"Deleted, the status does not say that it was started, and whatever else is wrong": {all(startedHere, noTemplate, noNamespace), vanished},
		"Deleted, and the status says that it was started":                                 {all(startedHere, gone), vanished},
		"started here, and its pod runs":                                                   {all(startedHere, withJob(podReady)), runs},
		"started here, and completed":                                                      {all(startedHere, withJob(completed)), success},
		"its Job goes, and may still finish": {
			withJob(beingDeleted, deletedAgo(time.Minute)), after(9*time.Minute, waits(v1alpha1.ReasonRunning, "the Job is being deleted")),
		},
		"its Job goes, and somebody's finalizer holds it": {
			withJob(beingDeleted, deletedAgo(UnclearAfter)),
			stalls(v1alpha1.ReasonDeleted, "the Job was deleted before it finished, and is not gone after ten minutes; create another TenantJob to run it again"),
		},
		"Deleted, with its namespace": {
			all(gone, namespaceDeleting), stalls(v1alpha1.ReasonDeleted, "the Job was deleted before it finished, with namespace tenant-acme"),
		},

		// A later run, or its fan-out, ends it.
		"Replaced while it runs":                     {all(withJob(podReady), replacedBy("a later run")), ends(v1alpha1.ReasonReplaced, "a later run")},
		"Replaced, and it has completed":             {all(withJob(completed), replacedBy("a later run")), success},
		"a child that may start":                     {childThat(FanOut{}), start},
		"a child whose fan-out was not read":         {all(childThat(FanOut{}), noTemplate), Decision{Action: ActionWait}},
		"a child that is to end":                     {childThat(FanOut{Status: isFalse, Reason: v1alpha1.ReasonSuperseded, Message: "x", Skipped: true}), ends(v1alpha1.ReasonSuperseded, "x")},
		"a child that failed":                        {childThat(FanOut{Status: isFalse, Reason: v1alpha1.ReasonDeleted, Message: "x"}), stalls(v1alpha1.ReasonDeleted, "x")},
		"a child that was put off":                   {childThat(FanOut{Name: "nightly", Changed: "spec.notBeforeTime"}), ends(v1alpha1.ReasonCancelled, changedMessage)},
		"a child that was put off for ever":          {all(childThat(FanOut{Name: "nightly", Changed: "spec.notBeforeTime"}), notBefore(50*365*day)), ends(v1alpha1.ReasonCancelled, changedMessage)},
		"a child that runs, and was put off":         {all(withJob(podReady), childThat(FanOut{Changed: "spec.notBeforeTime"})), runs},
		"a child whose owner is taken off":           {childThat(FanOut{Name: "nightly", Disowned: true}), stalls(v1alpha1.ReasonDeleted, disownedMessage)},
		"a child that runs, and was disowned":        {all(withJob(podReady), childThat(FanOut{Name: "nightly", Disowned: true})), stalls(v1alpha1.ReasonDeleted, disownedMessage)},
		"a child that completed, and disowned":       {all(withJob(completed), childThat(FanOut{Disowned: true})), success},
		"left behind by its fan-out":                 {leftBehindBy("report-8231"), ends(v1alpha1.ReasonCancelled, "fan-out report-8231 does not own it any more, and it had not started; create another TenantJob to run it")},
		"left behind, and it runs":                   {all(withJob(podReady), leftBehindBy("report-8231")), runs},
		"not left behind, with another's label":      {leftBehindBy("another"), start},
		"deleted, and the collector does not know":   {all(withJob(podReady), deletedWith("example.com/hold")), stop},
		"deleted, with the finalizer that pods have": {all(withJob(podReady), deletedWith("batch.kubernetes.io/job-tracking")), stop},
		"deleted, and the collector stops it":        {all(withJob(podReady), deletedWith("foregroundDeletion")), leave},
		"deleted without its Job":                    {all(withJob(podReady), deletedWith("orphan")), leave},
		"a child that runs, of one that is over":     {all(withJob(podReady), childThat(FanOut{Status: isFalse, Reason: v1alpha1.ReasonSuperseded})), runs},

		// It is over.
		"over: it is left":                              {withCondition(isFalse, v1alpha1.ReasonExpired, ""), leave},
		"over: a cancelled one is not started again":    {all(withCondition(isFalse, v1alpha1.ReasonCancelled, ""), func(o *Observed) { o.TenantJob.Spec.Cancel = nil }), leave},
		"over: its Job is stopped":                      {all(withJob(podReady), withCondition(isFalse, v1alpha1.ReasonStoppedBySuspension, "")), stop},
		"over: its Job is being stopped":                {all(withJob(beingDeleted), withCondition(isFalse, v1alpha1.ReasonStoppedBySuspension, "")), leave},
		"over: its Job has ended":                       {all(withJob(completed), withCondition(isFalse, v1alpha1.ReasonStoppedBySuspension, "")), leave},
		"over: started here, its Job is gone":           {all(startedHere, withCondition(isFalse, v1alpha1.ReasonJobFailed, "")), leave},
		"over: its Job is gone":                         {all(gone, withCondition(isFalse, v1alpha1.ReasonJobFailed, "")), leave},
		"over: the tenant and template are gone":        {all(completedAgo(time.Hour), noTenant, noNamespace, noTemplate), leave},
		"TTL has not passed":                            {all(completedAgo(time.Minute), ttl(90)), after(30*time.Second, leave)},
		"TTL has passed":                                {all(completedAgo(time.Minute), ttl(60)), Decision{Action: ActionRemove}},
		"TTL of a child that is not recorded":           {all(completedAgo(time.Minute), ttl(60), childThat(FanOut{})), after(PollInterval, leave)},
		"TTL of a child that is recorded":               {all(completedAgo(time.Minute), ttl(60), childThat(FanOut{Recorded: true})), Decision{Action: ActionRemove}},
		"TTL of zero":                                   {all(completedAgo(0), ttl(0)), Decision{Action: ActionRemove}},
		"TTL, and its Job is there":                     {all(withJob(completed), completedAgo(time.Hour), ttl(60)), Decision{Action: ActionRemove}},
		"no TTL":                                        {completedAgo(day), leave},
		"TTL is not for what failed":                    {all(failedAgo(day), ttl(0)), leave},
		"failed TTL has not passed":                     {all(failedAgo(time.Minute), failedTTL(90)), after(30*time.Second, leave)},
		"failed TTL has passed":                         {all(failedAgo(time.Minute), ttl(600), failedTTL(60)), Decision{Action: ActionRemove}},
		"failed TTL is not for what succeeded":          {all(completedAgo(day), failedTTL(0)), leave},
		"failed TTL of a child that is not recorded":    {all(failedAgo(time.Minute), failedTTL(60), childThat(FanOut{})), after(PollInterval, leave)},
		"TTL of what is being deleted already":          {all(completedAgo(day), ttl(0), func(o *Observed) { o.TenantJob.DeletionTimestamp = agoPtr(0) }), leave},
		"TTL of one that does not say when it ended":    {all(withCondition(isTrue, v1alpha1.ReasonCompleted, ""), ttl(0)), leave},
		"TTL: what still runs is stopped before":        {all(withJob(podReady), completedAgo(day), ttl(0)), stop},
		"cancelled after it completed":                  {all(completedAgo(time.Minute), cancel), leave},
		"its tenant is suspended after it completed":    {all(completedAgo(time.Minute), suspend("")), leave},
		"its namespace is another's after it completed": {all(completedAgo(time.Minute), func(o *Observed) { o.Namespace.Tenant = "globex" }), leave},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o := newObserved()
			tc.given(&o)
			if diff := cmp.Diff(tc.want, Decide(o, now)); diff != "" {
				t.Errorf("Decide (-want, +got):\n%s", diff)
			}
		})
	}
}

const (
	crashes = "container main: CrashLoopBackOff: exited with code 1, restarted 3 times"
	evicted = "EvictionByEvictionAPI: somebody evicted it, for example to drain its node"
)

const (
	changedMessage  = "`spec.notBeforeTime` was changed after fan-out nightly had created it, and a fan-out runs only what it has created"
	disownedMessage = "its owner reference to fan-out nightly was removed: create another TenantJob to run it again"
)

func leftBehindBy(fanOut string) func(*Observed) {
	return func(o *Observed) { o.TenantJob.Labels = map[string]string{v1alpha1.LabelFanOut: fanOut} }
}

func deletedWith(finalizer string) func(*Observed) {
	return func(o *Observed) {
		o.TenantJob.DeletionTimestamp, o.TenantJob.Finalizers = agoPtr(0), []string{finalizer}
	}
}
