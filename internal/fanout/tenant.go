package fanout

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// State says whether TenantJobs can be created for a tenant.
type State int

const (
	// Active means that they can.
	Active State = iota
	// Suspended means that they would not start.
	Suspended
	// NotReady means that the tenant has no usable namespace.
	NotReady
	// Deleting means that the tenant is being deleted.
	Deleting
)

// Tenant is what a fan-out needs to know about a Tenant.
type Tenant struct {
	Name string
	UID  types.UID
	// Namespace is the name of the tenant's namespace.
	Namespace string
	Labels    map[string]string
	State     State
	// NotBefore is when its run is due, for a schedule with timeZoneFrom: Tenant. Zero means that it has no time of its own.
	NotBefore time.Time
}

// TenantOf returns what a fan-out needs to know about t. It leaves NotBefore zero.
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

// namespaceUnusable says whether no TenantJob can be created in the namespace of a Tenant with these conditions.
func namespaceUnusable(conditions []metav1.Condition) bool {
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	return ready != nil && ready.Status == metav1.ConditionFalse &&
		(ready.Reason == v1alpha1.ReasonNamespaceTerminating || ready.Reason == v1alpha1.ReasonNamespaceConflict)
}

// stateOutcome returns the outcome of a tenant for which no TenantJob can be created, the zero value when one can. It
// counts as skipped: the Tenant's own status says what is wrong, and a retry of the skipped tenants can include it later.
func stateOutcome(t Tenant) Outcome {
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

// unknownTenant returns the outcome of a name that no Tenant has. It is in the plan, so that the status shows it.
func unknownTenant(name string) Outcome {
	return Outcome{Skipped, v1alpha1.ReasonTenantDeleted, fmt.Sprintf("there is no Tenant %s", name)}
}

// tenantReplaced returns the outcome of a tenant that was deleted. The Tenant that has its name now was not selected.
func tenantReplaced(name string) Outcome {
	return Outcome{Skipped, v1alpha1.ReasonTenantDeleted,
		fmt.Sprintf("tenant %s was deleted; the Tenant that has its name now is another", name)}
}
