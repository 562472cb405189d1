package fanouts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/schedule"
)

// seal makes the plan and stores it. The leader that creates the last ConfigMap has sealed the plan. If that one exists
// already, another leader was faster, and its plan has to be read.
func (r *Reconciler) seal(ctx context.Context, fanOut *v1alpha1.TenantFanOut) (*fanout.Plan, error) {
	now := r.Clock.Now()
	request, err := r.sealRequest(ctx, fanOut, now)
	if err != nil {
		return nil, err
	}
	plan, err := fanout.Seal(request, now)
	if err != nil {
		return nil, err
	}
	objects, err := plan.ConfigMaps(fanOut, r.OperatorNamespace)
	if err != nil {
		return nil, err
	}
	for i, cm := range objects {
		err := r.Create(ctx, cm, client.FieldOwner(kube.FieldManager))
		exists, isLast := apierrors.IsAlreadyExists(err), i == len(objects)-1
		switch {
		case exists && isLast:
			return nil, errStale
		case err != nil && !exists:
			return nil, fmt.Errorf("creating ConfigMap %s: %w", kube.KeyOf(cm), err)
		}
	}
	log.FromContext(ctx).V(2).Info("Sealed the plan", "tenantFanOut", klog.KObj(fanOut), "tenants", len(plan.Entries))
	return plan, nil
}

// sealRequest gathers what a plan is made from. The template is read from the API server, so that the plan has every change
// that was made to the template before the fan-out was created.
func (r *Reconciler) sealRequest(ctx context.Context, fanOut *v1alpha1.TenantFanOut, now time.Time) (fanout.Request, error) {
	request := fanout.Request{FanOut: fanOut, Start: fanout.WindowStart(fanOut, now)}
	var err error
	template := types.NamespacedName{Name: fanOut.Spec.TemplateRef.Name}
	if request.Template, err = kube.Find(ctx, r.Live, template, &v1alpha1.TenantJobTemplate{}); err != nil {
		return request, err
	}
	if request.Template != nil {
		if _, err := job.Resolve(request.Template.Spec.Parameters, fanOut.Spec.Parameters); err != nil {
			request.Invalid = err.Error()
		}
	}
	if err := r.readSource(ctx, &request); err != nil {
		return request, err
	}
	if request.Deadline, err = r.startingDeadline(ctx, fanOut); err != nil {
		return request, err
	}
	tenants, err := r.listTenants(ctx, fanOut.Spec.Tenants)
	for i := range tenants {
		t := fanout.TenantOf(&tenants[i])
		if tick, _ := fanout.Tick(fanOut); fanout.OnTenantsClock(fanOut) {
			t.NotBefore = schedule.TenantTime(tick, timeZoneOf(&tenants[i]))
		}
		request.Tenants = append(request.Tenants, t)
	}
	return request, err
}

// listTenants lists all Tenants from the cache. It lists them from the API server when the cache lacks one of those that the
// selection names: it may have been created just now.
func (r *Reconciler) listTenants(ctx context.Context, selection v1alpha1.TenantSelection) ([]v1alpha1.Tenant, error) {
	var list v1alpha1.TenantList
	if err := r.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Tenants from the cache: %w", err)
	}
	cached := make(map[string]bool, len(list.Items))
	for i := range list.Items {
		cached[list.Items[i].Name] = true
	}
	if !slices.ContainsFunc(selection.Names, func(n v1alpha1.TenantName) bool { return !cached[string(n)] }) {
		return list.Items, nil
	}
	var live v1alpha1.TenantList
	if err := r.Live.List(ctx, &live); err != nil {
		return nil, fmt.Errorf("listing Tenants: %w", err)
	}
	return live.Items, nil
}

// readSource reads what a retry retries: the ledger of the fan-out that retryOf names, if there is one that can be read, and
// while that has no plan because it is a retry itself, its source in turn.
func (r *Reconciler) readSource(ctx context.Context, request *fanout.Request) error {
	seen := map[string]bool{request.FanOut.Name: true}
	for f := request.FanOut; f.Spec.Tenants.RetryOf != nil && !isPlanned(f); {
		source, err := kube.Find(ctx, r.Live, types.NamespacedName{Name: f.Spec.Tenants.RetryOf.Name}, &v1alpha1.TenantFanOut{})
		if source == nil || err != nil {
			return err
		}
		request.Sources = append(request.Sources, source)
		if len(request.Sources) == 1 {
			_, request.Source, _, err = r.readStored(ctx, source.UID)
			if _, isLost := errors.AsType[*lostError](err); err != nil && !isLost {
				return err
			}
		}
		if seen[source.Name] {
			return nil
		}
		f, seen[source.Name] = source, true
	}
	return nil
}

// startingDeadline returns how late a tenant's own time may be, according to the schedule of the fan-out. Zero means however
// late.
func (r *Reconciler) startingDeadline(ctx context.Context, fanOut *v1alpha1.TenantFanOut) (time.Duration, error) {
	ts, err := r.scheduleOf(ctx, fanOut)
	if ts == nil || err != nil {
		return 0, err
	}
	return time.Duration(ptr.Deref(ts.Spec.StartingDeadlineSeconds, 0)) * time.Second, nil
}

// scheduleOf returns the TenantSchedule that created a fan-out, or nil when there is none.
func (r *Reconciler) scheduleOf(ctx context.Context, fanOut *v1alpha1.TenantFanOut) (*v1alpha1.TenantSchedule, error) {
	owner := metav1.GetControllerOf(fanOut)
	if owner == nil || owner.Kind != "TenantSchedule" {
		return nil, nil
	}
	ts, err := kube.Find(ctx, r.Client, types.NamespacedName{Name: owner.Name}, &v1alpha1.TenantSchedule{})
	if ts == nil || err != nil || ts.UID != owner.UID {
		return nil, err
	}
	return ts, nil
}

// timeZoneOf returns a tenant's time zone, UTC when there is no zone of that name.
func timeZoneOf(t *v1alpha1.Tenant) *time.Location {
	zone, err := schedule.LoadZone(t.TimeZone())
	if err != nil {
		return time.UTC
	}
	return zone
}
