package job

import (
	"encoding/json"
	"fmt"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// suspensionPrefix is what the status message about a Job that is suspended begins with, and all of it when nothing else is known.
	suspensionPrefix = "its Job is suspended"
	// labelKueue is the label of a Job that Kueue holds in a queue until it admits it.
	labelKueue = "kueue.x-k8s.io/queue-name"
)

// SuspensionOf says by whom a Job is suspended, and what to do about it. The Job is one with its managedFields and all of its labels,
// which the cache does not have. Own is the field manager under which the operator creates Jobs.
func SuspensionOf(j *batchv1.Job, own string) string {
	const slot = "; it keeps its slot"
	if queue, is := j.Labels[labelKueue]; is {
		return fmt.Sprintf("%s by Kueue, in its queue %s (label %s), and starts when Kueue admits it%s", suspensionPrefix, queue, labelKueue, slot)
	}
	remedy := fmt.Sprintf(": it goes on when `spec.suspend` of Job %s is false%s", j.Name, slot)
	switch manager := managerOfSuspend(j); manager {
	case "":
		return suspensionPrefix + remedy
	case own:
		return suspensionPrefix + " since it was created, by an admission webhook or policy" + remedy
	default:
		return fmt.Sprintf("%s by field manager %s%s", suspensionPrefix, manager, remedy)
	}
}

// managerOfSuspend returns the field manager that has last set spec.suspend of a Job. It is empty when none has.
func managerOfSuspend(j *batchv1.Job) string {
	var last *metav1.ManagedFieldsEntry
	for i := range j.ManagedFields {
		entry := &j.ManagedFields[i]
		var owned struct {
			Spec map[string]json.RawMessage `json:"f:spec"`
		}
		if entry.FieldsV1 == nil || json.Unmarshal(entry.FieldsV1.GetRawBytes(), &owned) != nil {
			continue
		}
		if _, owns := owned.Spec["f:suspend"]; owns && (last == nil || last.Time.Before(entry.Time)) {
			last = entry
		}
	}
	if last == nil {
		return ""
	}
	return last.Manager
}
