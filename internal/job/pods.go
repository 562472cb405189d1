package job

import (
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// LookAt says what a Job's pods do.
func LookAt(pods []corev1.Pod) Pods {
	var found Pods
	var failed time.Time
	for i := range pods {
		pod := &pods[i]
		switch {
		case pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil:
			found.Running++
		case pod.Status.Phase == corev1.PodPending:
			found.Pending++
			found.Waiting = orElse(waitsFor(pod), found.Waiting)
		case pod.Status.Phase == corev1.PodFailed && pod.CreationTimestamp.After(failed):
			failed = pod.CreationTimestamp.Time
			found.Exit = howItEnded(pod)
		}
	}
	return found
}

// LookAtRefusals adds why the API server refuses a Job's pods, from the Job controller's FailedCreate events since the
// newest pod.
func LookAtRefusals(found *Pods, pods []corev1.Pod, refusals []corev1.Event) {
	var newest, ended, latest time.Time
	for i := range pods {
		newest = later(newest, pods[i].CreationTimestamp.Time)
		ended = later(ended, endOf(&pods[i]))
	}
	for i := range refusals {
		first, last := eventTimes(&refusals[i])
		if !last.After(newest) {
			continue
		}
		// A refusal before the newest pod, of which this is a repetition, is over.
		first = later(first, later(newest, ended))
		if found.Refused == "" || first.Before(found.RefusedSince) {
			found.RefusedSince = first
		}
		if found.Refused == "" || last.After(latest) {
			found.Refused, latest = refusal(refusals[i].Message), last
		}
	}
}

// refusal is a FailedCreate event's message without the name of the pod, which is another with each attempt.
func refusal(message string) string {
	if _, why, found := strings.Cut(message, " is forbidden: "); found {
		return why
	}
	return strings.TrimPrefix(message, "Error creating: ")
}

// endOf is when a pod's last container ended.
func endOf(pod *corev1.Pod) time.Time {
	var end time.Time
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if t := s.State.Terminated; t != nil {
			end = later(end, t.FinishedAt.Time)
		}
	}
	return end
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func eventTimes(e *corev1.Event) (first, last time.Time) {
	first, last = e.FirstTimestamp.Time, e.LastTimestamp.Time
	if first.IsZero() {
		first = e.EventTime.Time
	}
	if e.Series != nil {
		last = e.Series.LastObservedTime.Time
	}
	if last.IsZero() {
		last = first
	}
	return first, last
}

// beforeTheProcess are the reasons for which a container waits before its command is looked at. What the kubelet says
// with others may quote the command, and with it a parameter's value.
var beforeTheProcess = []string{
	"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError",
	"RegistryUnavailable", "SignatureValidationFailed", "CreateContainerConfigError",
}

// waitsFor is a pending pod's own reason: a container's, or the scheduler's.
func waitsFor(pod *corev1.Pod) string {
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		w := s.State.Waiting
		switch {
		case w == nil, w.Reason == "", w.Reason == "ContainerCreating", w.Reason == "PodInitializing":
		case slices.Contains(beforeTheProcess, w.Reason):
			return joined(w.Reason, w.Message)
		default:
			return w.Reason
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return joined(c.Reason, c.Message)
		}
	}
	return ""
}

// howItEnded is a failed pod's exit code. What it said on the way may be secret.
func howItEnded(pod *corev1.Pod) string {
	// A sidecar is stopped after the container that failed.
	for _, s := range slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses) {
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
			return fmt.Sprintf("container %s exited with code %d", s.Name, t.ExitCode)
		}
	}
	return pod.Status.Reason
}

func joined(reason, message string) string {
	if message == "" {
		return reason
	}
	return reason + ": " + message
}

// Ended says whether a Job has an outcome.
func Ended(j *batchv1.Job) bool { return finalCondition(j) != nil }

// CompletionTime is when a run ended: when its Job did, else now. A Job that failed has no completion time of its own, only
// a condition; where there are both, the Job controller may have written them a second apart.
func CompletionTime(j *batchv1.Job, now time.Time) *metav1.Time {
	if j != nil {
		if j.Status.CompletionTime != nil {
			return j.Status.CompletionTime.DeepCopy()
		}
		if condition := finalCondition(j); condition != nil {
			return condition.LastTransitionTime.DeepCopy()
		}
	}
	return &metav1.Time{Time: now}
}

// PriorityRank orders priorities: the lower goes first.
func PriorityRank(p v1alpha1.JobPriority) int {
	switch p {
	case v1alpha1.PriorityHigh:
		return -1
	case v1alpha1.PriorityLow:
		return 1
	default:
		return 0
	}
}
