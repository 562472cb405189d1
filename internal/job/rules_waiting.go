package job

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

// fanOutEnded applies when the TenantJob is a child of a fan-out that ends it before it starts.
func fanOutEnded(o Observed, _ time.Time) *Decision {
	if o.FanOut == nil || o.FanOut.Reason == "" {
		return nil
	}
	p := conditions.Stalled
	if o.FanOut.Status == metav1.ConditionTrue || o.FanOut.Skipped {
		p = conditions.Current
	}
	return &Decision{Status: o.FanOut.Status, Reason: o.FanOut.Reason, Message: o.FanOut.Message, Progress: p}
}

// changed applies when the TenantJob is a child of a fan-out and somebody has changed what the fan-out made. The fan-out does
// not wait for what it did not ask for.
func changed(o Observed, _ time.Time) *Decision {
	if o.FanOut == nil || o.FanOut.Changed == "" {
		return nil
	}
	return endsWith(v1alpha1.ReasonCancelled, conditions.Current,
		fmt.Sprintf("`%s` was changed after fan-out %s had created it, and a fan-out runs only what it has created", o.FanOut.Changed, o.FanOut.Name))
}

// leftBehind applies when the TenantJob was the child of a fan-out that was deleted without its children. The limits with
// which it was planned are gone with the fan-out.
func leftBehind(o Observed, _ time.Time) *Decision {
	name := o.TenantJob.Name
	if o.FanOut != nil || FanOutOf(o.TenantJob) != nil || o.TenantJob.Labels[v1alpha1.LabelFanOut] != name {
		return nil
	}
	return endsWith(v1alpha1.ReasonCancelled, conditions.Current,
		fmt.Sprintf("fan-out %s does not own it any more, and it had not started; create another TenantJob to run it", name))
}

// fanOutUnread applies when the TenantJob is a child of a fan-out whose plan was not read yet.
func fanOutUnread(o Observed, now time.Time) *Decision {
	switch {
	case o.FanOut == nil || o.Template != nil:
		return nil
	case tenantSuspends(o):
		return tenantSuspended(o, now)
	}
	return &Decision{Action: ActionWait}
}

// badTemplate applies when there is no template.
func badTemplate(o Observed, _ time.Time) *Decision {
	if o.Template != nil {
		return nil
	}
	d := waitsFor(v1alpha1.ReasonTemplateNotFound, fmt.Sprintf("there is no TenantJobTemplate %s: create it, or delete this TenantJob", o.TenantJob.Spec.TemplateRef.Name))
	d.Progress = conditions.Stalled
	return &d
}

// unaccepted applies when the template is Ready and does not accept the TenantJob. What a template accepts that is not Ready may
// still change. A TenantJob that the template may have accepted before it was changed waits: what the author of the template has
// done, the author can undo.
func unaccepted(o Observed, _ time.Time) *Decision {
	if !isReady(o.Template) {
		return nil
	}
	err := misfit(o)
	switch {
	case err == nil:
		return nil
	case !precedesTemplate(o):
		return endsWith(v1alpha1.ReasonInvalidParameters, conditions.Stalled, err.Error())
	}
	return waitsForTemplate(fmt.Sprintf("TenantJobTemplate %s, as it is now, does not accept this TenantJob: %v; "+
		"correct the template, or delete this TenantJob and create another", o.Template.Name, err))
}

// misfit returns why a TenantJob does not fit its template: its parameters, or its name, when that is too long for an Indexed Job.
// It is nil when it fits.
func misfit(o Observed) error {
	if _, err := Resolve(o.Template.Spec.Parameters, o.TenantJob.Spec.Parameters); err != nil {
		return err
	}
	if longest := MaxNameLength(o.Template); len(o.TenantJob.Name) > longest {
		return fmt.Errorf("`metadata.name` must have at most %d characters, since the index is appended to it: "+
			"the Job of TenantJobTemplate %s is Indexed", longest, o.Template.Name)
	}
	return nil
}

// isReady says whether a template can run as it is now.
func isReady(t *v1alpha1.TenantJobTemplate) bool {
	ready := conditions.Ready(t.Status.Conditions)
	return ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == t.Generation
}

// Accepts says whether the template of a TenantJob is Ready and accepts it.
func Accepts(o Observed) bool { return o.Template != nil && isReady(o.Template) && misfit(o) == nil }

// precedesTemplate says whether a TenantJob may be older than the template as it is now. It is when its status says that the
// template has accepted it. Otherwise the times of the API server decide, of which all are whole seconds. They do not say when
// a template was changed, since none is recorded for a change that only removes fields. They say when the operator has found
// the template Ready since. A fan-out's child runs the sealed template, which is never changed.
func precedesTemplate(o Observed) bool {
	tj, t := o.TenantJob, o.Template
	switch {
	case o.FanOut != nil:
		return false
	case tj.Status.TemplateGeneration != 0:
		return true
	case t.Generation == 1:
		return tj.CreationTimestamp.Before(&t.CreationTimestamp)
	}
	checked := statusTime(t.ManagedFields)
	return checked == nil || tj.CreationTimestamp.Before(checked)
}

// statusTime returns when the status of an object was last written. It is nil when nobody has recorded that.
func statusTime(managers []metav1.ManagedFieldsEntry) *metav1.Time {
	var last *metav1.Time
	for _, m := range managers {
		if m.Subresource == "status" && m.Time != nil && (last == nil || last.Before(m.Time)) {
			last = m.Time
		}
	}
	return last
}

// waitsForTemplate returns the decision about a TenantJob for which somebody has to correct the template.
func waitsForTemplate(message string) *Decision {
	d := waitsFor(v1alpha1.ReasonTemplateNotReady, message)
	d.Progress = conditions.Stalled
	return &d
}

// notYetDue applies before spec.notBeforeTime.
func notYetDue(o Observed, now time.Time) *Decision {
	due := o.TenantJob.Spec.NotBeforeTime
	if due == nil || !now.Before(due.Time) {
		return nil
	}
	d := waitsFor(v1alpha1.ReasonNotYetDue, "waits for `spec.notBeforeTime`")
	d.RequeueAfter = due.Sub(now)
	return &d
}

// templateNotReady applies when the template is not Ready.
func templateNotReady(o Observed, _ time.Time) *Decision {
	ready := meta.FindStatusCondition(o.Template.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case ready != nil && ready.ObservedGeneration != o.Template.Generation && len(o.TenantJob.Status.Conditions) > 0:
		// The template is being checked again. The message that the TenantJob has will be right again in a moment.
		return &Decision{}
	case ready == nil || ready.ObservedGeneration != o.Template.Generation || ready.Status == metav1.ConditionUnknown:
		d := waitsFor(v1alpha1.ReasonTemplateNotReady, fmt.Sprintf("TenantJobTemplate %s is being checked", o.Template.Name))
		return &d
	case ready.Status == metav1.ConditionFalse:
		return waitsForTemplate(fmt.Sprintf("TenantJobTemplate %s can't run: %s", o.Template.Name, ready.Message))
	}
	return nil
}

// tenantSuspended applies when the tenant is suspended. It ends a fan-out's child, so that the fan-out can complete.
func tenantSuspended(o Observed, _ time.Time) *Decision {
	if !tenantSuspends(o) {
		return nil
	}
	message := fmt.Sprintf("tenant %s is suspended", o.Tenant.Name)
	if o.FanOut != nil && o.Tenant.Suspended() {
		return endsWith(v1alpha1.ReasonTenantSuspended, conditions.Current, message)
	}
	d := waitsFor(v1alpha1.ReasonTenantSuspended, message+"; it starts when the tenant is resumed")
	return &d
}

// tenantSuspends says whether the tenant is suspended, or its namespace still has the state of a suspended one.
func tenantSuspends(o Observed) bool {
	return o.Tenant != nil && (o.Tenant.Suspended() || o.Namespace != nil && o.Namespace.State == v1alpha1.StateSuspended)
}

// tenantNotReady applies when the tenant, or its namespace, does not exist or is not ready.
func tenantNotReady(o Observed, _ time.Time) *Decision {
	name := o.TenantJob.Spec.TenantRef.Name
	message := ""
	switch {
	case o.Tenant == nil:
		message = fmt.Sprintf("there is no Tenant %s", name)
	case o.Namespace == nil, o.Namespace.TenantUID != o.Tenant.UID, o.Tenant.Status.Namespace == nil, o.Tenant.Status.Namespace.UID != o.Namespace.UID, o.Namespace.State != v1alpha1.StateActive:
		message = fmt.Sprintf("the namespace of tenant %s is not ready", name)
	case !meta.IsStatusConditionTrue(o.Tenant.Status.Conditions, v1alpha1.ConditionReady):
		message = fmt.Sprintf("tenant %s is not ready", name)
	default:
		return nil
	}
	if o.Tenant != nil {
		if ready := conditions.Ready(o.Tenant.Status.Conditions); ready.Status == metav1.ConditionFalse {
			message += ": " + ready.Message
		}
	}
	d := waitsFor(v1alpha1.ReasonTenantNotReady, message)
	return &d
}

// MaxWait returns how long limits may hold a TenantJob: its own maxWaitSeconds, else that of its template. Zero means
// without end.
func MaxWait(tj *v1alpha1.TenantJob, t *v1alpha1.TenantJobTemplate) time.Duration {
	switch {
	case tj.Spec.MaxWaitSeconds != nil:
		return seconds(*tj.Spec.MaxWaitSeconds)
	case t.Spec.MaxWaitSeconds != nil:
		return seconds(*t.Spec.MaxWaitSeconds)
	}
	return 0
}
