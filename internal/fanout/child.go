package fanout

import (
	"maps"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
)

// Presence is what is known about the object that has a child's name.
type Presence int

const (
	// NotCached means that the cache has no such object. The API server may have one.
	NotCached Presence = iota
	// Ours means that the object is the fan-out's child.
	Ours
	// Foreign means that the API server has an object of that name that is not the fan-out's child.
	Foreign
	// NotFound means that the API server does not have the child. When Observed.Tenants lacks its tenant, it means that the
	// API server does not have that either.
	NotFound
	// Refused means that the API server does not accept the child for this tenant. The message is the reason. An answer
	// of an overloaded API server is not a refusal.
	Refused
)

// Child is what is known about the child of one tenant. The zero value means that the cache does not have it.
type Child struct {
	Presence Presence
	// UID of the TenantJob. It is empty unless the child is Ours.
	UID types.UID
	// Deleting says that somebody has deleted it, and that a finalizer keeps it.
	Deleting bool
	// Started says that its Job was created. Its condition may not say so yet.
	Started bool
	// Status, Reason and Message are those of its condition Succeeded. For Refused, the message is the API server's, and the
	// reason that of the tenant's outcome. Without a reason, it is JobFailed.
	Status          metav1.ConditionStatus
	Reason, Message string
}

// ChildOf returns what a TenantJob in the tenant's namespace that has a child's name says. The child is the TenantJob that
// was observed after the creation, and stays it when somebody removes its owner reference. While none was observed, it is any
// TenantJob of which the fan-out could have been the creator. The index is that of the tenant in the plan.
func (l *Ledger) ChildOf(fanOut *v1alpha1.TenantFanOut, i int, tj *v1alpha1.TenantJob) Child {
	if !l.Knows(i, tj.UID) && (!l.IsChild(i, tj.UID) || !isLikeChild(fanOut, l.plan.Entries[i].Tenant, tj)) {
		return Child{Presence: Foreign}
	}
	c := Child{
		Presence: Ours, UID: tj.UID, Deleting: tj.DeletionTimestamp != nil,
		Status: metav1.ConditionUnknown, Started: tj.Status.JobRef != nil,
	}
	if condition := meta.FindStatusCondition(tj.Status.Conditions, v1alpha1.ConditionSucceeded); condition != nil {
		c.Status, c.Reason, c.Message = condition.Status, condition.Reason, condition.Message
	}
	return c
}

// isLikeChild says whether a TenantJob has the owner of a fan-out's child, and runs the same.
func isLikeChild(fanOut *v1alpha1.TenantFanOut, tenant string, tj *v1alpha1.TenantJob) bool {
	owner := metav1.GetControllerOfNoCopy(tj)
	return owner != nil && owner.UID == fanOut.UID && tj.Spec.TenantRef.Name == tenant &&
		tj.Spec.TemplateRef == fanOut.Spec.TemplateRef && maps.Equal(tj.Spec.Parameters, fanOut.Spec.Parameters)
}

// ChangeOf returns what somebody has changed in a child since the fan-out has created it: the name of the field, empty when
// nothing has changed. It leaves out `spec.cancel`, which is there to be set, and what the API server does not let anybody
// change. The index is that of the tenant in the plan.
func (p *Plan) ChangeOf(fanOut *v1alpha1.TenantFanOut, i int, tj *v1alpha1.TenantJob) string {
	e := p.Entries[i]
	var due time.Time
	if tj.Spec.NotBeforeTime != nil {
		due = tj.Spec.NotBeforeTime.Time
	}
	scheduled := ""
	if at, ok := p.scheduledTime(fanOut, e); ok {
		scheduled = at.Format(time.RFC3339)
	}
	switch {
	case !due.Equal(e.NotBefore):
		return "spec.notBeforeTime"
	case tj.Spec.MaxWaitSeconds != nil:
		return "spec.maxWaitSeconds"
	case tj.Annotations[v1alpha1.AnnotationScheduledTime] != scheduled:
		return "metadata.annotations[" + v1alpha1.AnnotationScheduledTime + "]"
	}
	for key, value := range reservedLabels(fanOut) {
		if tj.Labels[key] != value {
			return "metadata.labels[" + key + "]"
		}
	}
	return ""
}

// runs says whether a child that has no outcome has started.
func (c Child) runs() bool {
	return c.Started || c.Reason == v1alpha1.ReasonStarting || c.Reason == v1alpha1.ReasonRunning
}

// BuildChild returns the TenantJob of the tenant at an index of the plan, in the tenant's namespace. It has all its labels
// from the start, so that no other write is needed before its Job is created.
func BuildChild(fanOut *v1alpha1.TenantFanOut, p *Plan, i int, namespace string) *v1alpha1.TenantJob {
	e := p.Entries[i]
	child := &v1alpha1.TenantJob{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace,
			Name:      fanOut.Name,
			Labels:    inheritedLabels(fanOut),
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
	// There is no error here: when the parameters do not fit the template, every tenant has an outcome in the plan, and no
	// child is created.
	values, _ := job.Resolve(p.Template.Parameters, fanOut.Spec.Parameters)
	child.Labels = job.Labels(job.Run{
		TenantJob: child,
		Tenant:    &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: e.Tenant}},
		Template:  &v1alpha1.TenantJobTemplate{ObjectMeta: metav1.ObjectMeta{Name: fanOut.Spec.TemplateRef.Name}, Spec: p.Template},
	}, values)
	return child
}

// inheritedLabels are the labels that a child gets from its fan-out.
func inheritedLabels(fanOut *v1alpha1.TenantFanOut) map[string]string {
	labels := reservedLabels(fanOut)
	for key, value := range fanOut.Labels {
		if strings.HasPrefix(key, v1alpha1.TagPrefix) {
			labels[key] = value
		}
	}
	return labels
}

// reservedLabels are those of inheritedLabels that nobody may change: they name the fan-out, and its schedule if there is one.
func reservedLabels(fanOut *v1alpha1.TenantFanOut) map[string]string {
	labels := map[string]string{v1alpha1.LabelFanOut: fanOut.Name}
	if owner := metav1.GetControllerOf(fanOut); owner != nil && owner.Kind == "TenantSchedule" {
		labels[v1alpha1.LabelSchedule] = owner.Name
	}
	return labels
}
