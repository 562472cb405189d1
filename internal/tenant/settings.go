package tenant

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// State returns the value of the label tenantry.dev/state that the Tenant's namespace should have.
func State(t *v1alpha1.Tenant) string {
	switch {
	case t.DeletionTimestamp != nil:
		return v1alpha1.StateDeleting
	case t.Suspended():
		return v1alpha1.StateSuspended
	}
	return v1alpha1.StateActive
}

// EnforcementOf returns the Tenant's enforcement phase, or the operator's default if it names none.
func EnforcementOf(t *v1alpha1.Tenant, byDefault v1alpha1.Enforcement) v1alpha1.Enforcement {
	if t.Spec.Enforcement != "" {
		return t.Spec.Enforcement
	}
	return byDefault
}

// MemberTemplates returns the names of the templates that the members of this Tenant may dispatch, sorted. A selector that is
// not valid selects no Tenant.
func MemberTemplates(t *v1alpha1.Tenant, templates []v1alpha1.TenantJobTemplate) []string {
	var names []string
	for i := range templates {
		dispatch := templates[i].Spec.MemberDispatch
		if dispatch == nil {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(dispatch.TenantSelector)
		if err == nil && selector.Matches(labels.Set(t.Labels)) {
			names = append(names, templates[i].Name)
		}
	}
	slices.Sort(names)
	return names
}
