package fanouts

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
)

// sweepAgainAfter is when the sweep is tried again after an error.
const sweepAgainAfter = time.Minute

// sweeper deletes, once after each start, the plans and ledgers that have lost their fan-out: it was deleted with
// --cascade=orphan while no operator was there. Nobody else would ever find them.
type sweeper struct{ *Reconciler }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (s *sweeper) NeedLeaderElection() bool { return true }

// Start implements manager.Runnable.
func (s *sweeper) Start(ctx context.Context) error {
	_ = wait.PollUntilContextCancel(ctx, sweepAgainAfter, true, func(ctx context.Context) (bool, error) {
		err := s.sweep(ctx)
		if err != nil && ctx.Err() == nil {
			log.FromContext(ctx).Error(err, "Deleting the plans and ledgers of orphaned fan-outs")
		}
		return err == nil, nil
	})
	return nil
}

func (s *sweeper) sweep(ctx context.Context) error {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMapList"))
	if err := s.Live.List(ctx, list, client.InNamespace(s.OperatorNamespace), client.HasLabels{v1alpha1.LabelFanOut}); err != nil {
		return fmt.Errorf("listing ConfigMaps: %w", err)
	}
	var orphans []*metav1.PartialObjectMetadata
	for i := range list.Items {
		if cm := &list.Items[i]; metav1.GetControllerOf(cm) == nil {
			orphans = append(orphans, cm)
		}
	}
	if len(orphans) == 0 {
		return nil
	}
	var fanOuts v1alpha1.TenantFanOutList
	if err := s.Live.List(ctx, &fanOuts); err != nil {
		return fmt.Errorf("listing TenantFanOuts: %w", err)
	}
	for _, cm := range orphans {
		if !isOfFanOut(cm.Name) || hasFanOut(cm.Name, fanOuts.Items) {
			continue
		}
		obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: cm.Namespace, Name: cm.Name, UID: cm.UID}}
		if err := s.DeleteExact(ctx, obj, metav1.DeletePropagationBackground); err != nil {
			return err
		}
		log.FromContext(ctx).V(2).Info("Deleted what an orphaned fan-out has left", "configMap", klog.KObj(obj))
	}
	return nil
}

// isOfFanOut says whether a ConfigMap has the name of a plan or a ledger.
func isOfFanOut(name string) bool {
	return strings.HasPrefix(name, "fan-out-") && (strings.Contains(name, "-plan") || strings.HasSuffix(name, "-ledger"))
}

// hasFanOut says whether the fan-out exists whose plan or ledger has a name.
func hasFanOut(name string, fanOuts []v1alpha1.TenantFanOut) bool {
	for i := range fanOuts {
		uid := fanOuts[i].UID
		if name == fanout.LedgerName(uid) || strings.HasPrefix(name, fanout.PlanName(uid)) {
			return true
		}
	}
	return false
}
