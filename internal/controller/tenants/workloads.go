package tenants

import (
	"context"
	"fmt"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/internal/tenant"
)

// workloadKinds are the kinds that run pods.
var workloadKinds = []schema.GroupVersionKind{
	batchv1.SchemeGroupVersion.WithKind("CronJob"), batchv1.SchemeGroupVersion.WithKind("Job"),
	appsv1.SchemeGroupVersion.WithKind("DaemonSet"), appsv1.SchemeGroupVersion.WithKind("Deployment"),
	appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), appsv1.SchemeGroupVersion.WithKind("StatefulSet"),
	corev1.SchemeGroupVersion.WithKind("ReplicationController"), corev1.SchemeGroupVersion.WithKind("Pod"),
}

// listLimit is how many objects of a kind are read in a tenant's namespace, at most. More than that need not be told apart.
const listLimit = 500

// listWorkloads finds the workloads in a tenant's namespace that are no runs. The rights come from the RoleBinding that the operator
// has there. That it fails keeps nothing from going on.
func (r *Reconciler) listWorkloads(ctx context.Context, o *tenant.Observed) error {
	var objects []metav1.PartialObjectMetadata
	for _, kind := range workloadKinds {
		var list metav1.PartialObjectMetadataList
		list.SetGroupVersionKind(kind)
		if o.WorkloadsErr = r.Live.List(ctx, &list, client.InNamespace(o.Namespace.Name), client.Limit(listLimit)); o.WorkloadsErr != nil {
			o.WorkloadsErr = fmt.Errorf("listing each %s: %w", kind.Kind, o.WorkloadsErr)
			return nil
		}
		for _, item := range list.Items {
			item.SetGroupVersionKind(kind)
			objects = append(objects, item)
		}
	}
	o.Workloads = tenant.WorkloadsOf(objects)
	r.workloads.Lock()
	defer r.workloads.Unlock()
	if len(o.Workloads) == 0 {
		delete(r.workloads.byTenant, o.Tenant.Name)
		return nil
	}
	if r.workloads.byTenant == nil {
		r.workloads.byTenant = map[string]int{}
	}
	r.workloads.byTenant[o.Tenant.Name] = len(o.Workloads)
	return nil
}

// ForeignWorkloads returns how many workloads that are no runs were found in the namespaces of tenants, by tenant.
func (r *Reconciler) ForeignWorkloads() map[string]int {
	r.workloads.Lock()
	defer r.workloads.Unlock()
	return maps.Clone(r.workloads.byTenant)
}

func (r *Reconciler) forget(name string) {
	r.workloads.Lock()
	delete(r.workloads.byTenant, name)
	r.workloads.Unlock()
	r.Forget(name)
}
