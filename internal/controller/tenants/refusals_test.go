package tenants

import (
	"context"
	"errors"
	"slices"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/tenant"
)

// TestRefusedDeletionsKeepNoOthers: of a tenant that is being suspended, one pod or Job that can't be deleted keeps no other.
func TestRefusedDeletionsKeepNoOthers(t *testing.T) {
	t.Parallel()
	o := tenant.Observed{Tenant: &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "acme"}, Spec: v1alpha1.TenantSpec{Suspend: new(true)}}}
	for _, name := range []string{"a", "b", "c"} {
		meta := metav1.ObjectMeta{Namespace: "tenant-acme", Name: name, UID: types.UID(name)}
		o.Pods = append(o.Pods, corev1.Pod{ObjectMeta: meta})
		o.Jobs = append(o.Jobs, &batchv1.Job{ObjectMeta: meta})
	}
	for what, act := range map[string]func(*Reconciler, context.Context, *tenant.Observed) error{
		"pods": (*Reconciler).deletePods, "Jobs": (*Reconciler).deleteOrphans,
	} {
		t.Run(what, func(t *testing.T) {
			var deleted []string
			api := fake.NewClientBuilder().WithInterceptorFuncs(interceptor.Funcs{
				Delete: func(_ context.Context, _ client.WithWatch, obj client.Object, _ ...client.DeleteOption) error {
					if obj.GetName() == "a" {
						return apierrors.NewForbidden(schema.GroupResource{}, "a", errors.New("a policy forbids it"))
					}
					deleted = append(deleted, obj.GetName())
					return nil
				},
			}).Build()
			emitted := events.NewFakeRecorder(10)
			err := act(&Reconciler{Client: kube.Client{Client: api, Live: api, Events: emitted}}, t.Context(), &o)
			if !apierrors.IsForbidden(err) || !slices.Equal(deleted, []string{"b", "c"}) || len(emitted.Events) != 1 {
				t.Errorf("deleted %v, emitted %d events: %v", deleted, len(emitted.Events), err)
			}
		})
	}
}
