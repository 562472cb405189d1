package job

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// PodsOf returns what a Job's pods say. It leaves the fields about refusals empty, see AddRefusals.
func PodsOf(pods []corev1.Pod) Pods {
	var found Pods
	var failed time.Time
	for i := range pods {
		pod := &pods[i]
		switch {
		case pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil:
			found.Running++
		case pod.Status.Phase == corev1.PodPending:
			found.Pending++
			found.Waiting = firstNonBlank(waitingReason(pod), found.Waiting)
		case pod.Status.Phase == corev1.PodFailed && pod.CreationTimestamp.After(failed):
			failed = pod.CreationTimestamp.Time
			found.Exit = exitOf(pod)
		}
	}
	return found
}

// AddRefusals adds why, and since when, the API server refuses a Job's pods. The pods are all that the Job has, the events
// the Job controller's FailedCreate events about the Job. Only events after the newest pod count.
func (p *Pods) AddRefusals(pods []corev1.Pod, events []corev1.Event) {
	var newest, ended, latest time.Time
	for i := range pods {
		if created := pods[i].CreationTimestamp.Time; created.After(newest) {
			newest = created
		}
		if end := endTime(&pods[i]); end.After(ended) {
			ended = end
		}
	}
	for i := range events {
		first, last := eventTimes(&events[i])
		if !last.After(newest) {
			continue
		}
		// An event that is repeated may have begun before the newest pod was created or ended. That refusal has passed.
		first = slices.MaxFunc([]time.Time{first, newest, ended}, time.Time.Compare)
		if p.Refused == "" || first.Before(p.RefusedSince) {
			p.RefusedSince = first
		}
		if p.Refused == "" || last.After(latest) {
			p.Refused, latest = refusal(events[i].Message), last
		}
	}
}

// refusal returns the message of a FailedCreate event without the name of the pod, which differs with each attempt.
func refusal(message string) string {
	if _, why, found := strings.Cut(message, " is forbidden: "); found {
		return why
	}
	return strings.TrimPrefix(message, "Error creating: ")
}

// endTime returns when the last container of a pod ended. It is zero when none has.
func endTime(pod *corev1.Pod) time.Time {
	var end time.Time
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if t := s.State.Terminated; t != nil && t.FinishedAt.After(end) {
			end = t.FinishedAt.Time
		}
	}
	return end
}

// eventTimes returns when an event first and last happened.
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

// safeReasons are the reasons of waiting containers whose message is shown. They occur before the kubelet uses the
// container's command. The message of any other reason may quote the command, and with it the value of a parameter.
var safeReasons = []string{
	"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError",
	"RegistryUnavailable", "SignatureValidationFailed", "CreateContainerConfigError",
}

// waitingReason returns why a pending pod does not run yet: the reason of a container, or of the scheduler. It is empty
// when there is none.
func waitingReason(pod *corev1.Pod) string {
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		w := s.State.Waiting
		switch {
		case w == nil, w.Reason == "", w.Reason == "ContainerCreating", w.Reason == "PodInitializing":
		case slices.Contains(safeReasons, w.Reason):
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

// exitOf returns how a failed pod ended: the exit code of its container. Its messages are left out, since they may contain
// secrets.
func exitOf(pod *corev1.Pod) string {
	// A sidecar is stopped after the container that failed, so containers come before init containers.
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

// firstNonBlank returns text, or another text when it is empty or only space.
func firstNonBlank(text, otherwise string) string {
	if strings.TrimSpace(text) == "" {
		return otherwise
	}
	return text
}
