package tenant

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func TestEnforced(t *testing.T) {
	for _, tt := range []struct {
		name     string
		phase    v1alpha1.Enforcement
		policies Policies
		want     Condition
	}{
		{"before it is known", v1alpha1.EnforcementEnforce, Policies{}, Condition{}},
		{"in force", v1alpha1.EnforcementEnforce, Policies{Known: true}, Condition{metav1.ConditionTrue, "PoliciesInForce", "the API server refuses what is no run of the tenant"}},
		{"not in force", v1alpha1.EnforcementEnforce, Policies{Known: true, Gap: "policy tenant-run is missing"}, Condition{
			metav1.ConditionFalse, "PolicyNotEnforced", "policy tenant-run is missing; no run of any tenant starts until it is in force again",
		}},
		{"a gap in a phase that refuses less", v1alpha1.EnforcementAudit, Policies{Gap: "policy tenant-run is missing"}, Condition{
			metav1.ConditionFalse, "PolicyNotEnforced", "policy tenant-run is missing; no run of any tenant starts until it is in force again",
		}},
		{"Audit", v1alpha1.EnforcementAudit, Policies{Known: true}, Condition{
			metav1.ConditionFalse, "Audit", "workloads that are no runs are not refused in its namespace, but only written into the audit log (`spec.enforcement`: Audit)",
		}},
		{"Warn", v1alpha1.EnforcementWarn, Policies{Known: true}, Condition{
			metav1.ConditionFalse, "Warn", "workloads that are no runs are not refused in its namespace, but warned about and written into the audit log (`spec.enforcement`: Warn)",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := enforced(Observed{Enforcement: tt.phase, Policies: tt.policies}); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}
