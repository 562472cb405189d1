package tenant

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// object is one in a tenant's namespace, controlled by an owner unless that has no kind.
func object(kind, name string, owner metav1.OwnerReference) metav1.PartialObjectMetadata {
	o := metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{Kind: kind}, ObjectMeta: metav1.ObjectMeta{Name: name}}
	if owner.Kind != "" {
		owner.Controller = new(true)
		o.OwnerReferences = []metav1.OwnerReference{owner}
	}
	return o
}

func TestWorkloadsOf(t *testing.T) {
	var nobody metav1.OwnerReference
	created := object("Job", "import", nobody)
	at := func(minute int) *metav1.Time { return new(metav1.NewTime(time.Unix(int64(60*minute), 0))) }
	created.ManagedFields = []metav1.ManagedFieldsEntry{
		{Manager: "kube-controller-manager", Subresource: "status", Time: at(0)}, {Manager: "helm", Time: at(2)}, {Manager: "kubectl-create", Time: at(1)},
	}
	got := WorkloadsOf([]metav1.PartialObjectMetadata{
		object("Pod", "bare", nobody),
		object("CronJob", "nightly", nobody),
		object("Job", "nightly-1", metav1.OwnerReference{APIVersion: "batch/v1", Kind: "CronJob", Name: "nightly"}),
		object("Job", "nightly-2", metav1.OwnerReference{APIVersion: "batch/v1", Kind: "CronJob", Name: "nightly"}),
		object("Pod", "nightly-2-x", metav1.OwnerReference{APIVersion: "batch/v1", Kind: "Job", Name: "nightly-2"}),
		object("Job", "run", metav1.OwnerReference{APIVersion: "tenantry.dev/v1alpha1", Kind: "TenantJob", Name: "run"}),
		object("Pod", "run-x", metav1.OwnerReference{APIVersion: "batch/v1", Kind: "Job", Name: "run"}),
		object("Job", "forged", metav1.OwnerReference{APIVersion: "example.com/v1", Kind: "TenantJob", Name: "run"}),
		object("Pod", "of-another-job", metav1.OwnerReference{APIVersion: "batch.volcano.sh/v1alpha1", Kind: "Job", Name: "theirs"}),
		object("Deployment", "web", nobody),
		object("ReplicaSet", "web-1", metav1.OwnerReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}),
		created,
	})
	want := []Workload{
		{Kind: "CronJob", Name: "nightly", Jobs: 2}, {Kind: "Deployment", Name: "web"}, {Kind: "Job", Name: "forged", By: "TenantJob run"},
		{Kind: "Job", Name: "import", By: "kubectl-create"}, {Kind: "Pod", Name: "bare"}, {Kind: "Pod", Name: "of-another-job", By: "Job theirs"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWorkloadsMessage(t *testing.T) {
	workloads := []Workload{{Kind: "CronJob", Name: "nightly", By: "helm", Jobs: 2}, {Kind: "Pod", Name: "bare"}}
	const listed = "workloads that are no runs of the tenant: CronJob nightly (by helm, Jobs: 2), Pod bare; "
	for phase, then := range map[v1alpha1.Enforcement]string{
		v1alpha1.EnforcementAudit:   "in the phase Enforce such are refused: dispatch TenantJobs instead, or schedule them with a TenantSchedule",
		v1alpha1.EnforcementEnforce: "they are from before the phase Enforce, and start no more pods: delete them",
	} {
		if got := workloadsMessage(workloads, phase); got != listed+then {
			t.Errorf("%s: got %q", phase, got)
		}
	}
}

func TestNeedsWorkloads(t *testing.T) {
	const enforce, audit = v1alpha1.EnforcementEnforce, v1alpha1.EnforcementAudit
	for _, tt := range []struct {
		name     string
		phase    v1alpha1.Enforcement
		status   metav1.ConditionStatus // of the generation before, unless current is set
		current  bool
		verified bool
		want     bool
	}{
		{"new, in the phase Audit", audit, "", false, false, true},
		{"new, in the phase Enforce", enforce, "", false, false, false},
		{"new, verified in the phase Enforce", enforce, "", false, true, true},
		{"changed, in the phase Audit", audit, metav1.ConditionTrue, false, false, true},
		{"changed, with workloads that are left", enforce, metav1.ConditionFalse, false, false, true},
		{"changed, with none", enforce, metav1.ConditionTrue, false, false, false},
		{"known, in the phase Audit", audit, metav1.ConditionTrue, true, false, false},
		{"known, verified in the phase Audit", audit, metav1.ConditionTrue, true, true, true},
		{"known, verified with workloads that are left", enforce, metav1.ConditionFalse, true, true, true},
		{"known, verified with none", enforce, metav1.ConditionTrue, true, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Generation: 2}}
			if tt.status != "" {
				c := metav1.Condition{Type: v1alpha1.ConditionWorkloadsConform, Status: tt.status, ObservedGeneration: 1}
				if tt.current {
					c.ObservedGeneration = 2
				}
				tenant.Status.Conditions = []metav1.Condition{c}
			}
			if got := needsWorkloads(Observed{Tenant: tenant, Enforcement: tt.phase, Verify: tt.verified}); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}
