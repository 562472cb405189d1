package tenant

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Claim is what the namespace that a Tenant names is to it.
type Claim string

const (
	// Missing: there is none, and it may be made.
	Missing Claim = "Missing"
	// Ours: it is this Tenant's, and not merely one's of the same name. It may be terminating all the same.
	Ours Claim = "Ours"
	// Adoptable: it is nobody's, and the platform has consented that this Tenant takes it over.
	Adoptable Claim = "Adoptable"
	// Terminating: it is not this Tenant's, and will soon be gone.
	Terminating Claim = "Terminating"
	// Conflict: it is somebody else's.
	Conflict Claim = "Conflict"
)

// ClaimOn returns what a namespace is to a Tenant and, when the Tenant can't have it, what a person can do about that. A
// nil namespace is one that does not exist; lives says whether there is a Tenant of a name.
func ClaimOn(namespace *metav1.PartialObjectMetadata, t *v1alpha1.Tenant, operatorNamespace string, lives func(tenant string) bool) (Claim, string) {
	name := t.NamespaceName()
	if name == operatorNamespace || name == metav1.NamespaceDefault || strings.HasPrefix(name, "kube-") {
		return Conflict, fmt.Sprintf("namespace %s is the cluster's or the operator's own and is never a tenant's: make the Tenant again with another `spec.namespace.name`", name)
	}
	if namespace == nil {
		return Missing, ""
	}
	// Nobody can put a UID on in advance. The status holds when somebody took the annotation off.
	owner := types.UID(namespace.Annotations[v1alpha1.AnnotationTenantUID])
	if owner == t.UID || t.Status.Namespace != nil && t.Status.Namespace.UID == namespace.UID {
		return Ours, ""
	}
	if namespace.DeletionTimestamp != nil {
		return Terminating, fmt.Sprintf("namespace %s is being deleted; it is made again when it is gone", name)
	}
	adopt := fmt.Sprintf("to hand it over run `kubectl annotate --overwrite namespace %s %s=%s`", name, v1alpha1.AnnotationAdoptBy, t.Name)
	label := namespace.Labels[v1alpha1.LabelTenant]
	switch {
	case label != "" && label != t.Name && lives(label):
		return Conflict, fmt.Sprintf("namespace %s is labelled as tenant %s's: make the Tenant again with another `spec.namespace.name`, or delete Tenant %s first", name, label, label)
	case namespace.Annotations[v1alpha1.AnnotationAdoptBy] == t.Name:
		return Adoptable, ""
	case label == t.Name:
		return Conflict, fmt.Sprintf("namespace %s is labelled as this tenant's and was not made for this Tenant: delete it if an earlier Tenant left it behind, or %s", name, adopt)
	default:
		return Conflict, fmt.Sprintf("namespace %s exists already: %s", name, adopt)
	}
}

// IsAdopted says whether a Tenant's namespace was there before the operator: it is never deleted.
func IsAdopted(namespace *metav1.PartialObjectMetadata, t *v1alpha1.Tenant) bool {
	return namespace != nil &&
		(namespace.Annotations[v1alpha1.AnnotationAdopted] == "true" || namespace.Annotations[v1alpha1.AnnotationAdoptBy] == t.Name)
}

// Retains says whether the namespace outlives its Tenant.
func Retains(namespace *metav1.PartialObjectMetadata, t *v1alpha1.Tenant) bool {
	return IsAdopted(namespace, t) || t.Spec.Namespace != nil && t.Spec.Namespace.DeletionPolicy == v1alpha1.NamespaceRetain
}
