package kube

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Indexes of the TenantFanOuts in the cache.
const (
	// indexSchedule finds those of a TenantSchedule, by its UID.
	indexSchedule = "schedule"
	// indexUnplannedTemplate and indexUnplannedSource find those without a plan, by the name of their template, and by that
	// of the fan-out that they retry.
	indexUnplannedTemplate = "unplanned-template"
	indexUnplannedSource   = "unplanned-source"
)

// IndexFanOuts adds the indexes that the functions below need. Call it before the cache is started.
func IndexFanOuts(indexer client.FieldIndexer) error {
	for name, key := range map[string]func(*v1alpha1.TenantFanOut) string{
		indexSchedule: func(f *v1alpha1.TenantFanOut) string { return string(ControllerUID(f, "TenantSchedule")) },
		indexUnplannedTemplate: func(f *v1alpha1.TenantFanOut) string {
			if isPlanned(f) {
				return ""
			}
			return f.Spec.TemplateRef.Name
		},
		indexUnplannedSource: func(f *v1alpha1.TenantFanOut) string {
			if isPlanned(f) || f.Status.CompletionTime != nil || f.Spec.Tenants.RetryOf == nil {
				return ""
			}
			return f.Spec.Tenants.RetryOf.Name
		},
	} {
		keys := func(obj client.Object) []string {
			if value := key(obj.(*v1alpha1.TenantFanOut)); value != "" {
				return []string{value}
			}
			return nil
		}
		if err := indexer.IndexField(context.Background(), &v1alpha1.TenantFanOut{}, name, keys); err != nil {
			return fmt.Errorf("indexing TenantFanOuts by %s: %w", name, err)
		}
	}
	return nil
}

func isPlanned(f *v1alpha1.TenantFanOut) bool {
	return meta.IsStatusConditionTrue(f.Status.Conditions, v1alpha1.ConditionPlanned)
}

// FanOutsOfSchedule returns the fan-outs that a TenantSchedule has made, from the cache. They are for reading only.
func FanOutsOfSchedule(ctx context.Context, reader client.Reader, uid types.UID) ([]v1alpha1.TenantFanOut, error) {
	return fanOutsBy(ctx, reader, indexSchedule, string(uid))
}

// FanOutsAwaitingTemplate returns the fan-outs without a plan that run a template, from the cache. They are for reading
// only.
func FanOutsAwaitingTemplate(ctx context.Context, reader client.Reader, template string) ([]v1alpha1.TenantFanOut, error) {
	return fanOutsBy(ctx, reader, indexUnplannedTemplate, template)
}

// FanOutsAwaitingSource returns the fan-outs without a plan that retry a fan-out, from the cache. They are for reading
// only.
func FanOutsAwaitingSource(ctx context.Context, reader client.Reader, source string) ([]v1alpha1.TenantFanOut, error) {
	return fanOutsBy(ctx, reader, indexUnplannedSource, source)
}

func fanOutsBy(ctx context.Context, reader client.Reader, index, value string) ([]v1alpha1.TenantFanOut, error) {
	var list v1alpha1.TenantFanOutList
	if err := reader.List(ctx, &list, client.MatchingFields{index: value}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing TenantFanOuts by %s from the cache: %w", index, err)
	}
	return list.Items, nil
}
