package operatortest

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// NewNamespace makes a namespace that is somebody else's.
func NewNamespace(t *testing.T, change func(*corev1.Namespace)) *corev1.Namespace {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: fmt.Sprintf("theirs-%d", Serial.Add(1)), Labels: map[string]string{"theirs": "label"}, Annotations: map[string]string{"theirs": "annotation"},
	}}
	if change != nil {
		change(namespace)
	}
	return Create(t, namespace)
}

// Consent allows a Tenant to adopt a namespace.
func Consent(t *testing.T, namespace *corev1.Namespace, tenant string) {
	t.Helper()
	Patch(t, namespace, func(o *corev1.Namespace) {
		metav1.SetMetaDataAnnotation(&o.ObjectMeta, v1alpha1.AnnotationAdoptBy, tenant)
	})
}

// Suspend suspends a Tenant, for Patch.
func Suspend(o *v1alpha1.Tenant) { o.Spec.Suspend = new(true) }

// Resume resumes a Tenant, for Patch.
func Resume(o *v1alpha1.Tenant) { o.Spec.Suspend = nil }

// Lingering is a pod that does not go when it is deleted, until it is emitted to.
func Lingering(o *v1alpha1.TenantJobTemplate) {
	metav1.SetMetaDataAnnotation(&o.Spec.JobTemplate.Spec.Template.ObjectMeta, AnnotationLingers, "true")
}

// LetGo lets a pod of a Lingering template be deleted.
func LetGo(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	Patch(t, pod, func(o *corev1.Pod) { delete(o.Annotations, AnnotationLingers) })
}

// AtMost is a Tenant that runs at most so many TenantJobs at once.
func AtMost(n int32) v1alpha1.TenantSpec {
	return v1alpha1.TenantSpec{Jobs: &v1alpha1.TenantJobLimits{MaxConcurrent: &n}}
}
