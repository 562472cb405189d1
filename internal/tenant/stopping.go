package tenant

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Wait is what a suspension or a deletion waits for. The zero value means for nothing.
type Wait struct{ Reason, Message string }

// Over says that there is nothing to wait for.
func (w Wait) Over() bool { return w == Wait{} }

// WaitForJobs waits for a tenant's Jobs to end.
func WaitForJobs[T metav1.Object](jobs []T, drain bool) Wait {
	switch {
	case len(jobs) == 0:
		return Wait{}
	case drain:
		return Wait{v1alpha1.ReasonDrainingJobs, "waiting for running Jobs to finish: " + Names(jobs)}
	}
	return Wait{v1alpha1.ReasonStoppingJobs, "waiting for Jobs to stop: " + Names(jobs)}
}

// WaitForPods waits for a tenant's pods to end, and returns those that have to be deleted for it. Draining, those that
// run may end by themselves; one that does not run yet is refused its node and never would.
func WaitForPods(pods []corev1.Pod, drain bool) (wait Wait, stragglers []*corev1.Pod) {
	var left []*corev1.Pod
	for i := range pods {
		pod := &pods[i]
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		left = append(left, pod)
		if pod.DeletionTimestamp == nil && !(drain && pod.Status.Phase == corev1.PodRunning) {
			stragglers = append(stragglers, pod)
		}
	}
	switch {
	case len(left) == 0:
		return Wait{}, nil
	case drain && len(stragglers) < len(left):
		return Wait{v1alpha1.ReasonDrainingJobs, "waiting for running pods to finish: " + Names(left)}, stragglers
	}
	return Wait{v1alpha1.ReasonDeletingPods, "waiting for pods to end: " + Names(left)}, stragglers
}

// WaitForTenantJobs waits for the TenantJobs in the namespace of a Tenant that is being deleted: to have an outcome,
// which whoever counts it sees before they are gone, and then to be gone. Doomed says that it is time to delete them.
func WaitForTenantJobs(all []v1alpha1.TenantJob, over func(*v1alpha1.TenantJob) bool) (wait Wait, doomed bool) {
	var running, left []*v1alpha1.TenantJob
	for i := range all {
		tj := &all[i]
		left = append(left, tj)
		if tj.DeletionTimestamp == nil {
			doomed = true
			if !over(tj) {
				running = append(running, tj)
			}
		}
	}
	switch {
	case len(running) > 0:
		return Wait{v1alpha1.ReasonStoppingJobs, "waiting for TenantJobs to stop: " + Names(running)}, false
	case len(left) > 0:
		return Wait{v1alpha1.ReasonDeletingNamespace, "waiting for TenantJobs to be deleted: " + Names(left)}, doomed
	}
	return Wait{}, false
}

// WaitForNamespace waits for a namespace to be gone, in the words of the namespace controller.
func WaitForNamespace(namespace *corev1.Namespace) Wait {
	var held []string
	for _, c := range namespace.Status.Conditions {
		if c.Status == corev1.ConditionTrue {
			held = append(held, c.Message)
		}
	}
	slices.Sort(held)
	message := fmt.Sprintf("waiting for namespace %s to be deleted", namespace.Name)
	if len(held) > 0 {
		message += ": " + strings.Join(held, "; ")
	}
	return Wait{v1alpha1.ReasonDeletingNamespace, message}
}

// Names lists up to three objects by name, and what holds those that can't go.
func Names[T metav1.Object](objects []T) string {
	const most = 3
	names := make([]string, 0, len(objects))
	for _, obj := range objects {
		name := obj.GetName()
		if finalizers := slices.Sorted(slices.Values(obj.GetFinalizers())); obj.GetDeletionTimestamp() != nil && len(finalizers) > 0 {
			name += fmt.Sprintf(" (held by finalizer %s)", strings.Join(finalizers, ", "))
		}
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
