package schedules

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/schedule"
)

// observed is everything that Reconcile knows about a schedule. Its Schedule is nil when there is none any more.
type observed struct {
	schedule.Observed
	// validated says that the API server was asked whether it accepts the schedule's fan-outs.
	validated bool
}

// observe gathers everything that the decision about a TenantSchedule needs. Most of the time nothing is to be done, and that
// costs no request. Otherwise observe reads everything again from the API server, and takes its time: the cache may lack a
// fan-out that a tick already has, and by a clock that is wrong a tick seems to have come that has not, or the other way round.
func (r *Reconciler) observe(ctx context.Context, ts *v1alpha1.TenantSchedule) (observed, error) {
	o := observed{Observed: schedule.Observed{Schedule: ts}}
	var timeKnown bool
	o.Now, timeKnown = r.time.at(r.Clock.Now())
	if err := r.observeCached(ctx, &o); err != nil {
		return o, err
	}
	if timeKnown && !schedule.Decide(o.Observed).NeedsConfirmation(ts.Status, ts.Generation) {
		return o, nil
	}
	var err error
	if o.Schedule, err = kube.Find(ctx, r.Live, kube.KeyOf(ts), &v1alpha1.TenantSchedule{}); err != nil || o.Schedule == nil {
		return o, err
	}
	if err := r.observeCached(ctx, &o); err != nil {
		return o, err
	}
	var server time.Time
	if server, o.Refused, err = r.validate(ctx, o.Schedule); err != nil {
		return o, err
	}
	o.validated = true
	o.Now = r.time.set(server, r.Clock.Now())
	return o, nil
}

// observeCached reads what the cache has: the schedule's fan-outs, and its template.
func (r *Reconciler) observeCached(ctx context.Context, o *observed) error {
	var err error
	if o.Runs, err = r.listRuns(ctx, o.Schedule); err != nil {
		return err
	}
	template := types.NamespacedName{Name: o.Schedule.Spec.FanOutTemplate.Spec.TemplateRef.Name}
	o.Template, err = kube.Find(ctx, r.Client, template, &v1alpha1.TenantJobTemplate{})
	return err
}

// listRuns lists the schedule's fan-outs from the cache.
func (r *Reconciler) listRuns(ctx context.Context, ts *v1alpha1.TenantSchedule) ([]schedule.Run, error) {
	fanOuts, err := kube.FanOutsOfSchedule(ctx, r.Client, ts.UID)
	if err != nil {
		return nil, err
	}
	runs := make([]schedule.Run, 0, len(fanOuts))
	for i := range fanOuts {
		if run, isTick := schedule.RunOf(ts, &fanOuts[i]); isTick {
			runs = append(runs, run)
		}
	}
	return runs, nil
}

// validate creates a fan-out of the schedule by dry run. It returns the API server's time, and why the API server refuses the
// fan-out. That is empty when it does not. An error means that the time is unknown: the API server may refuse every fan-out.
func (r *Reconciler) validate(ctx context.Context, ts *v1alpha1.TenantSchedule) (serverTime time.Time, refusal string, err error) {
	fanOut := schedule.FanOut(ts, time.Unix(0, 0), schedule.Together{})
	if err = r.dryRun(ctx, fanOut); err == nil {
		return fanOut.CreationTimestamp.Time, "", nil
	}
	if refusal = refusalMessage(err); refusal == "" {
		if isRefusal(err) {
			refusal = kube.MessageOf(err)
		}
		return serverTime, refusal, fmt.Errorf("trying a TenantFanOut of TenantSchedule %s by dry run: %w", ts.Name, err)
	}
	// A refused object has no creation time, so a valid one has to be tried.
	fanOut = schedule.FanOut(&v1alpha1.TenantSchedule{ObjectMeta: ts.ObjectMeta}, time.Unix(0, 0), schedule.Together{})
	fanOut.Spec.TemplateRef.Name, fanOut.Spec.Tenants.All = "any", new(true)
	if err = r.dryRun(ctx, fanOut); err != nil {
		return serverTime, refusal, fmt.Errorf("asking the API server for its time: %w", err)
	}
	return fanOut.CreationTimestamp.Time, refusal, nil
}

// dryRun creates a fan-out by dry run, under a name that is not taken. The API server stores nothing.
func (r *Reconciler) dryRun(ctx context.Context, fanOut *v1alpha1.TenantFanOut) error {
	fanOut.GenerateName, fanOut.Name = fanOut.Name+"-", ""
	return r.Create(ctx, fanOut, client.DryRunAll, client.FieldOwner(kube.FieldManager))
}

// isRefusal says whether an error means that the API server refuses a fan-out, because of what it says or because it is the
// operator's.
func isRefusal(err error) bool {
	refusal := kube.RefusalOf(err)
	return refusal.IsAboutObject() || refusal == kube.RefusalOperator
}

// refusalMessage returns why the API server refuses an object. It is empty for an error that does not concern the object.
func refusalMessage(err error) string {
	var status apierrors.APIStatus
	if !kube.RefusalOf(err).IsAboutObject() || !errors.As(err, &status) {
		return ""
	}
	var problems []string
	if details := status.Status().Details; details != nil {
		for _, cause := range details.Causes {
			if cause.Field != "" {
				problems = append(problems, fmt.Sprintf("`spec.fanOutTemplate.%s`: %s", cause.Field, cause.Message))
			}
		}
	}
	if len(problems) == 0 {
		return "`spec.fanOutTemplate`: " + kube.MessageOf(err)
	}
	return strings.Join(problems, "; ")
}
