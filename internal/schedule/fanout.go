package schedule

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// FanOut is what a tick of a schedule makes, beside others until the newest of them.
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

// SupersededAfter is the tick after which a later one ends what still waits of a fan-out of a schedule: its own, or the
// newest of those that were made up for with it.
func SupersededAfter(fanOut *v1alpha1.TenantFanOut, tick time.Time) time.Time {
	if newest, err := time.Parse(time.RFC3339, fanOut.Annotations[v1alpha1.AnnotationCaughtUpTo]); err == nil {
		return later(tick, newest)
	}
	return tick
}
