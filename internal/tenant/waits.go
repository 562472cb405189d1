package tenant

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
)

// Wait is what a suspension or a deletion waits for. The zero value means that it waits for nothing.
type Wait struct{ Reason, Message string }

// Done says that there is nothing to wait for.
func (w Wait) Done() bool { return w == Wait{} }

// WaitForJobs waits until a tenant's Jobs have ended. Draining, they end by themselves.
func WaitForJobs[T metav1.Object](jobs []T, drain bool) Wait {
	switch {
	case len(jobs) == 0:
		return Wait{}
	case drain:
		return Wait{v1alpha1.ReasonDrainingJobs, "waiting for running Jobs to finish: " + Names(jobs)}
	}
	return Wait{v1alpha1.ReasonStoppingJobs, "waiting for Jobs to stop: " + Names(jobs)}
}

// WaitForPods waits until a tenant's pods have ended, and returns the pods that must be deleted for that. Draining, a pod
// that runs may end by itself. A pod that does not run yet is deleted also then, because admission refuses to bind it to a
// node.
func WaitForPods(pods []corev1.Pod, drain bool) (wait Wait, toDelete []*corev1.Pod) {
	var left []*corev1.Pod
	for i := range pods {
		pod := &pods[i]
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		left = append(left, pod)
		if pod.DeletionTimestamp == nil && !(drain && pod.Status.Phase == corev1.PodRunning) {
			toDelete = append(toDelete, pod)
		}
	}
	switch {
	case len(left) == 0:
		return Wait{}, nil
	case drain && len(toDelete) < len(left):
		return Wait{v1alpha1.ReasonDrainingJobs, "waiting for running pods to finish: " + Names(left)}, toDelete
	}
	return Wait{v1alpha1.ReasonDeletingPods, "waiting for pods to end: " + Names(left)}, toDelete
}

// WaitForTenantJobs waits until the TenantJobs in the namespace of a Tenant that is being deleted are gone. First it waits
// until each has its outcome, so that its fan-out can count it. ToDelete says that it is time to delete them.
func WaitForTenantJobs(tenantJobs []v1alpha1.TenantJob) (wait Wait, toDelete bool) {
	var running, left []*v1alpha1.TenantJob
	for i := range tenantJobs {
		tj := &tenantJobs[i]
		left = append(left, tj)
		if tj.DeletionTimestamp == nil {
			toDelete = true
			if !job.IsOver(tj) {
				running = append(running, tj)
			}
		}
	}
	switch {
	case len(running) > 0:
		return Wait{v1alpha1.ReasonStoppingJobs, "waiting for TenantJobs to stop: " + Names(running)}, false
	case len(left) > 0:
		return Wait{v1alpha1.ReasonDeletingNamespace, "waiting for TenantJobs to be deleted: " + Names(left)}, toDelete
	}
	return Wait{}, false
}

// WaitForNamespace waits until a namespace is gone. The message quotes what the namespace controller says about it.
func WaitForNamespace(namespace *corev1.Namespace) Wait {
	var causes []string
	for _, c := range namespace.Status.Conditions {
		if c.Status == corev1.ConditionTrue {
			causes = append(causes, c.Message)
		}
	}
	slices.Sort(causes)
	message := fmt.Sprintf("waiting for namespace %s to be deleted", namespace.Name)
	if len(causes) > 0 {
		message += ": " + strings.Join(causes, "; ")
	}
	return Wait{v1alpha1.ReasonDeletingNamespace, message}
}

// Names lists up to three objects by name, with the finalizers of those that are being deleted.
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
