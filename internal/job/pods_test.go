package job

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type podOption func(*corev1.Pod)

func newPod(phase corev1.PodPhase, options ...podOption) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: ago(time.Minute)}, Status: corev1.PodStatus{Phase: phase}}
	for _, o := range options {
		o(&p)
	}
	return p
}

func created(d time.Duration) podOption {
	return func(p *corev1.Pod) { p.CreationTimestamp = ago(d) }
}

func container(name string, state corev1.ContainerState) podOption {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: name, State: state})
	}
}

func initContainer(name string, state corev1.ContainerState) podOption {
	return func(p *corev1.Pod) {
		p.Status.InitContainerStatuses = append(p.Status.InitContainerStatuses, corev1.ContainerStatus{Name: name, State: state})
	}
}

func waits(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func ends(code int32) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: "Error", Message: "s3cr3t", StartedAt: ago(30 * time.Second), FinishedAt: ago(10 * time.Second)}}
}

func endsBy(reason string, code int32) corev1.ContainerState {
	state := ends(code)
	state.Terminated.Reason = reason
	return state
}

// stopped is the state of a container that ended when its pod was deleted.
func stopped(code int32) corev1.ContainerState {
	state := ends(code)
	state.Terminated.FinishedAt = ago(0)
	return state
}

// endedAgo is the state of a container that ended some time ago.
func endedAgo(code int32, d time.Duration) corev1.ContainerState {
	state := ends(code)
	state.Terminated.FinishedAt = ago(d)
	return state
}

// deletedOnceMore is a pod that is gone in a moment, of which the kubelet has last reported a generation. The second one is that of its
// deletion. Its grace period is 30 s.
func deletedOnceMore(reported int64) podOption {
	return func(p *corev1.Pod) {
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = agoPtr(5*time.Second), new(int64(0))
		p.Generation, p.Status.ObservedGeneration = 2, reported
	}
}

func earlier(state corev1.ContainerState) corev1.ContainerState {
	state.Terminated.FinishedAt = ago(20 * time.Second)
	return state
}

func runningFor(d time.Duration) corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: ago(d)}}
}

// restarted is a container that was restarted and exited with a code before.
func restarted(name string, times, code int32, state corev1.ContainerState) podOption {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: name, State: state, RestartCount: times, LastTerminationState: ends(code),
		})
	}
}

func initRestarted(name string, times, code int32, state corev1.ContainerState) podOption {
	return func(p *corev1.Pod) {
		restarted(name, times, code, state)(p)
		p.Status.InitContainerStatuses, p.Status.ContainerStatuses = p.Status.ContainerStatuses, nil
	}
}

func sidecar(name string) podOption {
	return func(p *corev1.Pod) {
		p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: name, RestartPolicy: new(corev1.ContainerRestartPolicyAlways)})
	}
}

func index(n string) podOption {
	return func(p *corev1.Pod) { p.Annotations = map[string]string{batchv1.JobCompletionIndexAnnotation: n} }
}

func podEnded(reason, message string) podOption {
	return func(p *corev1.Pod) { p.Status.Reason, p.Status.Message = reason, message }
}

func disrupted(reason string) podOption {
	return func(p *corev1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, Message: "s3cr3t"})
	}
}

func TestPodsOf(t *testing.T) {
	deleted := func(p *corev1.Pod) { p.DeletionTimestamp = agoPtr(time.Second) }
	scheduled := func(status corev1.ConditionStatus, reason, message string) podOption {
		return func(p *corev1.Pod) {
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodScheduled, Status: status, Reason: reason, Message: message})
		}
	}
	cases := map[string]struct {
		pods []corev1.Pod
		want Pods
	}{
		"none": {want: Pods{None: true}},
		"running, but for those that are being deleted": {
			pods: []corev1.Pod{newPod(corev1.PodRunning), newPod(corev1.PodRunning), newPod(corev1.PodRunning, deleted)},
			want: Pods{Running: 2, Stopping: 1},
		},
		"ended well": {pods: []corev1.Pod{newPod(corev1.PodSucceeded)}},
		"pending for no reason yet": {
			pods: []corev1.Pod{newPod(corev1.PodPending, container("main", waits("ContainerCreating", "")))},
			want: Pods{Pending: 1},
		},
		"an image that does not exist": {
			pods: []corev1.Pod{newPod(corev1.PodPending, container("main", waits("ImagePullBackOff", `Back-off pulling image "x"`)))},
			want: Pods{Pending: 1, Waiting: `container main: ImagePullBackOff: Back-off pulling image "x"`},
		},
		"an init container's reason goes before": {
			pods: []corev1.Pod{newPod(corev1.PodPending, container("main", waits("PodInitializing", "")), initContainer("init", waits("ErrImagePull", "")))},
			want: Pods{Pending: 1, Waiting: "container init: ImagePullBackOff"},
		},
		"a message that may quote the command is left out": {
			pods: []corev1.Pod{newPod(corev1.PodPending, container("main", waits("RunContainerError", `exec: "s3cr3t": not found`)))},
			want: Pods{Pending: 1, Waiting: "container main: RunContainerError"},
		},
		"a node is not found": {
			pods: []corev1.Pod{newPod(corev1.PodPending, scheduled(corev1.ConditionFalse, "Unschedulable", "0/1 nodes are available"))},
			want: Pods{Pending: 1, Waiting: "Unschedulable: 0/1 nodes are available"},
		},
		"a node is found": {
			pods: []corev1.Pod{newPod(corev1.PodPending, scheduled(corev1.ConditionTrue, "", ""))},
			want: Pods{Pending: 1},
		},
		"a reason is kept beside a pod without one": {
			pods: []corev1.Pod{newPod(corev1.PodPending, container("main", waits("ErrImagePull", ""))), newPod(corev1.PodPending)},
			want: Pods{Pending: 2, Waiting: "container main: ImagePullBackOff"},
		},
		"failed, with its exit code and without its messages": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, container("main", ends(3)))},
			want: Pods{Exit: "container main exited with code 3"},
		},
		"failed, the newest counts": {
			pods: []corev1.Pod{
				newPod(corev1.PodFailed, created(2*time.Minute), container("main", ends(1))),
				newPod(corev1.PodFailed, created(time.Minute), container("main", ends(2))),
				newPod(corev1.PodFailed, created(3*time.Minute), container("main", ends(3))),
			},
			want: Pods{Exit: "container main exited with code 2"},
		},
		"failed, not the sidecar that was stopped for it": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, initContainer("sidecar", ends(143)), container("helper", ends(0)), container("main", ends(1)))},
			want: Pods{Exit: "container main exited with code 1"},
		},
		"failed, an init container": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, initContainer("init", ends(4)), container("main", waits("PodInitializing", "")))},
			want: Pods{Exit: "container init exited with code 4"},
		},
		"CreateContainerConfigError says what is missing": {
			pods: []corev1.Pod{newPod(corev1.PodPending, container("main", waits("CreateContainerConfigError", `secret "db" not found`)))},
			want: Pods{Pending: 1, Waiting: `container main: CreateContainerConfigError: secret "db" not found`},
		},
		"the attempt to pull an image": {
			pods: []corev1.Pod{newPod(corev1.PodPending, container("main", waits("ErrImagePull", "x: not found")))},
			want: Pods{Pending: 1, Waiting: "container main: ImagePullBackOff: x: not found"},
		},
		"the time between two attempts reads the same": {
			pods: []corev1.Pod{newPod(corev1.PodPending, container("main", waits("ImagePullBackOff", `Back-off pulling image "x": ErrImagePull: x: not found`)))},
			want: Pods{Pending: 1, Waiting: "container main: ImagePullBackOff: x: not found"},
		},
		"the scheduler, without what it says of preemption": {
			pods: []corev1.Pod{newPod(corev1.PodPending, scheduled(corev1.ConditionFalse, "Unschedulable",
				"0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."))},
			want: Pods{Pending: 1, Waiting: "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu."},
		},
		"restarted in place, while it waits": {
			pods: []corev1.Pod{newPod(corev1.PodRunning, restarted("main", 3, 1, waits("CrashLoopBackOff", "back-off 10s restarting failed container=main pod=x-7fw2p_y(z)")))},
			want: Pods{Running: 1, Restarting: "container main: CrashLoopBackOff: exited with code 1, restarted 3 times"},
		},
		"restarted in place, while it runs, reads the same": {
			pods: []corev1.Pod{newPod(corev1.PodRunning, restarted("main", 3, 1, runningFor(time.Minute)))},
			want: Pods{Running: 1, Restarting: "container main: CrashLoopBackOff: exited with code 1, restarted 3 times"},
		},
		"restarted in place, and just ended again": {
			pods: []corev1.Pod{newPod(corev1.PodRunning, restarted("main", 1, 1, ends(2)))},
			want: Pods{Running: 1, Restarting: "container main: CrashLoopBackOff: exited with code 2, restarted once"},
		},
		"restarted often": {
			pods: []corev1.Pod{newPod(corev1.PodRunning, restarted("main", 33, 137, runningFor(time.Minute)))},
			want: Pods{Running: 1, Restarting: "container main: CrashLoopBackOff: exited with code 137 (SIGKILL), restarted more than 20 times"},
		},
		"restarted, and it has run well for long": {
			pods: []corev1.Pod{newPod(corev1.PodRunning, restarted("main", 3, 1, runningFor(time.Hour)))},
			want: Pods{Running: 1},
		},
		"restarted, and it is done": {
			pods: []corev1.Pod{newPod(corev1.PodRunning, restarted("first", 2, 1, ends(0)), container("second", runningFor(time.Minute)))},
			want: Pods{Running: 1},
		},
		"a sidecar that is restarted keeps the pod from running": {
			pods: []corev1.Pod{newPod(corev1.PodPending, sidecar("proxy"), initRestarted("proxy", 2, 2, waits("CrashLoopBackOff", "")), container("main", waits("PodInitializing", "")))},
			want: Pods{Pending: 1, Waiting: "container proxy: CrashLoopBackOff: exited with code 2, restarted 2 times"},
		},
		"an index that waits": {
			pods: []corev1.Pod{
				newPod(corev1.PodPending, index("10"), container("main", waits("ImagePullBackOff", "x"))),
				newPod(corev1.PodPending, index("2"), container("main", waits("ImagePullBackOff", "y"))),
			},
			want: Pods{Pending: 2, Waiting: "index 2: container main: ImagePullBackOff: y"},
		},
		"an index that failed": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, index("2"), container("main", ends(1)))},
			want: Pods{Exit: "index 2: container main exited with code 1"},
		},
		"OOMKilled": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, container("main", endsBy("OOMKilled", 137)))},
			want: Pods{Exit: "container main exited with code 137 (OOMKilled)"},
		},
		"StartError, without the command that it quotes": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, container("main", endsBy("StartError", 128)))},
			want: Pods{Exit: "container main exited with code 128 (StartError)"},
		},
		"ContainerCannotRun": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, container("main", endsBy("ContainerCannotRun", 127)))},
			want: Pods{Exit: "container main exited with code 127 (ContainerCannotRun)"},
		},
		"a signal": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, container("main", ends(139)))},
			want: Pods{Exit: "container main exited with code 139 (SIGSEGV)"},
		},
		"the pod's own deadline, and not what the kubelet did for it": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, podEnded("DeadlineExceeded", "Pod was active on the node longer than the specified deadline"), container("main", ends(137)))},
			want: Pods{Exit: "DeadlineExceeded: the pod ran longer than `activeDeadlineSeconds` of its own spec"},
		},
		"evicted by its node": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, container("main", ends(137)),
				podEnded("Evicted", "The node was low on resource: memory. Threshold quantity: 100Mi, available: 10Mi. Container main was using 90Mi, request is 16Mi, has larger consumption of memory."))},
			want: Pods{Exit: "Evicted: The node was low on resource: memory"},
		},
		"evicted for its own disk": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, podEnded("Evicted", `Container main exceeded its local ephemeral storage limit "1Mi". `))},
			want: Pods{Exit: `Evicted: Container main exceeded its local ephemeral storage limit "1Mi"`},
		},
		"its node was shut down": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, podEnded("Terminated", "Pod was terminated in response to imminent node shutdown."))},
			want: Pods{Exit: "Terminated: its node was shut down"},
		},
		"another reason of the kubelet's": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, podEnded("UnexpectedAdmissionError", "s3cr3t"))},
			want: Pods{Exit: "UnexpectedAdmissionError"},
		},
		"preempted": {
			pods: []corev1.Pod{newPod(corev1.PodRunning, deleted, disrupted("PreemptionByScheduler"))},
			want: Pods{Stopping: 1, ExitFades: true, Exit: "PreemptionByScheduler: a pod of higher priority took its place"},
		},
		"its node is lost": {
			pods: []corev1.Pod{newPod(corev1.PodRunning, deleted, disrupted("DeletionByTaintManager"))},
			want: Pods{Stopping: 1, ExitFades: true, Exit: "DeletionByTaintManager: its node has a taint that it does not tolerate, for example because the node is lost"},
		},
		"evicted by a person, and ended": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, deleted, disrupted("EvictionByEvictionAPI"), container("main", stopped(143)))},
			want: Pods{ExitFades: true, Exit: "EvictionByEvictionAPI: somebody evicted it, for example to drain its node"},
		},
		"stopped because it was deleted, which is nothing of its own": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, deleted, container("main", stopped(143)))},
			want: Pods{},
		},
		"stopped because the Job has failed, for what it did before": {
			pods: []corev1.Pod{newPod(corev1.PodRunning, deleted, restarted("main", 3, 1, stopped(143)))},
			want: Pods{Stopping: 1, ExitFades: true, Exit: "container main: CrashLoopBackOff: exited with code 1, restarted 3 times"},
		},
		"stopped because it was deleted, and deleted once more by the kubelet": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, deletedOnceMore(2), container("main", ends(143)))},
			want: Pods{},
		},
		"stopped because it was evicted, and deleted once more by the kubelet": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, deletedOnceMore(2), disrupted("EvictionByEvictionAPI"), container("main", ends(143)))},
			want: Pods{ExitFades: true, Exit: "EvictionByEvictionAPI: somebody evicted it, for example to drain its node"},
		},
		"failed long before it was deleted, and deleted once more by the kubelet": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, deletedOnceMore(2), container("main", endedAgo(1, 40*time.Second)), container("other", ends(143)))},
			want: Pods{ExitFades: true, Exit: "container main exited with code 1"},
		},
		"failed, and deleted before the kubelet knew": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, deletedOnceMore(1), container("main", ends(1)))},
			want: Pods{ExitFades: true, Exit: "container main exited with code 1"},
		},
		"failed, and deleted afterwards": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, deleted, container("main", ends(1)))},
			want: Pods{ExitFades: true, Exit: "container main exited with code 1"},
		},
		"failed, and not the newer pod that was deleted for it": {
			pods: []corev1.Pod{
				newPod(corev1.PodFailed, created(2*time.Minute), container("main", ends(1))),
				newPod(corev1.PodFailed, created(time.Minute), deleted, container("main", ends(143))),
			},
			want: Pods{Exit: "container main exited with code 1"},
		},
		"an image that does not exist, of a pod that is deleted for the deadline": {
			pods: []corev1.Pod{newPod(corev1.PodPending, deleted, container("main", waits("ErrImagePull", "x: not found")))},
			want: Pods{Stopping: 1, ExitFades: true, Exit: "container main: ImagePullBackOff: x: not found"},
		},
		"failed, the first of two containers": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, container("main", ends(143)), container("other", earlier(ends(2))))},
			want: Pods{Exit: "container other exited with code 2"},
		},
		"failed, an init container and not the sidecar before it": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, sidecar("proxy"), initContainer("proxy", earlier(ends(143))), initContainer("migrate", ends(4)))},
			want: Pods{Exit: "container migrate exited with code 4"},
		},
		"failed, by no container": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, func(p *corev1.Pod) { p.Status.Reason, p.Status.Message = "Evicted", "s3cr3t" })},
			want: Pods{Exit: "Evicted"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, PodsOf(tc.pods, now)); diff != "" {
				t.Errorf("PodsOf (-want, +got):\n%s", diff)
			}
		})
	}
}

func TestAddRefusals(t *testing.T) {
	event := func(first, last time.Duration, message string) corev1.Event {
		return corev1.Event{FirstTimestamp: ago(first), LastTimestamp: ago(last), Message: message}
	}
	const quota = `Error creating: pods "report-8231-x7x9c" is forbidden: exceeded quota: tenantry, requested: pods=1`
	ofJob := func(e corev1.Event) corev1.Event {
		e.InvolvedObject.Name = "report-8231"
		return e
	}
	cases := map[string]struct {
		pods     []corev1.Pod
		refusals []corev1.Event
		want     Pods
	}{
		"none": {},
		"without the pod's name, which differs each time": {
			refusals: []corev1.Event{event(5*time.Minute, 5*time.Minute, quota)},
			want: Pods{
				Refused:      "exceeded quota: tenantry, requested: pods=1; raise `spec.quota.hard` of the Tenant, or lower what the template requests",
				RefusedSince: now.Add(-5 * time.Minute),
			},
		},
		"a pod that is invalid, for which limits and requests are at fault": {
			refusals: []corev1.Event{ofJob(event(5*time.Minute, 5*time.Minute,
				`Error creating: Pod "report-8231-x7x9c" is invalid: spec.containers[0].resources.requests: Invalid value: "64Mi": must be less than or equal to memory limit of 32Mi`))},
			want: Pods{
				Refused:      "spec.containers[0].resources.requests: Invalid value: \"64Mi\": must be less than or equal to memory limit of 32Mi; " + limitsDiffer,
				RefusedSince: now.Add(-5 * time.Minute),
			},
		},
		"a container without a limit": {
			refusals: []corev1.Event{ofJob(event(5*time.Minute, 5*time.Minute,
				`Error creating: pods "report-8231-x7x9c" is forbidden: failed quota: tenant-quota: must specify limits.cpu for: main`))},
			want: Pods{
				Refused:      "failed quota: tenant-quota: must specify limits.cpu for: main; set that in `resources` of the template, or in `spec.quota.containerDefaults` of the Tenant",
				RefusedSince: now.Add(-5 * time.Minute),
			},
		},
		"without the pod's name, wherever it is": {
			refusals: []corev1.Event{ofJob(event(5*time.Minute, 5*time.Minute, `Error creating: webhook denied report-8231-2-x7x9c, not report-8231 nor my-report-8231`))},
			want:     Pods{Refused: "webhook denied the pod, not report-8231 nor my-report-8231", RefusedSince: now.Add(-5 * time.Minute)},
		},
		"a message of another form": {
			refusals: []corev1.Event{event(5*time.Minute, 5*time.Minute, "Error creating: Internal error occurred")},
			want:     Pods{Refused: "Internal error occurred", RefusedSince: now.Add(-5 * time.Minute)},
		},
		"since the first, with the message of the last, in any order": {
			refusals: []corev1.Event{
				event(4*time.Minute, 4*time.Minute, "second"), event(time.Minute, time.Minute, "last"), event(5*time.Minute, 5*time.Minute, "first"),
			},
			want: Pods{Refused: "last", RefusedSince: now.Add(-5 * time.Minute)},
		},
		"those before the newest pod have passed": {
			pods:     []corev1.Pod{newPod(corev1.PodRunning, created(2*time.Minute)), newPod(corev1.PodFailed, created(10*time.Minute))},
			refusals: []corev1.Event{event(5*time.Minute, 3*time.Minute, quota)},
		},
		"one that is repeated after the newest pod counts from there": {
			pods:     []corev1.Pod{newPod(corev1.PodFailed, created(2*time.Minute))},
			refusals: []corev1.Event{event(5*time.Minute, time.Minute, "again")},
			want:     Pods{Refused: "again", RefusedSince: now.Add(-2 * time.Minute)},
		},
		"one that is repeated counts from the end of the newest pod": {
			pods:     []corev1.Pod{newPod(corev1.PodFailed, created(2*time.Minute), container("main", ends(1)))},
			refusals: []corev1.Event{event(5*time.Minute, time.Second, "again")},
			want:     Pods{Refused: "again", RefusedSince: now.Add(-10 * time.Second)},
		},
		"an event of the newer kind": {
			refusals: []corev1.Event{{
				EventTime: metav1.NewMicroTime(now.Add(-3 * time.Minute)), Message: "x",
				Series: &corev1.EventSeries{LastObservedTime: metav1.NewMicroTime(now.Add(-time.Minute))},
			}},
			want: Pods{Refused: "x", RefusedSince: now.Add(-3 * time.Minute)},
		},
		"an event that happened once": {
			refusals: []corev1.Event{{EventTime: metav1.NewMicroTime(now.Add(-3 * time.Minute)), Message: "x"}},
			want:     Pods{Refused: "x", RefusedSince: now.Add(-3 * time.Minute)},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var got Pods
			got.AddRefusals(tc.pods, tc.refusals)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("AddRefusals (-want, +got):\n%s", diff)
			}
		})
	}
}

func TestIsLive(t *testing.T) {
	cases := map[string]struct {
		change func(*batchv1.Job)
		want   bool
	}{
		"just created":                   {func(j *batchv1.Job) { j.Status = batchv1.JobStatus{} }, true},
		"running":                        {func(*batchv1.Job) {}, true},
		"being deleted":                  {func(j *batchv1.Job) { j.DeletionTimestamp = agoPtr(0) }, true},
		"about to fail":                  {func(j *batchv1.Job) { final(j, batchv1.JobFailureTarget, "", "") }, true},
		"complete":                       {func(j *batchv1.Job) { final(j, batchv1.JobComplete, "", "") }, false},
		"failed":                         {func(j *batchv1.Job) { final(j, batchv1.JobFailed, "", "") }, false},
		"failed, a pod still terminates": {func(j *batchv1.Job) { final(j, batchv1.JobFailed, "", ""); j.Status.Terminating = new(int32(1)) }, true},
		"complete, none terminates":      {func(j *batchv1.Job) { final(j, batchv1.JobComplete, "", ""); j.Status.Terminating = new(int32(0)) }, false},
		"complete is not true": {func(j *batchv1.Job) {
			j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionFalse}}
		}, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			j := newJob()
			tc.change(j)
			type both struct{ Live, Ended bool }
			want := both{tc.want, finalCondition(j) != nil}
			if diff := cmp.Diff(want, both{IsLive(j), Ended(j)}); diff != "" {
				t.Errorf("IsLive, Ended (-want, +got):\n%s", diff)
			}
		})
	}
}

func TestCompletionTime(t *testing.T) {
	done := newJob()
	final(done, batchv1.JobComplete, "", "")
	done.Status.CompletionTime = agoPtr(2 * time.Second)
	failed := newJob()
	final(failed, batchv1.JobFailed, "", "")
	cases := map[string]struct {
		job  *batchv1.Job
		want metav1.Time
	}{
		"no Job":       {nil, ago(0)},
		"a Job's own":  {done, ago(2 * time.Second)},
		"a failed one": {failed, ago(time.Second)},
		"Job not over": {newJob(), ago(0)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(&tc.want, CompletionTime(tc.job, now)); diff != "" {
				t.Errorf("CompletionTime (-want, +got):\n%s", diff)
			}
		})
	}
}
