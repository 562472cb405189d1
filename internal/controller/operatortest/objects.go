package operatortest

import (
	"context"
	"fmt"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Patience is how long a test waits for a state. It only has to be more than a slow machine needs that has other work to do.
const Patience = 4 * time.Minute

// Eventually waits until all that is expected holds.
func Eventually(t *testing.T, holds func(g gomega.Gomega)) {
	t.Helper()
	gomega.NewWithT(t).Eventually(holds).WithTimeout(Patience).WithPolling(100 * time.Millisecond).Should(gomega.Succeed())
}

// AwaitSignal waits until a channel is closed.
func AwaitSignal(t *testing.T, signal <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-signal:
	case <-time.After(Patience):
		t.Fatal(what)
	}
}

// Read reads an object anew: decoding alone would leave the labels that it no longer has.
func Read(ctx context.Context, obj client.Object) error {
	key := client.ObjectKeyFromObject(obj)
	reflect.ValueOf(obj).Elem().SetZero()
	obj.SetNamespace(key.Namespace)
	obj.SetName(key.Name)
	return Admin.Get(ctx, key, obj)
}

// Get reads an object and fails the expectations if there is none.
func Get[T client.Object](t *testing.T, g gomega.Gomega, obj T) T {
	t.Helper()
	g.Expect(Read(t.Context(), obj)).To(gomega.Succeed())
	return obj
}

// Create makes an object, which goes with the test.
func Create[T client.Object](t *testing.T, obj T) T {
	t.Helper()
	if err := Admin.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Admin.Delete(context.Background(), obj, client.Preconditions{UID: new(obj.GetUID())}) })
	return obj
}

// Patch changes an object, whatever has happened to it since it was read.
func Patch[T client.Object](t *testing.T, obj T, change func(T)) T {
	t.Helper()
	if err := Read(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	base := obj.DeepCopyObject().(client.Object)
	change(obj)
	if err := Admin.Patch(t.Context(), obj, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
	return obj
}

// Remove deletes an object.
func Remove(t *testing.T, obj client.Object, opts ...client.DeleteOption) {
	t.Helper()
	if err := Admin.Delete(t.Context(), obj, opts...); err != nil {
		t.Fatal(err)
	}
}

// Serial numbers the objects of all tests, so that each has a name of its own.
var Serial atomic.Int64

// NewTenant makes a Tenant with a name of its own.
func NewTenant(t *testing.T, spec v1alpha1.TenantSpec) *v1alpha1.Tenant {
	t.Helper()
	name := fmt.Sprintf("t%d", Serial.Add(1))
	return Create(t, &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec})
}

// NewReadyTenant makes a Tenant and waits until it is Ready.
func NewReadyTenant(t *testing.T, spec v1alpha1.TenantSpec) *v1alpha1.Tenant {
	t.Helper()
	tenant := NewTenant(t, spec)
	AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	return tenant
}

// AwaitCondition waits until a Tenant says something of its present generation.
func AwaitCondition(t *testing.T, tenant *v1alpha1.Tenant, conditionType string, status metav1.ConditionStatus, reason, message string) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		Get(t, g, tenant)
		c := meta.FindStatusCondition(tenant.Status.Conditions, conditionType)
		g.Expect(c).NotTo(gomega.BeNil())
		g.Expect([]any{c.Status, c.Reason, c.Message}).To(gomega.HaveExactElements(status, reason, gomega.ContainSubstring(message)))
		g.Expect([]int64{c.ObservedGeneration, tenant.Status.ObservedGeneration}).To(gomega.HaveEach(tenant.Generation))
	})
}

// AwaitEvents waits until events have emitted of a Tenant, in whatever order.
func AwaitEvents(t *testing.T, tenant *v1alpha1.Tenant, reasons ...string) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		var all eventsv1.EventList
		g.Expect(Admin.List(t.Context(), &all)).To(gomega.Succeed())
		var emitted []string
		for _, e := range all.Items {
			if e.Regarding.UID == tenant.UID {
				emitted = append(emitted, e.Reason)
			}
		}
		g.Expect(emitted).To(gomega.ConsistOf(reasons))
	})
}

// NamespaceOf is the namespace of a Tenant, to be read.
func NamespaceOf(tenant *v1alpha1.Tenant) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenant.NamespaceName()}}
}

// Within names an object in the namespace of a Tenant.
func Within(tenant *v1alpha1.Tenant, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: tenant.NamespaceName(), Name: name}
}

// NewTemplate makes a TenantJobTemplate with a name of its own, whose pod every namespace accepts.
func NewTemplate(t *testing.T, change func(*v1alpha1.TenantJobTemplate)) *v1alpha1.TenantJobTemplate {
	t.Helper()
	template := &v1alpha1.TenantJobTemplate{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("template-%d", Serial.Add(1))},
		Spec: v1alpha1.TenantJobTemplateSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{
			BackoffLimit: new(int32(0)),
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy:   corev1.RestartPolicyNever,
				SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
				Containers: []corev1.Container{{Name: "main", Image: "example.com/app", SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				}}},
			}},
		}}},
	}
	if change != nil {
		change(template)
	}
	return Create(t, template)
}

// NewTenantJob makes a TenantJob with a name of its own.
func NewTenantJob(t *testing.T, tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate) *v1alpha1.TenantJob {
	t.Helper()
	return Create(t, &v1alpha1.TenantJob{
		ObjectMeta: Within(tenant, fmt.Sprintf("run-%d", Serial.Add(1))),
		Spec: v1alpha1.TenantJobSpec{
			TenantRef:   v1alpha1.TenantReference{Name: tenant.Name},
			TemplateRef: v1alpha1.LabelReference{Name: template.Name},
		},
	})
}

// AwaitRunningPod waits until a TenantJob has a pod that runs, and returns it.
func AwaitRunningPod(t *testing.T, tj *v1alpha1.TenantJob) *corev1.Pod {
	t.Helper()
	var pods corev1.PodList
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(Admin.List(t.Context(), &pods, client.InNamespace(tj.Namespace), client.MatchingLabels{batchv1.JobNameLabel: tj.Name})).To(gomega.Succeed())
		g.Expect(pods.Items).To(gomega.HaveLen(1))
		g.Expect(pods.Items[0].Status.Phase).To(gomega.Equal(corev1.PodRunning))
	})
	return &pods.Items[0]
}

// AwaitOutcome waits until a TenantJob is over for a reason.
func AwaitOutcome(t *testing.T, tj *v1alpha1.TenantJob, reason string) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		Get(t, g, tj)
		c := meta.FindStatusCondition(tj.Status.Conditions, v1alpha1.ConditionSucceeded)
		g.Expect(c).NotTo(gomega.BeNil())
		g.Expect(c.Reason).To(gomega.Equal(reason), c.Message)
	})
}

// AwaitGone waits until there is no such object.
func AwaitGone(t *testing.T, obj client.Object) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		err := Read(t.Context(), obj)
		g.Expect(apierrors.IsNotFound(err)).To(gomega.BeTrue(), "%v, held by %v", err, obj.GetFinalizers())
	})
}
