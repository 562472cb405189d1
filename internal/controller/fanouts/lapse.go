package fanouts

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/schedule"
)

// superseded is the message of a fan-out whose schedule's next tick came before it had a plan.
const superseded = "the next tick of the schedule came before it had a plan"

// lapse returns a *fanout.SealError if a fan-out without a plan has ended, or ends now: fan-outs that can't be planned would pile
// up otherwise, and all run at once when they can.
func (r *Reconciler) lapse(ctx context.Context, fanOut *v1alpha1.TenantFanOut) error {
	if ended := fanout.EndedUnplanned(fanOut); ended != nil {
		return ended
	}
	// The tick may have come by the API server's clock only.
	now := later(r.Clock.Now(), fanOut.CreationTimestamp.Time)
	end, _, err := r.lapseAt(ctx, fanOut, now)
	if end == nil || err != nil {
		return err
	}
	// It ends for good, so that the API server's time counts.
	if now, err = r.serverTime(ctx, fanOut); err != nil {
		return err
	}
	if end, _, err = r.lapseAt(ctx, fanOut, now); end == nil || err != nil {
		return err
	}
	return end
}

// lapseAt returns how a fan-out without a plan ends at a time, nil while it may be planned, and when to decide that again. Zero
// means when something happens.
func (r *Reconciler) lapseAt(ctx context.Context, fanOut *v1alpha1.TenantFanOut, now time.Time) (*fanout.SealError, time.Time, error) {
	ts, err := r.scheduleOf(ctx, fanOut)
	if ts == nil || err != nil {
		return nil, time.Time{}, err
	}
	end, endsAt, err := r.end(ctx, fanOut, now)
	if err != nil {
		return nil, time.Time{}, err
	}
	if end != "" {
		return &fanout.SealError{Reason: end, Message: superseded, Final: true}, time.Time{}, nil
	}
	siblings, err := kube.FanOutsOfSchedule(ctx, r.Client, ts.UID)
	if err != nil {
		return nil, time.Time{}, err
	}
	lapse := schedule.LapseOf(schedule.Unplanned{Schedule: ts, FanOut: fanOut, Siblings: siblings, Now: now})
	if lapse.Reason != "" {
		return &fanout.SealError{Reason: lapse.Reason, Message: lapse.Message, Final: true}, time.Time{}, nil
	}
	return nil, earlier(endsAt, lapse.At), nil
}

// lapseAfter is when to look again at a fan-out that could not be planned. Zero means when something happens.
func (r *Reconciler) lapseAfter(ctx context.Context, fanOut *v1alpha1.TenantFanOut, now time.Time) (time.Duration, error) {
	_, at, err := r.lapseAt(ctx, fanOut, now)
	if at.IsZero() || err != nil {
		return 0, err
	}
	return max(time.Second, at.Sub(now)), nil
}

// serverTime returns the API server's time. It asks by creating a ConfigMap by dry run, which stores nothing.
func (r *Reconciler) serverTime(ctx context.Context, fanOut *v1alpha1.TenantFanOut) (time.Time, error) {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: r.OperatorNamespace, GenerateName: fanout.PlanName(fanOut.UID) + "-"}}
	err := r.Create(ctx, cm, client.DryRunAll, client.FieldOwner(kube.FieldManager))
	if err != nil {
		return time.Time{}, fmt.Errorf("asking the API server for its time by a dry run: %w", err)
	}
	return cm.CreationTimestamp.Time, nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
