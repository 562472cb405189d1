package operatortest

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// NobodysFanOut is for the tenants that a test without any has, so that it never ends by itself.
var NobodysFanOut = v1alpha1.TenantFanOutSpec{
	TemplateRef: v1alpha1.LabelReference{Name: "no-such-template"}, Tenants: v1alpha1.TenantSelection{All: new(true)},
}

// NewSchedule makes a TenantSchedule with a name of its own.
func NewSchedule(t *testing.T, expression string, changes ...func(*v1alpha1.TenantSchedule)) *v1alpha1.TenantSchedule {
	t.Helper()
	ts := &v1alpha1.TenantSchedule{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("schedule-%d", Serial.Add(1))},
		Spec:       v1alpha1.TenantScheduleSpec{Schedule: expression, FanOutTemplate: v1alpha1.FanOutTemplate{Spec: NobodysFanOut}},
	}
	for _, change := range changes {
		change(ts)
	}
	return Create(t, ts)
}
