package schedule

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// FanOut returns the fan-out of a tick of a schedule. Newest is the newest tick whose fan-out is created together with it:
// later than the tick when missed ticks are caught up, and the tick itself otherwise.
func FanOut(ts *v1alpha1.TenantSchedule, tick, newest time.Time) *v1alpha1.TenantFanOut {
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
	if newest.After(tick) {
		fanOut.Annotations[v1alpha1.AnnotationCaughtUpTo] = newest.UTC().Format(time.RFC3339)
	}
	if ts.Spec.TimeZoneFrom == v1alpha1.TimeZoneFromTenant {
		fanOut.Annotations[v1alpha1.AnnotationTimeZoneFrom] = string(v1alpha1.TimeZoneFromTenant)
	}
	return fanOut
}

// SupersededAfter returns the tick after which a later tick supersedes the fan-out of a tick. It is the newest tick whose
// fan-out was created together with this one, or its own tick when there is none.
func SupersededAfter(fanOut *v1alpha1.TenantFanOut, tick time.Time) time.Time {
	if newest, err := time.Parse(time.RFC3339, fanOut.Annotations[v1alpha1.AnnotationCaughtUpTo]); err == nil {
		return later(tick, newest)
	}
	return tick
}
