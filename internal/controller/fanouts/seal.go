package fanouts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/job"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/schedule"
)

// lostError says that nobody knows any more who of a fan-out has run.
type lostError struct {
	what string
	err  error
}

func (e *lostError) Error() string {
	why := "is gone"
	if e.err != nil {
		why = "can't be used: " + e.err.Error()
	}
	return fmt.Sprintf("its %s %s, so nobody knows who has run: nothing more is started; delete this fan-out and make another "+
		"for those who are left", e.what, why)
}

func (e *lostError) Unwrap() error { return e.err }

// takeUp returns what is remembered of a fan-out, or else reads it, or seals the plan when there is none. A fan-out whose
// status says that it was planned had a plan and a ledger: they are never made again.
func (r *Reconciler) takeUp(ctx context.Context, fanOut *v1alpha1.TenantFanOut) (*inHand, error) {
	if h := r.known.get(fanOut); h != nil {
		return h, nil
	}
	current, err := kube.Find(ctx, r.Live, kube.KeyOf(fanOut), &v1alpha1.TenantFanOut{})
	if err != nil {
		return nil, err
	}
	if current == nil || current.UID != fanOut.UID {
		return nil, errStale
	}
	plan, ledger, version, err := r.read(ctx, fanOut.UID)
	if err != nil {
		return nil, err
	}
	planned := isPlanned(current)
	switch {
	case plan == nil && (planned || version != ""):
		return nil, &lostError{what: "plan"}
	case plan == nil:
		if plan, err = r.seal(ctx, fanOut); err != nil {
			return nil, err
		}
		ledger = fanout.NewLedger(plan)
	case ledger == nil && planned:
		return nil, &lostError{what: "ledger"}
	case ledger == nil:
		ledger = fanout.NewLedger(plan)
	}
	h := &inHand{
		uid: fanOut.UID, plan: plan, version: version,
		answers: map[string]answer{}, tenants: map[string]*v1alpha1.Tenant{}, putOff: map[string]putOff{},
	}
	h.ledger.Store(ledger)
	r.known.put(fanOut.Name, h)
	return h, nil
}

// read returns a fan-out's plan and ledger as they are stored, nil for what there is not, and the ledger's version. The
// ledger is read first, since the plan is made first: who finds a ledger finds its plan.
func (r *Reconciler) read(ctx context.Context, fanOut types.UID) (*fanout.Plan, *fanout.Ledger, string, error) {
	stored, err := r.configMap(ctx, fanout.LedgerName(fanOut))
	if err != nil {
		return nil, nil, "", err
	}
	plan, err := r.readPlan(ctx, fanOut)
	if err != nil || stored == nil {
		return plan, nil, "", err
	}
	if plan == nil {
		return nil, nil, stored.ResourceVersion, nil
	}
	ledger, err := fanout.DecodeLedger(stored, plan)
	if err != nil {
		return nil, nil, "", &lostError{"ledger", err}
	}
	return plan, ledger, stored.ResourceVersion, nil
}

func (r *Reconciler) readPlan(ctx context.Context, fanOut types.UID) (*fanout.Plan, error) {
	head, err := r.configMap(ctx, fanout.PlanName(fanOut))
	if head == nil || err != nil {
		return nil, err
	}
	names, err := fanout.PartNames(head)
	if err != nil {
		return nil, &lostError{"plan", err}
	}
	var parts []*corev1.ConfigMap
	for _, name := range names {
		part, err := r.configMap(ctx, name)
		if err != nil {
			return nil, err
		}
		if part == nil {
			return nil, &lostError{"plan", fmt.Errorf("there is no ConfigMap %s", name)}
		}
		parts = append(parts, part)
	}
	plan, err := fanout.DecodePlan(head, parts...)
	if err != nil {
		return nil, &lostError{"plan", err}
	}
	return plan, nil
}

func (r *Reconciler) configMap(ctx context.Context, name string) (*corev1.ConfigMap, error) {
	return kube.Find(ctx, r.Live, types.NamespacedName{Namespace: r.OperatorNamespace, Name: name}, &corev1.ConfigMap{})
}

// seal makes the plan and stores it. If another leader was faster, its plan is the one.
func (r *Reconciler) seal(ctx context.Context, fanOut *v1alpha1.TenantFanOut) (*fanout.Plan, error) {
	now := r.Clock.Now()
	request, err := r.request(ctx, fanOut, now)
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
		if fence := i == len(objects)-1; apierrors.IsAlreadyExists(err) && fence {
			return nil, errStale
		} else if err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("creating ConfigMap %s: %w", kube.KeyOf(cm), err)
		}
	}
	return plan, nil
}

// request gathers what a plan is made from. The template is read from the API server: what was changed before the fan-out
// was made is in it.
func (r *Reconciler) request(ctx context.Context, fanOut *v1alpha1.TenantFanOut, now time.Time) (fanout.Request, error) {
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
	if request.Source, err = r.source(ctx, fanOut.Spec.Tenants.RetryOf); err != nil {
		return request, err
	}
	if request.Deadline, err = r.deadline(ctx, fanOut); err != nil {
		return request, err
	}
	tenants, err := r.everyTenant(ctx, fanOut.Spec.Tenants)
	for i := range tenants {
		t := fanout.TenantOf(&tenants[i])
		if tick, _ := fanout.Tick(fanOut); fanout.OnTenantsClock(fanOut) {
			t.NotBefore = schedule.TenantTime(tick, zoneOf(&tenants[i]))
		}
		request.Tenants = append(request.Tenants, t)
	}
	return request, err
}

// everyTenant lists all Tenants. Those that are named and not in the cache may have been made just now.
func (r *Reconciler) everyTenant(ctx context.Context, selection v1alpha1.TenantSelection) ([]v1alpha1.Tenant, error) {
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

// source is the ledger of the fan-out that retryOf names. Nil when there is none, or none that can be read.
func (r *Reconciler) source(ctx context.Context, retry *v1alpha1.RetryOf) (*fanout.Ledger, error) {
	if retry == nil {
		return nil, nil
	}
	fanOut, err := kube.Find(ctx, r.Live, types.NamespacedName{Name: retry.Name}, &v1alpha1.TenantFanOut{})
	if fanOut == nil || err != nil {
		return nil, err
	}
	_, ledger, _, err := r.read(ctx, fanOut.UID)
	if lost := (*lostError)(nil); errors.As(err, &lost) {
		return nil, nil
	}
	return ledger, err
}

// deadline is how late a tenant's own time may be, as its schedule says.
func (r *Reconciler) deadline(ctx context.Context, fanOut *v1alpha1.TenantFanOut) (time.Duration, error) {
	ts, err := r.scheduleOf(ctx, fanOut)
	if ts == nil || err != nil || ts.Spec.StartingDeadlineSeconds == nil {
		return 0, err
	}
	return time.Duration(*ts.Spec.StartingDeadlineSeconds) * time.Second, nil
}

// scheduleOf is the TenantSchedule that made a fan-out. Nil when none did, or it is gone.
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

func isPlanned(fanOut *v1alpha1.TenantFanOut) bool {
	return meta.IsStatusConditionTrue(fanOut.Status.Conditions, v1alpha1.ConditionPlanned)
}

// zoneOf is a tenant's time zone, UTC for one that there is not.
func zoneOf(t *v1alpha1.Tenant) *time.Location {
	zone, err := schedule.LoadZone(t.TimeZone())
	if err != nil {
		return time.UTC
	}
	return zone
}
