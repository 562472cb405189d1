package kube

import (
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

// Changed passes the updates that change what relevant returns, and all creations and deletions.
func Changed(relevant func(client.Object) any) predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !equality.Semantic.DeepEqual(relevant(e.ObjectOld), relevant(e.ObjectNew))
	}}
}

// OnDelete calls back with the name of each object that is deleted. It passes deletions if pass is set, and all else.
func OnDelete(deleted func(name string), pass bool) predicate.Predicate {
	return predicate.Funcs{DeleteFunc: func(e event.DeleteEvent) bool {
		deleted(e.Object.GetName())
		return pass
	}}
}

// TemplateChange is what TenantJobs and fan-outs look at in a TenantJobTemplate, for Changed.
func TemplateChange(obj client.Object) any {
	template := obj.(*v1alpha1.TenantJobTemplate)
	return []any{template.Generation, conditions.Ready(template.Status.Conditions)}
}
