package schedule

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// FanOut is what a tick of a schedule makes.
func FanOut(ts *v1alpha1.TenantSchedule, tick time.Time) *v1alpha1.TenantFanOut {
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
	if ts.Spec.TimeZoneFrom == v1alpha1.TimeZoneFromTenant {
		fanOut.Annotations[v1alpha1.AnnotationTimeZoneFrom] = string(v1alpha1.TimeZoneFromTenant)
	}
	return fanOut
}
