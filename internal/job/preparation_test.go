package job

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func bound(p *corev1.Pod) { p.Spec.NodeName = "node-1" }

func prepared(status corev1.ConditionStatus) podOption {
	return func(p *corev1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: status})
	}
}

func TestUnprepared(t *testing.T) {
	deleted := func(p *corev1.Pod) { p.DeletionTimestamp = agoPtr(time.Second) }
	cases := map[string]struct {
		pod  corev1.Pod
		want bool
	}{
		"its volumes are not ready":             {newPod(corev1.PodPending, bound, prepared(corev1.ConditionFalse)), true},
		"the kubelet has said nothing about it": {newPod(corev1.PodPending, bound), true},
		"its volumes are ready":                 {newPod(corev1.PodPending, bound, prepared(corev1.ConditionTrue)), false},
		"no node has room":                      {newPod(corev1.PodPending), false},
		"it is young":                           {newPod(corev1.PodPending, bound, created(PollInterval-time.Second)), false},
		"it is not young any more":              {newPod(corev1.PodPending, bound, created(PollInterval)), true},
		"it is being deleted":                   {newPod(corev1.PodPending, bound, deleted), false},
		"it runs":                               {newPod(corev1.PodRunning, bound, prepared(corev1.ConditionFalse)), false},
		"it has ended":                          {newPod(corev1.PodFailed, bound, prepared(corev1.ConditionFalse)), false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			// The first of two in their order counts.
			pods := []corev1.Pod{newPod(corev1.PodPending, bound, created(PollInterval), index("9")), tc.pod}
			pods[1].Name = "x"
			if got := Unprepared(pods, now); (got != nil && got.Name == "x") != tc.want {
				t.Errorf("got %+v, want it: %t", got, tc.want)
			}
		})
	}
	if got := Unprepared(nil, now); got != nil {
		t.Errorf("got %+v of no pods", got)
	}
}

func TestAddPreparation(t *testing.T) {
	event := func(last time.Duration, reason, message string) corev1.Event {
		return corev1.Event{LastTimestamp: ago(last), Reason: reason, Message: message}
	}
	const absent = `MountVolume.SetUp failed for volume "db" : secret "db-password" not found`
	cases := map[string]struct {
		given  Pods
		pod    corev1.Pod
		events []corev1.Event
		want   string
	}{
		"none":                            {},
		"a Secret is missing":             {events: []corev1.Event{event(0, "FailedMount", absent)}, want: `volume db: FailedMount: secret "db-password" not found`},
		"a ConfigMap is missing":          {events: []corev1.Event{event(0, "FailedMount", `MountVolume.SetUp failed for volume "config" : configmap "app" not found`)}, want: `volume config: FailedMount: configmap "app" not found`},
		"a key of a Secret is missing":    {events: []corev1.Event{event(0, "FailedMount", `MountVolume.SetUp failed for volume "db" : references non-existent secret key: tls.crt`)}, want: "volume db: FailedMount: references non-existent secret key: tls.crt"},
		"one of a projected volume":       {events: []corev1.Event{event(0, "FailedMount", `MountVolume.SetUp failed for volume "all" : [secret "a" not found, configmap "b" not found]`)}, want: `volume all: FailedMount: secret "a" not found`},
		"the options of a volume":         {events: []corev1.Event{event(0, "FailedMount", `MountVolume.MountDevice failed for volume "share" : mount failed: -o username=acme,password=s3cr3t`)}, want: "volume share: FailedMount"},
		"a volume that can't be attached": {events: []corev1.Event{event(0, "FailedAttachVolume", `AttachVolume.Attach failed for volume "pv-1" : s3cr3t`)}, want: "volume pv-1: FailedAttachVolume"},
		"no network":                      {events: []corev1.Event{event(0, "FailedCreatePodSandBox", "Failed to create pod sandbox: s3cr3t")}, want: "FailedCreatePodSandBox"},
		"another event":                   {events: []corev1.Event{event(0, "BackOff", absent)}},
		"the last one counts": {
			events: []corev1.Event{event(2*time.Second, "FailedMount", absent), event(time.Second, "FailedMount", `for volume "a" : secret "a" not found`), event(3*time.Second, "FailedMount", `for volume "b" : secret "b" not found`)},
			want:   `volume a: FailedMount: secret "a" not found`,
		},
		"of two at the same time it is always the same one": {
			events: []corev1.Event{event(0, "FailedMount", `for volume "a" : secret "a" not found`), event(0, "FailedMount", `for volume "b" : secret "b" not found`)},
			want:   `volume b: FailedMount: secret "b" not found`,
		},
		"one that names what is missing counts more than a later one": {
			events: []corev1.Event{event(time.Minute, "FailedMount", absent), event(0, "FailedMount", "Unable to attach or mount volumes: unmounted volumes=[db]: context deadline exceeded")},
			want:   `volume db: FailedMount: secret "db-password" not found`,
		},
		"the pod of an index":  {pod: newPod(corev1.PodPending, index("2")), events: []corev1.Event{event(0, "FailedMount", absent)}, want: `index 2: volume db: FailedMount: secret "db-password" not found`},
		"another pod says why": {given: Pods{Waiting: "Unschedulable"}, events: []corev1.Event{event(0, "FailedMount", absent)}, want: "Unschedulable"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := tc.given
			got.AddPreparation(&tc.pod, tc.events)
			if diff := cmp.Diff(Pods{Waiting: tc.want}, got); diff != "" {
				t.Errorf("AddPreparation (-want, +got):\n%s", diff)
			}
		})
	}
}
