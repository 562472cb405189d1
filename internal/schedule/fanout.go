package schedule

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Together are the first and the last of some ticks that a schedule catches up on together: both are the same tick when it is
// on time.
type Together struct{ From, To time.Time }

// TogetherOf returns the ticks that those which are due are caught up on with. They are these ticks, and those of fan-outs that
// were created together with one of them before the controller stopped.
func TogetherOf(due []time.Time, runs []Run) Together {
	if len(due) == 0 {
		return Together{}
	}
	together := Together{due[0], due[len(due)-1]}
	for _, run := range runs {
		if run.Tick.Before(due[0]) && !run.CaughtUpTo.Before(due[0]) && run.Tick.Before(together.From) {
			together.From = run.Tick
		}
	}
	return together
}

// FanOut returns the fan-out of a tick of a schedule, which is caught up on together with others. The zero value means with none.
func FanOut(ts *v1alpha1.TenantSchedule, tick time.Time, together Together) *v1alpha1.TenantFanOut {
	fanOut := &v1alpha1.TenantFanOut{
		ObjectMeta: metav1.ObjectMeta{
			Name:        TickName(ts.Name, tick),
			Labels:      map[string]string{},
			Annotations: map[string]string{},
			OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(ts, v1alpha1.GroupVersion.WithKind("TenantSchedule")),
			},
		},
		Spec: *ts.Spec.FanOutTemplate.Spec.DeepCopy(),
	}
	if template := ts.Spec.FanOutTemplate.Metadata; template != nil {
		for key, value := range template.Labels {
			fanOut.Labels[key] = string(value)
		}
		for key, value := range template.Annotations {
			fanOut.Annotations[key] = string(value)
		}
	}
	fanOut.Labels[v1alpha1.LabelSchedule] = ts.Name
	fanOut.Annotations[v1alpha1.AnnotationScheduledTime] = tick.UTC().Format(time.RFC3339)
	if !together.From.IsZero() && together.From.Before(tick) {
		fanOut.Annotations[v1alpha1.AnnotationCaughtUpFrom] = together.From.UTC().Format(time.RFC3339)
	}
	if together.To.After(tick) {
		fanOut.Annotations[v1alpha1.AnnotationCaughtUpTo] = together.To.UTC().Format(time.RFC3339)
	}
	if ts.Spec.TimeZoneFrom == v1alpha1.TimeZoneFromTenant {
		fanOut.Annotations[v1alpha1.AnnotationTimeZoneFrom] = string(v1alpha1.TimeZoneFromTenant)
	}
	return fanOut
}

// CaughtUp returns which ticks were caught up on together with that of a fan-out, in whole minutes. It returns false when there
// were none.
func CaughtUp(fanOut *v1alpha1.TenantFanOut) (Together, bool) {
	tick, err := time.Parse(time.RFC3339, fanOut.Annotations[v1alpha1.AnnotationScheduledTime])
	if err != nil {
		return Together{}, false
	}
	together := Together{tick, SupersededAfter(fanOut, tick)}
	if oldest, err := time.Parse(time.RFC3339, fanOut.Annotations[v1alpha1.AnnotationCaughtUpFrom]); err == nil && oldest.Before(tick) {
		together.From = oldest
	}
	minutes := Together{together.From.UTC().Truncate(time.Minute), together.To.UTC().Truncate(time.Minute)}
	return minutes, !together.From.Equal(together.To)
}

// SupersededAfter returns the tick after which a later tick supersedes the fan-out of a tick. It is the newest tick whose
// fan-out was created together with this one, or its own tick when there is none.
func SupersededAfter(fanOut *v1alpha1.TenantFanOut, tick time.Time) time.Time {
	if newest, err := time.Parse(time.RFC3339, fanOut.Annotations[v1alpha1.AnnotationCaughtUpTo]); err == nil {
		return later(tick, newest)
	}
	return tick
}
