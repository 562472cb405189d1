package controller

import (
	"fmt"
	"maps"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// CacheOptions bound what the manager keeps in memory: of namespaces and Jobs only those that are tenants', and of Jobs
// not the pod template, which is most of them and which nobody reads.
func CacheOptions() cache.Options {
	tenants := client.HasLabels{v1alpha1.LabelTenant}
	selector := client.ListOptions{}
	tenants.ApplyToList(&selector)
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Namespace{}: {Label: selector.LabelSelector},
			&batchv1.Job{}:      {Label: selector.LabelSelector, Transform: stripJob},
		},
	}
}

// ClientOptions keep the client from starting a watch for what is read seldom.
func ClientOptions() client.Options {
	return client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{
		&corev1.Pod{}, &corev1.Secret{}, &corev1.ConfigMap{}, &corev1.Event{}, &corev1.ServiceAccount{}, &corev1.ResourceQuota{},
		&corev1.LimitRange{},
		&networkingv1.NetworkPolicy{}, &rbacv1.RoleBinding{},
	}}}
}

// stripJob takes off a Job what the cache need not hold. Such a Job can be patched and deleted, never updated.
func stripJob(obj any) (any, error) {
	job, ok := obj.(*batchv1.Job)
	if !ok {
		if _, tombstone := obj.(toolscache.DeletedFinalStateUnknown); tombstone {
			return obj, nil
		}
		return nil, fmt.Errorf("caching a Job: unexpected %T", obj)
	}
	job.ManagedFields = nil
	maps.DeleteFunc(job.Annotations, func(key, _ string) bool { return key != v1alpha1.AnnotationTemplateGeneration })
	job.Spec.Template = corev1.PodTemplateSpec{}
	return job, nil
}
