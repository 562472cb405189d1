package tenant

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Claim is what right a Tenant has to the namespace that it names.
type Claim string

const (
	// Missing means that the namespace does not exist, and may be created.
	Missing Claim = "Missing"
	// Owned means that the namespace belongs to this Tenant, by UID and not by name alone. It may be terminating.
	Owned Claim = "Owned"
	// Adoptable means that the namespace belongs to no Tenant, and the platform consents that this Tenant adopts it.
	Adoptable Claim = "Adoptable"
	// Terminating means that the namespace does not belong to this Tenant, and is being deleted.
	Terminating Claim = "Terminating"
	// Conflict means that the namespace belongs to somebody else.
	Conflict Claim = "Conflict"
)

// ClaimOf returns a Tenant's claim to its namespace and, when it may not have the namespace, a message that says what a
// person can do about that. A nil namespace does not exist. Exists says whether there is a Tenant of a name.
func ClaimOf(t *v1alpha1.Tenant, namespace *metav1.PartialObjectMetadata, operatorNamespace string, exists func(tenant string) bool) (Claim, string) {
	name := t.NamespaceName()
	if name == operatorNamespace || name == metav1.NamespaceDefault || strings.HasPrefix(name, "kube-") {
		return Conflict, fmt.Sprintf("namespace %s belongs to the cluster or to the operator and is never a tenant's: create the Tenant again with another `spec.namespace.name`", name)
	}
	if namespace == nil {
		return Missing, ""
	}
	// The annotation can't be forged in advance, because nobody knows the UID of a Tenant that does not exist yet. The status
	// counts too, because somebody may have removed the annotation.
	owner := types.UID(namespace.Annotations[v1alpha1.AnnotationTenantUID])
	if owner == t.UID || t.Status.Namespace != nil && t.Status.Namespace.UID == namespace.UID {
		return Owned, ""
	}
	if namespace.DeletionTimestamp != nil {
		return Terminating, terminatingMessage(name)
	}
	adopt := fmt.Sprintf("to hand it over run `kubectl annotate --overwrite namespace %s %s=%s`", name, v1alpha1.AnnotationAdoptBy, t.Name)
	label := namespace.Labels[v1alpha1.LabelTenant]
	switch {
	case label != "" && label != t.Name && exists(label):
		return Conflict, fmt.Sprintf("namespace %s has the label of tenant %s: create the Tenant again with another `spec.namespace.name`, or delete Tenant %s first", name, label, label)
	case namespace.Annotations[v1alpha1.AnnotationAdoptBy] == t.Name:
		return Adoptable, ""
	case label == t.Name:
		return Conflict, fmt.Sprintf("namespace %s has the label of this tenant and was not made for this Tenant: delete it if an earlier Tenant left it behind, or %s", name, adopt)
	default:
		return Conflict, fmt.Sprintf("namespace %s exists already: %s", name, adopt)
	}
}

func terminatingMessage(namespace string) string {
	return fmt.Sprintf("namespace %s is being deleted; it is made again when it is gone", namespace)
}

// IsAdopted says whether a Tenant's namespace existed before the operator took it over. Such a namespace is never deleted. The
// status counts too, because somebody may have removed the annotations.
func IsAdopted(t *v1alpha1.Tenant, namespace *metav1.PartialObjectMetadata) bool {
	if namespace == nil {
		return false
	}
	known := t.Status.Namespace
	return namespace.Annotations[v1alpha1.AnnotationAdopted] == "true" || namespace.Annotations[v1alpha1.AnnotationAdoptBy] == t.Name ||
		known != nil && known.UID == namespace.UID && known.Adopted
}

// Retains says whether the namespace stays when its Tenant is deleted.
func Retains(t *v1alpha1.Tenant, namespace *metav1.PartialObjectMetadata) bool {
	return IsAdopted(t, namespace) || t.Spec.Namespace != nil && t.Spec.Namespace.DeletionPolicy == v1alpha1.NamespaceRetain
}
