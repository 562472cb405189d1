package tenant

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Policies is what is known about the admission policies of the cluster.
type Policies struct {
	// Known is false until they were tried out.
	Known bool
	// Gap says which of them is not in force, and why. Empty means that all are, if Known.
	Gap string
}

// enforced returns the condition Enforced. The zero value leaves it as it is.
func enforced(o Observed) Condition {
	switch {
	case o.Policies.Gap != "":
		return Condition{metav1.ConditionFalse, v1alpha1.ReasonPolicyNotEnforced, o.Policies.Gap + "; no run of any tenant starts until it is in force again"}
	case !o.Policies.Known:
		return Condition{}
	case o.Enforcement != v1alpha1.EnforcementEnforce:
		does := "only written into the audit log"
		if o.Enforcement == v1alpha1.EnforcementWarn {
			does = "warned about and written into the audit log"
		}
		return Condition{
			metav1.ConditionFalse, string(o.Enforcement),
			fmt.Sprintf("workloads that are no runs are not refused in its namespace, but %s (`spec.enforcement`: %s)", does, o.Enforcement),
		}
	}
	return Condition{metav1.ConditionTrue, v1alpha1.ReasonPoliciesInForce, "the API server refuses what is no run of the tenant"}
}
