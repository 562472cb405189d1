package schedule

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func TestReadyOf(t *testing.T) {
	const at = "`spec.fanOutTemplate.spec.parameters."
	ready := Ready{metav1.ConditionTrue, v1alpha1.ReasonReady, "makes a TenantFanOut at each tick"}
	for name, tc := range map[string]struct {
		change func(*Observed)
		want   Ready
	}{
		"nothing is wrong": {func(*Observed) {}, ready},
		"suspended": {
			func(o *Observed) { o.Schedule.Spec.Suspend = new(true) },
			Ready{metav1.ConditionTrue, v1alpha1.ReasonReady, "makes no TenantFanOuts while `spec.suspend` is true"},
		},
		"a step that does nothing": {
			func(o *Observed) { o.Schedule.Spec.Schedule = "*/90 * * * *" },
			Ready{metav1.ConditionTrue, v1alpha1.ReasonReady, "makes a TenantFanOut at each tick; in `spec.schedule`, minute `*/90` is the same as `0`, because the step is too long"},
		},
		"a date that never comes": {
			func(o *Observed) { o.Schedule.Spec.Schedule, o.Refused, o.Template = "0 0 31 2 *", "no", nil },
			*notReady(v1alpha1.ReasonInvalidSchedule, "`spec.schedule`: day of month \"31\" never comes in month \"2\": change one of them"),
		},
		"the API server refuses its fan-outs": {func(o *Observed) { o.Refused, o.Template = "no", nil }, *notReady(v1alpha1.ReasonInvalidFanOut, "no")},
		"there is no such template": {
			func(o *Observed) { o.Template = nil },
			*notReady(v1alpha1.ReasonTemplateNotFound, "there is no TenantJobTemplate check: create it, or change `spec.fanOutTemplate.spec.templateRef.name`"),
		},
		"there is no such template, while it is suspended": {
			func(o *Observed) { o.Schedule.Spec.Suspend, o.Template = new(true), nil },
			*notReady(v1alpha1.ReasonTemplateNotFound, "there is no TenantJobTemplate check: create it, or change `spec.fanOutTemplate.spec.templateRef.name`"),
		},
		"the template can't run": {
			func(o *Observed) {
				o.Template.Status.Conditions[0].Status, o.Template.Status.Conditions[0].Message = metav1.ConditionFalse, "no image"
			},
			*notReady(v1alpha1.ReasonTemplateNotReady, "TenantJobTemplate check can't run: no image"),
		},
		"the template is being checked": {func(o *Observed) { o.Template.Status.Conditions = nil }, ready},
		"the template is being checked again": {
			func(o *Observed) {
				o.Template.Status.Conditions[0].Status = metav1.ConditionFalse
				o.Template.Generation++
			}, ready,
		},
		"a parameter that is not declared": {
			given(map[string]v1alpha1.ParameterValue{"idleMinutes": "30", "batchsize": "10"}),
			*notReady(v1alpha1.ReasonInvalidParameters, at+"batchsize` must be left out: the template declares idleMinutes, batchSize, mode"),
		},
		"a required parameter that is missing": {given(nil), *notReady(v1alpha1.ReasonInvalidParameters, at+"idleMinutes` must be set")},
		"values of another type and pattern": {
			given(map[string]v1alpha1.ParameterValue{"idleMinutes": "long", "batchSize": "many", "mode": "slow"}),
			*notReady(v1alpha1.ReasonInvalidParameters, at+"idleMinutes` must match ^[0-9]+$; "+at+"batchSize` must be an integer; "+at+"mode` must be one of fast"),
		},
		"the template declares another one since": {
			func(o *Observed) { o.Template.Spec.Parameters[0].Name = "idleSeconds" },
			*notReady(v1alpha1.ReasonInvalidParameters, at+"idleSeconds` must be set; "+at+"idleMinutes` must be left out: the template declares idleSeconds, batchSize, mode"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := Observed{
				Schedule: &v1alpha1.TenantSchedule{Spec: v1alpha1.TenantScheduleSpec{
					Schedule: "0 * * * *", TimeZone: "Etc/UTC",
					FanOutTemplate: v1alpha1.FanOutTemplate{Spec: v1alpha1.TenantFanOutSpec{
						TemplateRef: v1alpha1.LabelReference{Name: "check"}, Parameters: map[string]v1alpha1.ParameterValue{"idleMinutes": "30"},
					}},
				}},
				Template: &v1alpha1.TenantJobTemplate{
					ObjectMeta: metav1.ObjectMeta{Name: "check", Generation: 2},
					Spec: v1alpha1.TenantJobTemplateSpec{Parameters: []v1alpha1.Parameter{
						{Name: "idleMinutes", Required: new(true), Pattern: "^[0-9]+$"},
						{Name: "batchSize", Type: v1alpha1.ParameterInteger}, {Name: "mode", Enum: []v1alpha1.ParameterValue{"fast"}},
					}},
					Status: v1alpha1.TenantJobTemplateStatus{Conditions: []metav1.Condition{
						{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, ObservedGeneration: 2},
					}},
				},
				Now: time.Date(2026, 8, 3, 12, 0, 30, 0, time.UTC),
			}
			tc.change(&o)
			if diff := cmp.Diff(tc.want, ReadyOf(o, Decide(o))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// given gives a schedule's fan-outs these parameters.
func given(parameters map[string]v1alpha1.ParameterValue) func(*Observed) {
	return func(o *Observed) { o.Schedule.Spec.FanOutTemplate.Spec.Parameters = parameters }
}
