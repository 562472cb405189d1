package fanout

import (
	"maps"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
)

// BuildChild returns the TenantJob for the tenant at an index of the plan. It has all its labels from the start, so that
// making it is the only write until it starts.
func BuildChild(fanOut *v1alpha1.TenantFanOut, p *Plan, i int, namespace string) *v1alpha1.TenantJob {
	e := p.Entries[i]
	child := &v1alpha1.TenantJob{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace,
			Name:      fanOut.Name,
			Labels:    inherited(fanOut),
			OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(fanOut, v1alpha1.GroupVersion.WithKind("TenantFanOut")),
			},
		},
		Spec: v1alpha1.TenantJobSpec{
			TenantRef:   v1alpha1.TenantReference{Name: e.Tenant},
			TemplateRef: fanOut.Spec.TemplateRef,
			Parameters:  maps.Clone(fanOut.Spec.Parameters),
		},
	}
	if !e.NotBefore.IsZero() {
		child.Spec.NotBeforeTime = &metav1.Time{Time: e.NotBefore}
	}
	if scheduled, ok := p.scheduledTime(fanOut, e); ok {
		child.Annotations = map[string]string{v1alpha1.AnnotationScheduledTime: scheduled.Format(time.RFC3339)}
	}
	// Parameters that don't fit are in the plan: then nobody gets a child.
	values, _ := job.Resolve(p.Template.Parameters, fanOut.Spec.Parameters)
	child.Labels = job.Labels(job.Run{
		TenantJob: child,
		Tenant:    &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: e.Tenant}},
		Template:  &v1alpha1.TenantJobTemplate{ObjectMeta: metav1.ObjectMeta{Name: fanOut.Spec.TemplateRef.Name}, Spec: p.Template},
	}, values)
	return child
}

// inherited are the labels that a child has from its fan-out.
func inherited(fanOut *v1alpha1.TenantFanOut) map[string]string {
	labels := map[string]string{v1alpha1.LabelFanOut: fanOut.Name}
	for key, value := range fanOut.Labels {
		if strings.HasPrefix(key, v1alpha1.TagPrefix) {
			labels[key] = value
		}
	}
	if owner := metav1.GetControllerOf(fanOut); owner != nil && owner.Kind == "TenantSchedule" {
		labels[v1alpha1.LabelSchedule] = owner.Name
	}
	return labels
}

// Tick is the tick of the schedule that a fan-out was made for. It is false for one that no tick made.
func Tick(fanOut *v1alpha1.TenantFanOut) (time.Time, bool) {
	tick, err := time.Parse(time.RFC3339, fanOut.Annotations[v1alpha1.AnnotationScheduledTime])
	return tick.UTC(), err == nil
}

// OnTenantsClock says whether a fan-out's tick comes for each tenant on the tenant's own clock.
func OnTenantsClock(fanOut *v1alpha1.TenantFanOut) bool {
	_, scheduled := Tick(fanOut)
	return scheduled && fanOut.Annotations[v1alpha1.AnnotationTimeZoneFrom] == string(v1alpha1.TimeZoneFromTenant)
}

// WindowStart is what spreadSeconds counts from: the tick, so that a tenant runs at the same minute each time however
// late the plan is sealed. A window that has passed, of a tick that was missed, is opened anew: else all would start at
// once. Zero means now.
func WindowStart(fanOut *v1alpha1.TenantFanOut, now time.Time) time.Time {
	tick, scheduled := Tick(fanOut)
	if !scheduled || !now.Before(tick.Add(time.Duration(spreadSeconds(fanOut))*time.Second)) {
		return time.Time{}
	}
	return tick
}

// scheduledTime is when the tick came for a tenant.
func (p *Plan) scheduledTime(fanOut *v1alpha1.TenantFanOut, e Entry) (time.Time, bool) {
	if OnTenantsClock(fanOut) && !e.NotBefore.IsZero() {
		return e.NotBefore.Add(-placeInWindow(e, p.SpreadSeconds)), true
	}
	return Tick(fanOut)
}
