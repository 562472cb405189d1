package job

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// PodsOf returns what a Job's pods say. It leaves out what only events say, see AddRefusals and AddPreparation.
func PodsOf(pods []corev1.Pod, now time.Time) Pods {
	found := Pods{None: len(pods) == 0}
	var exit end
	for _, pod := range inOrder(pods) {
		of := indexOf(pod)
		switch {
		case pod.Status.Phase == corev1.PodFailed:
			exit = later(exit, endOf(pod, now))
		case pod.Status.Phase == corev1.PodSucceeded:
		case pod.DeletionTimestamp != nil:
			found.Stopping++
			exit = later(exit, endOf(pod, now))
		case pod.Status.Phase == corev1.PodRunning:
			found.Running++
			found.Restarting = firstNonBlank(found.Restarting, named(of, restarts(pod, now)))
		case pod.Status.Phase == corev1.PodPending:
			found.Pending++
			found.Waiting = firstNonBlank(found.Waiting, named(of, firstNonBlank(restarts(pod, now), waitingReason(pod))))
		}
	}
	found.Exit, found.ExitFades = exit.why, exit.fades
	return found
}

// inOrder returns pods in an order that stays the same while others come and go: by their index, then by their age. The API server
// lists them by their names, which are random.
func inOrder(pods []corev1.Pod) []*corev1.Pod {
	ordered := make([]*corev1.Pod, 0, len(pods))
	for i := range pods {
		ordered = append(ordered, &pods[i])
	}
	slices.SortStableFunc(ordered, func(a, b *corev1.Pod) int {
		return cmp.Or(cmp.Compare(indexNumber(a), indexNumber(b)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	return ordered
}

// indexOf names the index of an Indexed Job that a pod works on. It is empty for a pod of another Job.
func indexOf(pod *corev1.Pod) string {
	if index, indexed := pod.Annotations[batchv1.JobCompletionIndexAnnotation]; indexed {
		return "index " + index
	}
	return ""
}

func indexNumber(pod *corev1.Pod) int {
	n, _ := strconv.Atoi(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	return n
}

// named puts a name before what is said of something, unless nothing is said.
func named(name, text string) string {
	if name == "" || text == "" {
		return text
	}
	return name + ": " + text
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
			p.Refused, latest = refusal(events[i].InvolvedObject.Name, events[i].Message), last
		}
	}
}

// ReasonPodCreated is the reason of the Job controller's event about a pod that it has created for a Job.
const ReasonPodCreated = "SuccessfulCreate"

// HadPod says whether a Job of a TenantJob has had a pod, by the Job controller's events about Jobs of its name. Those from before the
// TenantJob was created are about an earlier one's Job.
func HadPod(tj *v1alpha1.TenantJob, events []corev1.Event) bool {
	return slices.ContainsFunc(events, func(e corev1.Event) bool {
		return e.Reason == ReasonPodCreated && e.InvolvedObject.Kind == "Job" && e.InvolvedObject.Name == tj.Name &&
			!e.CreationTimestamp.Time.Before(tj.CreationTimestamp.Time)
	})
}

// refusal returns the message of a FailedCreate event about a Job, and who has to change what. It leaves out the name of the pod,
// which differs with each attempt.
func refusal(job, message string) string {
	why := strings.TrimPrefix(message, "Error creating: ")
	for _, verb := range []string{" is forbidden: ", " is invalid: "} {
		if _, rest, found := strings.Cut(why, verb); found {
			why = rest
			break
		}
	}
	if job != "" {
		why = podName(job).ReplaceAllString(why, "the pod")
	}
	for _, a := range advice {
		if strings.Contains(why, a.refusal) {
			return why + "; " + a.change
		}
	}
	return why
}

// podName matches the names of a Job's pods: that of the Job, cut to 58 characters with its dash and the index if there is one, and
// five random characters.
func podName(job string) *regexp.Regexp {
	base := regexp.QuoteMeta(job) + "-[0-9]*-?"
	if len(job) >= 58 {
		base = regexp.QuoteMeta(job[:58])
	}
	return regexp.MustCompile(`"?\b` + base + `[bcdfghjklmnpqrstvwxz2456789]{5}\b"?`)
}

// advice says for a refusal, known by a part of its message, who has to change what. The first one that fits counts.
var advice = []struct{ refusal, change string }{
	{"exceeded quota: ", "raise `spec.quota.hard` of the Tenant, or lower what the template requests"},
	{"must specify ", "set that in `resources` of the template, or in `spec.quota.containerDefaults` of the Tenant"},
	{"must be less than or equal to ", limitsDiffer},
	{" usage per ", limitsDiffer},
	{"violates PodSecurity", "change the template's securityContext, or `spec.isolation.podSecurity` of the Tenant"},
}

const limitsDiffer = "`resources` of the template and `spec.quota.containerDefaults` of the Tenant do not fit together: change one of them"

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
			return named("container "+s.Name, imageReason(w))
		default:
			return named("container "+s.Name, w.Reason)
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			// What the scheduler says about preemption after that changes often, and seldom helps.
			message, _, _ := strings.Cut(c.Message, "preemption: ")
			return joined(c.Reason, strings.TrimRight(strings.TrimSuffix(message, "no new claims to deallocate, "), " ,"))
		}
	}
	return ""
}

// imageReason returns why a container waits whose message may be shown. The kubelet says ErrImagePull after each attempt and
// ImagePullBackOff, with the same error, between two of them. Both become the same text, so that it costs one write.
func imageReason(w *corev1.ContainerStateWaiting) string {
	switch _, err, found := strings.Cut(w.Message, ": ErrImagePull: "); {
	case w.Reason == "ErrImagePull":
		return joined("ImagePullBackOff", w.Message)
	case w.Reason == "ImagePullBackOff" && found:
		return joined(w.Reason, err)
	}
	return joined(w.Reason, w.Message)
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
