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
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: "Error", Message: "s3cr3t", FinishedAt: ago(10 * time.Second)}}
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
		"none": {},
		"running, but for those that are being deleted": {
			pods: []corev1.Pod{newPod(corev1.PodRunning), newPod(corev1.PodRunning), newPod(corev1.PodRunning, deleted)},
			want: Pods{Running: 2},
		},
		"ended well": {pods: []corev1.Pod{newPod(corev1.PodSucceeded)}},
		"pending for no reason yet": {
			pods: []corev1.Pod{newPod(corev1.PodPending, container("main", waits("ContainerCreating", "")))},
			want: Pods{Pending: 1},
		},
		"an image that does not exist": {
			pods: []corev1.Pod{newPod(corev1.PodPending, container("main", waits("ImagePullBackOff", `Back-off pulling image "x"`)))},
			want: Pods{Pending: 1, Waiting: `ImagePullBackOff: Back-off pulling image "x"`},
		},
		"an init container's reason goes before": {
			pods: []corev1.Pod{newPod(corev1.PodPending, container("main", waits("PodInitializing", "")), initContainer("init", waits("ErrImagePull", "")))},
			want: Pods{Pending: 1, Waiting: "ErrImagePull"},
		},
		"a message that may quote the command is left out": {
			pods: []corev1.Pod{newPod(corev1.PodPending, container("main", waits("RunContainerError", `exec: "s3cr3t": not found`)))},
			want: Pods{Pending: 1, Waiting: "RunContainerError"},
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
			want: Pods{Pending: 2, Waiting: "ErrImagePull"},
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
		"failed, by no container": {
			pods: []corev1.Pod{newPod(corev1.PodFailed, func(p *corev1.Pod) { p.Status.Reason, p.Status.Message = "Evicted", "s3cr3t" })},
			want: Pods{Exit: "Evicted"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, PodsOf(tc.pods)); diff != "" {
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
	cases := map[string]struct {
		pods     []corev1.Pod
		refusals []corev1.Event
		want     Pods
	}{
		"none": {},
		"without the pod's name, which differs each time": {
			refusals: []corev1.Event{event(5*time.Minute, 5*time.Minute, quota)},
			want:     Pods{Refused: "exceeded quota: tenantry, requested: pods=1", RefusedSince: now.Add(-5 * time.Minute)},
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
