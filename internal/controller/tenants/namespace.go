package tenants

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/tenant"
)

// Tenants' namespaces: created, applied, adopted, released and deleted.
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch;create;patch;delete

// createNamespace creates the namespace with those labels and annotations only that every tenant's namespace always has. An
// apply can't remove later what was created here, because an apply removes only what an apply has set.
func (r *Reconciler) createNamespace(ctx context.Context, o *tenant.Observed) error {
	created := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:        o.Tenant.NamespaceName(),
		Labels:      map[string]string{},
		Annotations: map[string]string{v1alpha1.AnnotationTenantUID: string(o.Tenant.UID)},
	}}
	for _, key := range []string{v1alpha1.LabelTenant, v1alpha1.LabelManaged, v1alpha1.LabelState, v1alpha1.LabelEnforcement} {
		created.Labels[key] = o.Desired.Labels[key]
	}
	if err := r.Create(ctx, created, client.FieldOwner(kube.FieldManager)); err != nil {
		return fmt.Errorf("creating namespace %s: %w", created.Name, err)
	}
	o.Namespace = kube.NamespaceMetadata(created.Name)
	o.Namespace.ObjectMeta = created.ObjectMeta
	log.FromContext(ctx).V(2).Info("Created the namespace", "namespace", klog.KObj(created))
	return nil
}

// applyNamespace writes the desired labels and annotations. It keeps the hash only if it is right. Otherwise the operator could
// die before the contents are written, and the next reconciliation would believe that they were.
func (r *Reconciler) applyNamespace(ctx context.Context, o *tenant.Observed) error {
	applied, err := r.applyMetadata(ctx, o.Namespace, o.Desired, o.Desired.WrittenTo(o.Namespace))
	if err != nil {
		return err
	}
	o.Namespace = applied
	if o.Claim == tenant.Adoptable {
		log.FromContext(ctx).V(2).Info("Adopted the namespace", "namespace", klog.KObj(applied))
		r.Note(o.Tenant, "NamespaceAdopted", "Adopt",
			fmt.Sprintf("namespace %s belongs to this tenant now; it will be released and not deleted with the tenant", applied.Name))
	}
	return nil
}

// applyMetadata applies labels and annotations to the namespace with the UID that was observed, never to another of its name.
// It returns the metadata that the namespace has then.
func (r *Reconciler) applyMetadata(
	ctx context.Context, namespace *metav1.PartialObjectMetadata, desired tenant.Desired, withHash bool,
) (*metav1.PartialObjectMetadata, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	u.SetName(namespace.Name)
	u.SetUID(namespace.UID)
	u.SetLabels(desired.Labels)
	annotations := maps.Clone(desired.Annotations)
	if withHash {
		annotations[v1alpha1.AnnotationDesiredHash] = desired.Hash
	}
	u.SetAnnotations(annotations)
	err := r.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(kube.FieldManager), client.ForceOwnership)
	if err != nil {
		return nil, fmt.Errorf("applying namespace %s: %w", namespace.Name, err)
	}
	applied := kube.NamespaceMetadata(namespace.Name)
	applied.UID, applied.DeletionTimestamp = u.GetUID(), u.GetDeletionTimestamp()
	applied.Labels, applied.Annotations = u.GetLabels(), u.GetAnnotations()
	return applied, nil
}
