package tenant

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

// maxListed is how many workloads a message lists.
const maxListed = 10

// Workload is an object in a tenant's namespace that runs pods, or is one, and is no run of the tenant. What it has made itself
// counts as its own: the Jobs of a CronJob, and the pods of a Job.
type Workload struct {
	Kind, Name string
	// By is the field manager that created it, such as kubectl-create or argocd-controller. Empty when it is not recorded.
	By string
	// Jobs is how many Jobs of a CronJob there are.
	Jobs int
}

// WorkloadsOf returns the workloads among the objects of a tenant's namespace that are no runs, by kind and name.
func WorkloadsOf(objects []metav1.PartialObjectMetadata) []Workload {
	var workloads []Workload
	jobs := map[string]int{}
	for i := range objects {
		o := &objects[i]
		owner := metav1.GetControllerOfNoCopy(o)
		switch {
		case owner == nil:
			workloads = append(workloads, Workload{Kind: o.Kind, Name: o.Name, By: creatorOf(o.ManagedFields)})
		case isWorkload(owner):
			if owner.Kind == "CronJob" {
				jobs[owner.Name]++
			}
		case owner.Kind == "TenantJob" && strings.HasPrefix(owner.APIVersion, v1alpha1.GroupVersion.Group+"/"):
		default: // For instance the Job of another operator's object.
			workloads = append(workloads, Workload{Kind: o.Kind, Name: o.Name, By: owner.Kind + " " + owner.Name})
		}
	}
	for i, w := range workloads {
		if w.Kind == "CronJob" {
			workloads[i].Jobs = jobs[w.Name]
		}
	}
	slices.SortFunc(workloads, func(a, b Workload) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return workloads
}

// isWorkload says whether an owner is of a kind that is looked for itself.
func isWorkload(owner *metav1.OwnerReference) bool {
	switch owner.APIVersion + " " + owner.Kind {
	case "batch/v1 CronJob", "batch/v1 Job", "apps/v1 Deployment", "apps/v1 ReplicaSet", "apps/v1 StatefulSet", "apps/v1 DaemonSet",
		"v1 ReplicationController":
		return true
	}
	return false
}

// creatorOf returns the field manager that wrote an object first.
func creatorOf(fields []metav1.ManagedFieldsEntry) string {
	var first *metav1.ManagedFieldsEntry
	for i, f := range fields {
		if f.Subresource == "" && f.Time != nil && (first == nil || f.Time.Before(first.Time)) {
			first = &fields[i]
		}
	}
	if first == nil {
		return ""
	}
	return first.Manager
}

func (w Workload) String() string {
	var notes []string
	if w.By != "" {
		notes = append(notes, "by "+w.By)
	}
	if w.Jobs > 0 {
		notes = append(notes, fmt.Sprintf("Jobs: %d", w.Jobs))
	}
	if len(notes) == 0 {
		return w.Kind + " " + w.Name
	}
	return fmt.Sprintf("%s %s (%s)", w.Kind, w.Name, strings.Join(notes, ", "))
}

// needsWorkloads says whether to look for workloads that are no runs: when the Tenant is verified, and also when its spec has changed
// while it is being moved, or has such workloads. Where none was left and none may be created, it is not looked for any more.
func needsWorkloads(o Observed) bool {
	if o.Did(ActionListWorkloads) {
		return false
	}
	c := conditions.Get(o.Tenant.Status.Conditions, v1alpha1.ConditionWorkloadsConform)
	isCurrent := c.Status != "" && c.ObservedGeneration == o.Tenant.Generation
	isEnforced := o.Enforcement == v1alpha1.EnforcementEnforce
	if o.Verify {
		return !(isEnforced && isCurrent && c.Status == metav1.ConditionTrue)
	}
	return !isCurrent && (!isEnforced || c.Status == metav1.ConditionFalse)
}

// checkWorkloads reports which workloads in the namespace are no runs. Nothing else depends on it.
func checkWorkloads(o Observed) (Decision, bool) {
	switch {
	case o.Contents.Err != nil, o.Namespace.DeletionTimestamp != nil:
		return Decision{}, true
	case needsWorkloads(o):
		return Decision{Action: ActionListWorkloads}, false
	case !o.Did(ActionListWorkloads):
		return Decision{}, true
	case apierrors.IsForbidden(o.WorkloadsErr):
		return Decision{Conform: Condition{metav1.ConditionUnknown, v1alpha1.ReasonProgressing, fmt.Sprintf("retrying: %v", o.WorkloadsErr)}}, true
	case o.WorkloadsErr != nil:
		return Decision{}, true // It stays as it is, and the next verification tries again.
	case len(o.Workloads) == 0:
		return Decision{Conform: Condition{metav1.ConditionTrue, v1alpha1.ReasonConform, "all workloads in the namespace are runs of the tenant"}}, true
	}
	return Decision{Conform: Condition{metav1.ConditionFalse, v1alpha1.ReasonForeignWorkloads, workloadsMessage(o.Workloads, o.Enforcement)}}, true
}

func workloadsMessage(workloads []Workload, phase v1alpha1.Enforcement) string {
	var listed []string
	for i, w := range workloads {
		if i == maxListed {
			listed = append(listed, fmt.Sprintf("and %d more", len(workloads)-maxListed))
			break
		}
		listed = append(listed, w.String())
	}
	then := "in the phase Enforce such are refused: dispatch TenantJobs instead, or schedule them with a TenantSchedule"
	if phase == v1alpha1.EnforcementEnforce {
		then = "they are from before the phase Enforce, and start no more pods: delete them"
	}
	return fmt.Sprintf("workloads that are no runs of the tenant: %s; %s", strings.Join(listed, ", "), then)
}
