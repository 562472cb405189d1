package schedules

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/schedule"
)

// clocksMayDiffer is how much the operator's clock may be ahead of what the API server's shows, in whole seconds.
const clocksMayDiffer = 2 * time.Second

// observed is what Reconcile has found. Without a schedule there is nothing to do.
type observed struct {
	schedule.Observed
	// asked means that the API server was asked whether it accepts the schedule's fan-outs.
	asked bool
}

// observe gathers everything that the decision about a TenantSchedule needs. Most looks find nothing new, and cost no
// request. When one does, it is repeated over what the API server has, at the API server's time: the cache may not know
// that a tick has had its fan-out, and by a clock that is ahead ticks come that have not.
func (r *Reconciler) observe(ctx context.Context, ts *v1alpha1.TenantSchedule) (observed, error) {
	o := observed{Observed: schedule.Observed{Schedule: ts, Now: r.Clock.Now()}}
	var err error
	if o.Runs, err = r.runs(ctx, ts); err != nil {
		return o, err
	}
	if !schedule.Decide(o.Observed).NeedsConfirmation(ts.Status, ts.Generation) {
		return o, nil
	}
	if o.Schedule, err = kube.Find(ctx, r.Live, kube.KeyOf(ts), &v1alpha1.TenantSchedule{}); err != nil || o.Schedule == nil {
		return o, err
	}
	if o.Runs, err = r.runs(ctx, o.Schedule); err != nil {
		return o, err
	}
	var served time.Time
	if served, o.Refused, err = r.ask(ctx, o.Schedule); err != nil {
		return o, err
	}
	o.asked = true
	if o.Now.Sub(served) > clocksMayDiffer {
		o.Now = served
	}
	return o, nil
}

// runs are the schedule's fan-outs in the cache.
func (r *Reconciler) runs(ctx context.Context, ts *v1alpha1.TenantSchedule) ([]schedule.Run, error) {
	fanOuts, err := kube.FanOutsOfSchedule(ctx, r.Client, ts.UID)
	if err != nil {
		return nil, err
	}
	runs := make([]schedule.Run, 0, len(fanOuts))
	for i := range fanOuts {
		if run, ok := schedule.RunOf(ts, &fanOuts[i]); ok {
			runs = append(runs, run)
		}
	}
	return runs, nil
}

// ask tries a fan-out of the schedule by dry run: the answer bears the API server's time, or says what is wrong with it.
func (r *Reconciler) ask(ctx context.Context, ts *v1alpha1.TenantSchedule) (
	served time.Time, refused string, err error,
) {
	specimen := schedule.FanOut(ts, time.Unix(0, 0), time.Unix(0, 0))
	if err = r.dryRun(ctx, specimen); err == nil {
		return specimen.CreationTimestamp.Time, "", nil
	}
	if refused = refusalOf(err); refused == "" {
		return served, "", fmt.Errorf("trying a TenantFanOut of TenantSchedule %s by dry run: %w", ts.Name, err)
	}
	// One that is refused bears no time.
	specimen = schedule.FanOut(&v1alpha1.TenantSchedule{ObjectMeta: ts.ObjectMeta}, time.Unix(0, 0), time.Unix(0, 0))
	specimen.Spec.TemplateRef.Name, specimen.Spec.Tenants.All = "any", new(true)
	if err = r.dryRun(ctx, specimen); err != nil {
		return served, "", fmt.Errorf("asking the API server for its time: %w", err)
	}
	return specimen.CreationTimestamp.Time, refused, nil
}

// dryRun creates a fan-out under a name that nobody has, and keeps nothing.
func (r *Reconciler) dryRun(ctx context.Context, fanOut *v1alpha1.TenantFanOut) error {
	fanOut.GenerateName, fanOut.Name = fanOut.Name+"-", ""
	return r.Create(ctx, fanOut, client.DryRunAll, client.FieldOwner(kube.FieldManager))
}

// refusalOf says what the API server has against an object. It is empty for an error that is not about the object.
func refusalOf(err error) string {
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
		return "`spec.fanOutTemplate`: " + status.Status().Message
	}
	return strings.Join(problems, "; ")
}
