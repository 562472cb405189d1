package tenant

import (
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
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
// until each has its outcome, so that its fan-out can count it. ToDelete says that it is time to delete them. It does not wait
// for those that were created after the Tenant was deleted: somebody who goes on creating them would hold the deletion for
// ever. Should one of them have started, its Job and its pods were waited for before.
func WaitForTenantJobs(tenantJobs []v1alpha1.TenantJob, deleted time.Time) (wait Wait, toDelete bool) {
	var running, left []*v1alpha1.TenantJob
	for i := range tenantJobs {
		tj := &tenantJobs[i]
		early := !tj.CreationTimestamp.After(deleted)
		if early {
			left = append(left, tj)
		}
		if tj.DeletionTimestamp == nil {
			toDelete = true
			if early && !job.IsOver(tj) {
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
	return Wait{}, toDelete
}

// WaitForCredentials waits until the credentials of some runs are revoked.
func WaitForCredentials(tenantJobs []string) Wait {
	if len(tenantJobs) == 0 {
		return Wait{}
	}
	return Wait{v1alpha1.ReasonRevokingCredentials, "waiting until the credentials of TenantJobs are revoked: " + conditions.FirstOf(tenantJobs)}
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

// HeldObject is an object that is being deleted and that somebody's finalizers keep.
type HeldObject struct {
	Kind, Name string
	// Finalizers are sorted.
	Finalizers []string
}

// HeldOf returns what holds an object of a kind. It is false when the object is not being deleted, or nobody holds it but
// Kubernetes itself, which removes its own finalizers.
func HeldOf(kind string, obj metav1.Object) (HeldObject, bool) {
	held := HeldObject{Kind: kind, Name: obj.GetName(), Finalizers: foreignFinalizers(obj)}
	return held, len(held.Finalizers) > 0
}

func (h HeldObject) String() string { return h.Kind + " " + heldName(h.Name, h.Finalizers) }

// heldBy adds to a message the objects that are held, as far as it does not name them.
func (w Wait) heldBy(held []HeldObject) Wait {
	var names []string
	for _, h := range held {
		if !strings.Contains(w.Message, heldName(h.Name, h.Finalizers)) {
			names = append(names, h.String())
		}
	}
	if len(names) > 0 {
		slices.Sort(names)
		w.Message += "; " + conditions.FirstOf(names)
	}
	return w
}

// Names lists up to three objects by name, with the finalizers that hold those that are being deleted.
func Names[T metav1.Object](objects []T) string {
	names := make([]string, 0, len(objects))
	for _, obj := range objects {
		names = append(names, heldName(obj.GetName(), foreignFinalizers(obj)))
	}
	slices.Sort(names)
	return conditions.FirstOf(names)
}

func heldName(name string, finalizers []string) string {
	if len(finalizers) == 0 {
		return name
	}
	return fmt.Sprintf("%s (held by finalizer %s)", name, strings.Join(finalizers, ", "))
}

// foreignFinalizers returns the finalizers that hold an object that is being deleted, sorted.
func foreignFinalizers(obj metav1.Object) []string {
	if obj.GetDeletionTimestamp() == nil {
		return nil
	}
	if _, isTenantJob := obj.(*v1alpha1.TenantJob); isTenantJob { // Its members could write the one that pods have.
		return job.ForeignFinalizers(obj, v1alpha1.FinalizerCredentials)
	}
	return job.ForeignFinalizers(obj, batchv1.JobTrackingFinalizer)
}

func anyDeleted[T metav1.Object](objects []T) bool {
	return slices.ContainsFunc(objects, func(obj T) bool { return obj.GetDeletionTimestamp() != nil })
}

func pointersTo[T any](list []T) []*T {
	pointers := make([]*T, len(list))
	for i := range list {
		pointers[i] = &list[i]
	}
	return pointers
}
