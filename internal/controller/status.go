package controller

import (
	"context"
	"fmt"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// patchStatus writes the status of obj if it differs from that of base. The patch carries the resource version that was
// read, so that a stale cache can't take back what was written since.
func patchStatus(ctx context.Context, c client.Client, obj, base client.Object) error {
	if equality.Semantic.DeepEqual(obj, base) {
		return nil
	}
	patch := client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})
	if err := c.Status().Patch(ctx, obj, patch, client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("writing the status of %s: %w", client.ObjectKeyFromObject(obj), err)
	}
	return nil
}

// progress is how an object stands for kstatus and Argo CD.
type progress int

const (
	// current: it is as its spec says, or has ended well.
	current progress = iota
	// reconciling: the operator works on it.
	reconciling
	// stalled: only a person can help.
	stalled
)

// setCondition sets a condition, its message cut to what the API accepts.
func setCondition(conditions *[]metav1.Condition, generation int64, conditionType string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(conditions, metav1.Condition{
		Type: conditionType, Status: status, Reason: reason, Message: cut(message, 1024), ObservedGeneration: generation,
	})
}

// setProgress sets Reconciling or Stalled and takes the other away: both are only there while they are True, as kstatus
// wants it.
func setProgress(conditions *[]metav1.Condition, generation int64, p progress, reason, message string) {
	for conditionType, applies := range map[string]bool{
		v1alpha1.ConditionReconciling: p == reconciling,
		v1alpha1.ConditionStalled:     p == stalled,
	} {
		if applies {
			setCondition(conditions, generation, conditionType, metav1.ConditionTrue, reason, message)
		} else {
			meta.RemoveStatusCondition(conditions, conditionType)
		}
	}
}

// cut shortens text to at most n bytes without breaking a character.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	const ellipsis = "..."
	n -= len(ellipsis)
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + ellipsis
}

// readiness is what others look at in an object's condition Ready.
func readiness(conditions []metav1.Condition) metav1.Condition {
	ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
	if ready == nil {
		return metav1.Condition{}
	}
	return metav1.Condition{Status: ready.Status, ObservedGeneration: ready.ObservedGeneration, Message: ready.Message}
}
