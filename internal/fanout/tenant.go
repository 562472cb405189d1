package fanout

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// State says whether jobs can be made for a tenant.
type State int

const (
	// Active: they can.
	Active State = iota
	// Suspended: they would not start.
	Suspended
	// NotReady: there is no namespace for them.
	NotReady
	// Deleting: the tenant is on its way out.
	Deleting
)

// Tenant is what a fan-out has to know of a Tenant.
type Tenant struct {
	Name      string
	UID       types.UID
	Namespace string
	Labels    map[string]string
	State     State
	// NotBefore is when its run is due, for a schedule that is read on the tenant's own clock. Zero means when the
	// fan-out starts.
	NotBefore time.Time
}

// TenantOf is what a fan-out has to know of t.
func TenantOf(t *v1alpha1.Tenant) Tenant {
	return Tenant{Name: t.Name, UID: t.UID, Namespace: t.NamespaceName(), Labels: t.Labels, State: stateOf(t)}
}

func stateOf(t *v1alpha1.Tenant) State {
	switch {
	case t.DeletionTimestamp != nil:
		return Deleting
	case t.Suspended(), t.Status.State == v1alpha1.StateSuspended:
		return Suspended
	case t.Status.Namespace == nil, namespaceUnusable(t.Status.Conditions):
		return NotReady
	}
	return Active
}

func namespaceUnusable(conditions []metav1.Condition) bool {
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	return ready != nil && ready.Status == metav1.ConditionFalse &&
		(ready.Reason == v1alpha1.ReasonNamespaceTerminating || ready.Reason == v1alpha1.ReasonNamespaceConflict)
}

// obstacle is the outcome for a tenant for which no TenantJob can be made. The zero value means that one can. Nobody
// failed: the tenant itself says what is wrong with it, and a retry of the skipped ones brings it in later.
func obstacle(t Tenant) Outcome {
	switch t.State {
	case Suspended:
		return Outcome{Skipped, v1alpha1.ReasonTenantSuspended, fmt.Sprintf("tenant %s was suspended", t.Name)}
	case NotReady:
		return Outcome{Skipped, v1alpha1.ReasonTenantNotReady, fmt.Sprintf("tenant %s had no namespace that is ready", t.Name)}
	case Deleting:
		return Outcome{Skipped, v1alpha1.ReasonTenantDeleted, fmt.Sprintf("tenant %s was being deleted", t.Name)}
	case Active:
	}
	return Outcome{}
}

// unknownTenant is the outcome for a name that no Tenant has. It is planned, so that it shows.
func unknownTenant(name string) Outcome {
	return Outcome{Skipped, v1alpha1.ReasonTenantDeleted, fmt.Sprintf("there is no Tenant %s", name)}
}

// tenantReplaced is the outcome for a tenant that was deleted and made again: another one, which nobody selected.
func tenantReplaced(name string) Outcome {
	return Outcome{Skipped, v1alpha1.ReasonTenantDeleted,
		fmt.Sprintf("tenant %s was deleted; the Tenant that has its name now is another", name)}
}
