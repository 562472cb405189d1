package job

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// end is how a pod ended, or why it is being deleted.
type end struct {
	why string
	// fades means that the pod is being deleted, and the text with it.
	fades bool
	// created is when the pod was.
	created time.Time
}

// later returns the one of two ends that is told: that of the newest pod, of those that ended by themselves before those that were
// deleted. The Job controller deletes what still runs when a pod has failed.
func later(a, b end) end {
	switch {
	case b.why == "":
		return a
	case a.why == "" || a.fades && !b.fades:
		return b
	case a.fades == b.fades && b.created.After(a.created):
		return b
	}
	return a
}

// endOf returns how a pod ended that has failed or is being deleted: what the kubelet, or who deletes it, says about the pod, else
// the exit code of a container. Messages that may quote a command or an output are left out, since they may contain secrets.
func endOf(pod *corev1.Pod, now time.Time) end {
	e := end{fades: pod.DeletionTimestamp != nil, created: pod.CreationTimestamp.Time}
	e.why = firstNonBlank(podReason(pod), restarts(pod, now))
	if e.why == "" {
		e.why = exitOf(pod)
	}
	if e.why == "" && pod.Status.Phase == corev1.PodPending {
		e.why = waitingReason(pod)
	}
	e.why = named(indexOf(pod), e.why)
	return e
}

// podReason returns the reason for which a pod ended as a whole. It is empty when its containers ended by themselves.
func podReason(pod *corev1.Pod) string {
	switch reason := pod.Status.Reason; reason {
	case "":
	case "Evicted":
		return joined(reason, evictionMessage(pod.Status.Message))
	case "DeadlineExceeded":
		return joined(reason, "the pod ran longer than `activeDeadlineSeconds` of its own spec")
	case "Preempting":
		return joined(reason, "the node needed the room for a critical pod")
	case "Terminated":
		return joined(reason, "its node was shut down")
	default:
		return reason
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
			return joined(c.Reason, disruptions[c.Reason])
		}
	}
	return ""
}

// disruptions explains the reasons of the condition DisruptionTarget.
var disruptions = map[string]string{
	corev1.PodReasonPreemptionByScheduler: "a pod of higher priority took its place",
	"DeletionByTaintManager":              "its node has a taint that it does not tolerate, for example because the node is lost",
	"EvictionByEvictionAPI":               "somebody evicted it, for example to drain its node",
	"DeletionByPodGC":                     "its node is gone",
}

// evictionMessage returns the first sentence of the kubelet's message about an eviction. It is empty when the message is none of those
// that are known to have only names and quantities of the template.
func evictionMessage(message string) string {
	ofContainer := strings.HasPrefix(message, "Container ") && strings.Contains(message, " exceeded its local ephemeral storage limit ")
	for _, known := range []string{"The node was low on resource: ", "The node had condition: ", "Pod ephemeral local storage usage exceeds ", "Usage of EmptyDir volume "} {
		if ofContainer || strings.HasPrefix(message, known) {
			sentence, _, _ := strings.Cut(message, ". ")
			return strings.TrimSuffix(sentence, ".")
		}
	}
	return ""
}

// exitOf returns the exit code of the container because of which a pod failed. It is empty when none failed by itself.
func exitOf(pod *corev1.Pod) string {
	var name string
	var first *corev1.ContainerStateTerminated
	var found bool
	for _, statuses := range byCause(pod) {
		for _, s := range statuses {
			if t := failureOf(pod, s); t != nil && (first == nil || t.FinishedAt.Before(&first.FinishedAt)) {
				name, first, found = s.Name, t, true
			}
		}
		if found {
			return fmt.Sprintf("container %s %s", name, exited(first))
		}
	}
	return ""
}

// byCause returns the states of a pod's containers, those first that are its purpose. A sidecar is stopped after the container that
// failed, and may then fail, too.
func byCause(pod *corev1.Pod) [][]corev1.ContainerStatus {
	var inits, sidecars []corev1.ContainerStatus
	for _, s := range pod.Status.InitContainerStatuses {
		if isSidecar(pod, s.Name) {
			sidecars = append(sidecars, s)
		} else {
			inits = append(inits, s)
		}
	}
	return [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, inits, sidecars}
}

// isSidecar says whether an init container is one that runs beside the others.
func isSidecar(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == name && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	})
}

// failureOf returns how a container failed by itself, nil when it did not. That it was stopped because its pod was deleted does not
// count; then the time before counts, if it has been restarted.
func failureOf(pod *corev1.Pod, s corev1.ContainerStatus) *corev1.ContainerStateTerminated {
	t := s.State.Terminated
	if t == nil || wasStopped(pod, t) {
		t = s.LastTerminationState.Terminated
	}
	if t == nil || t.ExitCode == 0 {
		return nil
	}
	return t
}

// wasStopped says whether a container ended because its pod was deleted. When all have ended, the kubelet deletes the pod once more,
// without a grace period, and that is the time of the deletion from then on. It was asked to stop at most the pod's own grace period
// before.
func wasStopped(pod *corev1.Pod, t *corev1.ContainerStateTerminated) bool {
	if pod.DeletionTimestamp == nil {
		return false
	}
	grace := ptr.Deref(pod.DeletionGracePeriodSeconds, 0)
	if grace == 0 && kubeletKnowsDeletion(pod) {
		grace = ptr.Deref(pod.Spec.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
	}
	asked := pod.DeletionTimestamp.Add(-time.Duration(grace) * time.Second)
	return !t.FinishedAt.Time.Before(asked)
}

// kubeletKnowsDeletion says whether the kubelet knew that a pod is being deleted when it reported how its containers have ended. The
// deletion of a pod that had failed before comes too late for that.
func kubeletKnowsDeletion(pod *corev1.Pod) bool {
	return pod.Generation > 0 && pod.Status.ObservedGeneration >= pod.Generation
}

// exited says how a container ended, with the kubelet's reason or the signal.
func exited(t *corev1.ContainerStateTerminated) string {
	text := fmt.Sprintf("exited with code %d", t.ExitCode)
	switch name := signals[t.ExitCode-128]; {
	case t.Reason != "" && t.Reason != "Error" && t.Reason != "Completed":
		return text + " (" + t.Reason + ")"
	case name != "":
		return text + " (" + name + ")"
	}
	return text
}

// signals are those by which containers are often ended. The exit code is then 128 and the signal.
var signals = map[int32]string{1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 15: "SIGTERM"}

// backOffReset is after which time the kubelet takes a container that runs for one that no longer fails.
const backOffReset = 10 * time.Minute

// restarts says that a container of a pod is restarted because it ends. It is the same while the container runs as between two of
// its runs, so that it costs a write for each restart at most. It is empty when no container is.
func restarts(pod *corev1.Pod, now time.Time) string {
	for _, s := range slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses) {
		w, t := s.State.Waiting, s.State.Terminated
		backsOff := w != nil && w.Reason == "CrashLoopBackOff"
		switch {
		case s.RestartCount == 0 && !backsOff, w != nil && !backsOff, // It waits for something else.
			t != nil && t.ExitCode == 0 && !isSidecar(pod, s.Name), // It is done.
			s.State.Running != nil && now.Sub(s.State.Running.StartedAt.Time) >= backOffReset:
			continue
		}
		if t == nil || wasStopped(pod, t) {
			if t != nil && t.FinishedAt.Sub(t.StartedAt.Time) >= backOffReset {
				continue
			}
			t = s.LastTerminationState.Terminated
		}
		if t != nil {
			return fmt.Sprintf("container %s: CrashLoopBackOff: %s%s", s.Name, exited(t), times(s.RestartCount))
		}
	}
	return ""
}

// times says how often a container was restarted, the less exactly the more often.
func times(restarts int32) string {
	switch {
	case restarts == 0:
		return ""
	case restarts == 1:
		return ", restarted once"
	case restarts <= 5:
		return fmt.Sprintf(", restarted %d times", restarts)
	}
	for _, n := range []int32{100, 50, 20, 10, 5} {
		if restarts > n {
			return fmt.Sprintf(", restarted more than %d times", n)
		}
	}
	return ""
}
