package fanouts

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/kube"
)

// lostError means that the plan or the ledger of a fan-out is gone or damaged, so that it is unknown which tenants have run.
type lostError struct {
	// object is "plan" or "ledger".
	object string
	// err is why the object can't be used. It is nil when the object is gone.
	err error
}

func (e *lostError) Error() string {
	why := "is gone"
	if e.err != nil {
		why = "can't be used: " + e.err.Error()
	}
	return fmt.Sprintf("its %s %s, so nobody knows who has run: nothing more is started; delete this fan-out and make another "+
		"for those who are left", e.object, why)
}

func (e *lostError) Unwrap() error { return e.err }

// load returns what the controller remembers of a fan-out. If it remembers nothing, load reads the plan and the ledger, and
// seals the plan when there is none. A fan-out whose status says that it was planned had a plan and a ledger: these are never
// made again.
func (r *Reconciler) load(ctx context.Context, fanOut *v1alpha1.TenantFanOut) (*activeFanOut, error) {
	if a := r.active.get(fanOut.Name, fanOut.UID); a != nil {
		return a, nil
	}
	current, err := kube.Find(ctx, r.Live, kube.KeyOf(fanOut), &v1alpha1.TenantFanOut{})
	if err != nil {
		return nil, err
	}
	if current == nil || current.UID != fanOut.UID {
		return nil, errStale
	}
	plan, ledger, version, err := r.readStored(ctx, fanOut.UID)
	if err != nil {
		return nil, err
	}
	wasPlanned := isPlanned(current)
	switch {
	case plan == nil && (wasPlanned || version != ""):
		return nil, &lostError{object: "plan"}
	case plan == nil:
		if plan, err = r.seal(ctx, fanOut); err != nil {
			return nil, err
		}
		ledger = fanout.NewLedger(plan)
	case ledger == nil && wasPlanned:
		return nil, &lostError{object: "ledger"}
	case ledger == nil:
		ledger = fanout.NewLedger(plan)
	}
	a := newActiveFanOut(plan, ledger, version)
	r.active.set(fanOut.Name, a)
	return a, nil
}

// readStored returns a fan-out's plan and ledger as they are stored, and the resourceVersion of the ledger. What is not
// stored is nil. The ledger is read first, since the plan is stored first: when there is a ledger, there is its plan.
func (r *Reconciler) readStored(ctx context.Context, fanOut types.UID) (*fanout.Plan, *fanout.Ledger, string, error) {
	stored, err := r.readConfigMap(ctx, fanout.LedgerName(fanOut))
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

// readPlan returns a fan-out's plan, or nil when none is stored.
func (r *Reconciler) readPlan(ctx context.Context, fanOut types.UID) (*fanout.Plan, error) {
	head, err := r.readConfigMap(ctx, fanout.PlanName(fanOut))
	if head == nil || err != nil {
		return nil, err
	}
	names, err := fanout.PartNames(head)
	if err != nil {
		return nil, &lostError{"plan", err}
	}
	var parts []*corev1.ConfigMap
	for _, name := range names {
		part, err := r.readConfigMap(ctx, name)
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

func (r *Reconciler) readConfigMap(ctx context.Context, name string) (*corev1.ConfigMap, error) {
	return kube.Find(ctx, r.Live, types.NamespacedName{Namespace: r.OperatorNamespace, Name: name}, &corev1.ConfigMap{})
}

// removeOrphaned deletes the plan and the ledger of a fan-out that is being deleted without what it owns. Nobody needs them any
// more, and nobody would find them.
func (r *Reconciler) removeOrphaned(ctx context.Context, fanOut *v1alpha1.TenantFanOut) error {
	if !controllerutil.ContainsFinalizer(fanOut, metav1.FinalizerOrphanDependents) {
		return nil
	}
	head, err := r.readConfigMap(ctx, fanout.PlanName(fanOut.UID))
	if err != nil {
		return err
	}
	names := []string{fanout.LedgerName(fanOut.UID)}
	if head != nil {
		parts, _ := fanout.PartNames(head) // Those of a damaged plan are not known.
		names = append(append(names, parts...), head.Name)
	}
	for _, name := range names {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: r.OperatorNamespace, Name: name}}
		if err := r.Delete(ctx, cm); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting ConfigMap %s: %w", kube.KeyOf(cm), err)
		}
	}
	return nil
}

// isPlanned says whether the status of a fan-out says that its plan is sealed.
func isPlanned(fanOut *v1alpha1.TenantFanOut) bool {
	return conditions.Get(fanOut.Status.Conditions, v1alpha1.ConditionPlanned).Status == metav1.ConditionTrue
}
