package schedule

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/job"
)

// Ready is the condition Ready of a schedule. A schedule that is not ready still makes fan-outs, unless it has no ticks or the
// API server refuses them: what is wrong may be mended before the fan-out is planned.
type Ready struct {
	Status          metav1.ConditionStatus
	Reason, Message string
}

// readyRules find what is wrong with a schedule. The first one that applies is said.
var readyRules = []func(Observed, Decision) *Ready{badSchedule, fanOutRefused, templateMissing, templateUnusable, parametersRefused}

// ReadyOf returns the condition Ready of a schedule about which d was decided.
func ReadyOf(o Observed, d Decision) Ready {
	for _, rule := range readyRules {
		if r := rule(o, d); r != nil {
			return *r
		}
	}
	message := "makes a TenantFanOut at each tick"
	if ptr.Deref(o.Schedule.Spec.Suspend, false) {
		message = "makes no TenantFanOuts while `spec.suspend` is true"
	}
	if steps := IneffectiveSteps(o.Schedule.Spec.Schedule); steps != "" {
		message += "; in `spec.schedule`, " + steps
	}
	return Ready{metav1.ConditionTrue, v1alpha1.ReasonReady, message}
}

func notReady(reason, message string) *Ready { return &Ready{metav1.ConditionFalse, reason, message} }

func badSchedule(_ Observed, d Decision) *Ready {
	if d.Problem == "" {
		return nil
	}
	return notReady(v1alpha1.ReasonInvalidSchedule, d.Problem)
}

func fanOutRefused(o Observed, _ Decision) *Ready {
	if o.Refused == "" {
		return nil
	}
	return notReady(v1alpha1.ReasonInvalidFanOut, o.Refused)
}

func templateMissing(o Observed, _ Decision) *Ready {
	if o.Template != nil {
		return nil
	}
	return notReady(v1alpha1.ReasonTemplateNotFound, fmt.Sprintf("there is no TenantJobTemplate %s: create it, or change "+
		"`spec.fanOutTemplate.spec.templateRef.name`", o.Schedule.Spec.FanOutTemplate.Spec.TemplateRef.Name))
}

// templateUnusable applies when the template can't run. While it is being checked, nothing is known.
func templateUnusable(o Observed, _ Decision) *Ready {
	ready := conditions.Ready(o.Template.Status.Conditions)
	if ready.Status != metav1.ConditionFalse || ready.ObservedGeneration != o.Template.Generation {
		return nil
	}
	return notReady(v1alpha1.ReasonTemplateNotReady, fmt.Sprintf("TenantJobTemplate %s can't run: %s", o.Template.Name, ready.Message))
}

func parametersRefused(o Observed, _ Decision) *Ready {
	spec := &o.Schedule.Spec.FanOutTemplate.Spec
	if _, err := job.Resolve(o.Template.Spec.Parameters, spec.Parameters); err != nil {
		return notReady(v1alpha1.ReasonInvalidParameters,
			strings.ReplaceAll(err.Error(), "`parameters.", "`spec.fanOutTemplate.spec.parameters."))
	}
	return nil
}
