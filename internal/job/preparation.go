package job

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Unprepared returns a pod that is bound to a node and whose volumes or network are not ready. Its status does not say why, only the
// kubelet's events about it do. It is nil when there is none, and while that is young, since most are ready soon.
func Unprepared(pods []corev1.Pod, now time.Time) *corev1.Pod {
	for _, pod := range inOrder(pods) {
		if pod.Status.Phase == corev1.PodPending && pod.DeletionTimestamp == nil && pod.Spec.NodeName != "" &&
			now.Sub(pod.CreationTimestamp.Time) >= PollInterval && !isPrepared(pod) {
			return pod
		}
	}
	return nil
}

func isPrepared(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReadyToStartContainers && c.Status == corev1.ConditionTrue
	})
}

// AddPreparation adds why a pod is not prepared, if no pod says why it waits. The events are those about it. The last one counts, of
// those that name an object that is missing if there are such.
func (p *Pods) AddPreparation(pod *corev1.Pod, events []corev1.Event) {
	var of []preparation
	for i := range events {
		if slices.Contains(preparations, events[i].Reason) {
			of = append(of, preparationOf(&events[i]))
		}
	}
	if p.Waiting == "" && len(of) > 0 {
		p.Waiting = named(indexOf(pod), slices.MaxFunc(of, preparation.compare).text)
	}
}

// preparations are the reasons of the events about the volumes and the network of a pod.
var preparations = []string{"FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox"}

// preparation is what an event says about a pod that is not prepared.
type preparation struct {
	text string
	// names means that the text names an object that is missing.
	names bool
	last  time.Time
}

var (
	volumeInMessage  = regexp.MustCompile(`for volume "([^"]*)"`)
	missingInMessage = regexp.MustCompile(`(?:secret|configmap) "[^"]*" not found|references non-existent (?:secret|config) key: [^\s,\]]+`)
)

// preparationOf reads an event. Of its message it takes only the name of the volume and of a Secret or ConfigMap, or of a key in one,
// that is missing: the rest may quote the options of a volume, and with them a secret.
func preparationOf(e *corev1.Event) preparation {
	missing := missingInMessage.FindString(e.Message)
	_, last := eventTimes(e)
	of := preparation{text: joined(e.Reason, missing), names: missing != "", last: last}
	if volume := volumeInMessage.FindStringSubmatch(e.Message); volume != nil {
		of.text = named("volume "+volume[1], of.text)
	}
	return of
}

// compare says which of two counts more. The text decides between those of the same second.
func (p preparation) compare(other preparation) int {
	if p.names != other.names {
		if p.names {
			return 1
		}
		return -1
	}
	return cmp.Or(p.last.Compare(other.last), strings.Compare(p.text, other.text))
}
