package operatortest

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Annotations of a pod that tell the node what to do with it, by a pod template or later.
const (
	// AnnotationPending keeps a pod from running.
	AnnotationPending = "test.example.com/pending"
	// AnnotationLingers keeps a pod that is being deleted until it is taken off.
	AnnotationLingers = "test.example.com/lingers"
)

// runNode binds, runs and takes away pods as a scheduler and a kubelet would. Tests end them, with endPod.
func runNode(ctx context.Context) {
	for ctx.Err() == nil {
		pods, err := Admin.Watch(ctx, &corev1.PodList{})
		if err != nil {
			continue
		}
		for event := range pods.ResultChan() {
			if pod, ok := event.Object.(*corev1.Pod); ok && event.Type != watch.Deleted {
				// Whatever fails comes again, or the pod is gone.
				_ = runPod(ctx, pod)
			}
		}
	}
}

func runPod(ctx context.Context, pod *corev1.Pod) error {
	switch {
	case pod.DeletionTimestamp != nil && pod.Annotations[AnnotationLingers] == "":
		if pod.Status.Phase == corev1.PodPending || pod.Status.Phase == corev1.PodRunning {
			// A kubelet says that the containers have ended before it lets the pod go.
			if err := SetPhase(ctx, pod, corev1.PodFailed, corev1.ConditionFalse); err != nil {
				return err
			}
		}
		return Admin.Delete(ctx, pod, client.GracePeriodSeconds(0))
	case pod.DeletionTimestamp != nil, pod.Annotations[AnnotationPending] != "":
		return nil
	case pod.Spec.NodeName == "":
		return Admin.SubResource("binding").Create(ctx, pod, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "node-1"}})
	case pod.Status.Phase == corev1.PodPending:
		return SetPhase(ctx, pod, corev1.PodRunning, corev1.ConditionTrue)
	}
	return nil
}

// SetPhase sets the phase of a pod, and its condition Ready.
func SetPhase(ctx context.Context, pod *corev1.Pod, phase corev1.PodPhase, ready corev1.ConditionStatus) error {
	base := pod.DeepCopy()
	pod.Status.Phase = phase
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
	return Admin.Status().Patch(ctx, pod, client.MergeFrom(base))
}

// EndPod ends a pod, as its containers would.
func EndPod(t *testing.T, pod *corev1.Pod, phase corev1.PodPhase) {
	t.Helper()
	if err := SetPhase(t.Context(), pod, phase, corev1.ConditionFalse); err != nil {
		t.Fatal(err)
	}
}
