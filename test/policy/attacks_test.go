package policy_test

import (
	"context"
	"maps"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// doing is a request.
type doing func(context.Context, client.Client) error

// attack is something that somebody tries.
type attack struct {
	name string
	as   user
	// do asks for it. Nothing is changed: it is a dry run, unless real is set.
	do   doing
	real bool
	// refused is what the refusal says, after the name of the policy. Empty means that it is allowed.
	refused string
	// probe is set on one attack for each policy. When all of these are refused, the policies are in force.
	probe bool
}

// try does it and returns the error.
func (a attack) try(t *testing.T) error {
	t.Helper()
	if a.real {
		return a.do(t.Context(), a.as.client(t))
	}
	return a.do(t.Context(), client.NewDryRunClient(a.as.client(t)))
}

// isRefusedByPolicy says whether an error comes from an admission policy.
func isRefusedByPolicy(err error) bool {
	return err != nil && strings.Contains(err.Error(), "ValidatingAdmissionPolicy")
}

func TestAttacks(t *testing.T) {
	w := newWorld(t)
	for _, a := range attacks(w) {
		t.Run(a.name, func(t *testing.T) {
			switch err := a.try(t); {
			case a.refused == "" && err != nil:
				t.Errorf("refused: %v", err)
			case a.refused != "" && (!isRefusedByPolicy(err) || !strings.Contains(err.Error(), a.refused)):
				t.Errorf("got %v, want a refusal by a policy that says %q", err, a.refused)
			}
		})
	}
}

// The requests of these attacks are made by functions with short names, so that the table is readable.

func create(obj client.Object) doing {
	return func(ctx context.Context, c client.Client) error {
		return c.Create(ctx, obj.DeepCopyObject().(client.Object))
	}
}

// update reads the object as the administrator and writes it as somebody else.
func update[T client.Object](obj T, change func(T)) doing {
	return func(ctx context.Context, c client.Client) error {
		o := obj.DeepCopyObject().(T)
		if err := Read(ctx, o); err != nil {
			return err
		}
		base := o.DeepCopyObject().(client.Object)
		change(o)
		return c.Patch(ctx, o, client.MergeFrom(base))
	}
}

// updateOf is update for a subresource.
func updateOf[T client.Object](subresource string, obj T, change func(T)) doing {
	return func(ctx context.Context, c client.Client) error {
		o := obj.DeepCopyObject().(T)
		if err := Read(ctx, o); err != nil {
			return err
		}
		change(o)
		return c.SubResource(subresource).Update(ctx, o)
	}
}

func remove(obj client.Object, opts ...client.DeleteOption) doing {
	return func(ctx context.Context, c client.Client) error {
		return c.Delete(ctx, obj.DeepCopyObject().(client.Object), opts...)
	}
}

func removeAll(obj client.Object, namespace string) doing {
	return func(ctx context.Context, c client.Client) error {
		return c.DeleteAllOf(ctx, obj, client.InNamespace(namespace), client.PropagationPolicy(metav1.DeletePropagationBackground))
	}
}

func removeAllOrphaning(obj client.Object, namespace string) doing {
	return func(ctx context.Context, c client.Client) error {
		return c.DeleteAllOf(ctx, obj, client.InNamespace(namespace), client.PropagationPolicy(metav1.DeletePropagationOrphan))
	}
}

// patchStatus writes a status as the operator does.
func patchStatus[T client.Object](obj T, change func(T)) doing {
	return func(ctx context.Context, c client.Client) error {
		o := obj.DeepCopyObject().(T)
		if err := Read(ctx, o); err != nil {
			return err
		}
		base := o.DeepCopyObject().(client.Object)
		change(o)
		return c.Status().Patch(ctx, o, client.MergeFrom(base))
	}
}

func mintToken(namespace, serviceAccount string) doing {
	return func(ctx context.Context, c client.Client) error {
		return c.SubResource("token").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: serviceAccount}},
			&authenticationv1.TokenRequest{})
	}
}

// tj is a TenantJob that somebody creates.
func tj(in, of *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate, change func(*v1alpha1.TenantJob)) *v1alpha1.TenantJob {
	o := &v1alpha1.TenantJob{ObjectMeta: Within(in, "attack"), Spec: v1alpha1.TenantJobSpec{
		TenantRef: v1alpha1.TenantReference{Name: of.Name}, TemplateRef: v1alpha1.LabelReference{Name: template.Name},
	}}
	if change != nil {
		change(o)
	}
	return o
}

var podSpec = corev1.PodSpec{
	RestartPolicy: corev1.RestartPolicyNever, ServiceAccountName: v1alpha1.RunnerServiceAccount,
	SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
	Containers: []corev1.Container{{Name: "main", Image: "example.com/app", SecurityContext: &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}}},
}

func podTemplate() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "attack"}}, Spec: *podSpec.DeepCopy()}
}

func newJob(namespace string, change func(*batchv1.Job)) *batchv1.Job {
	o := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "attack"}, Spec: batchv1.JobSpec{Template: podTemplate()}}
	if change != nil {
		change(o)
	}
	return o
}

func newCronJob(namespace string) *batchv1.CronJob {
	return &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "attack"}, Spec: batchv1.CronJobSpec{
		Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: podTemplate()}},
	}}
}

func newDeployment(namespace string) *appsv1.Deployment {
	template := podTemplate()
	template.Spec.RestartPolicy = corev1.RestartPolicyAlways
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "attack"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "attack"}}, Template: template,
	}}
}

func newPod(namespace string, change func(*corev1.Pod)) *corev1.Pod {
	o := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "attack"}, Spec: *podSpec.DeepCopy()}
	if change != nil {
		change(o)
	}
	return o
}

func named(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

func clusterRoleBinding(namespace, clusterRole string, subjects ...rbacv1.Subject) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: named(namespace, "attack"),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: clusterRole}, Subjects: subjects,
	}
}

func label[T client.Object](key, value string) func(T) {
	return func(o T) { o.SetLabels(with(o.GetLabels(), key, value)) }
}

func unlabel[T client.Object](key string) func(T) {
	return func(o T) { o.SetLabels(without(o.GetLabels(), key)) }
}

func annotate[T client.Object](key, value string) func(T) {
	return func(o T) { o.SetAnnotations(with(o.GetAnnotations(), key, value)) }
}

func unannotate[T client.Object](key string) func(T) {
	return func(o T) { o.SetAnnotations(without(o.GetAnnotations(), key)) }
}

func with(all map[string]string, key, value string) map[string]string {
	changed := map[string]string{key: value}
	for k, v := range all {
		if k != key {
			changed[k] = v
		}
	}
	return changed
}

func without(all map[string]string, key string) map[string]string {
	changed := maps.Clone(all)
	delete(changed, key)
	return changed
}

func finalize[T client.Object](finalizers ...string) func(T) {
	return func(o T) { o.SetFinalizers(finalizers) }
}

func own[T client.Object](owners ...metav1.OwnerReference) func(T) {
	return func(o T) { o.SetOwnerReferences(owners) }
}

var (
	orphan     = client.PropagationPolicy(metav1.DeletePropagationOrphan)
	background = client.PropagationPolicy(metav1.DeletePropagationBackground)
	foreground = client.PropagationPolicy(metav1.DeletePropagationForeground)
	// stranger is an owner that does not exist: the garbage collector deletes what it owns.
	stranger = metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "gone", UID: "00000000-0000-0000-0000-000000000000"}
)

// allowEverything is the network policy that opens a namespace for good.
func allowEverything(namespace string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: named(namespace, "attack"), Spec: networkingv1.NetworkPolicySpec{
		Ingress: []networkingv1.NetworkPolicyIngressRule{{}}, Egress: []networkingv1.NetworkPolicyEgressRule{{}},
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
	}}
}
