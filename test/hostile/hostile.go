// Package hostile sends random requests of a tenant's member who means harm to another tenant, and tells what that one has.
package hostile

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Member is a hostile member of a tenant, with the role Dispatcher.
type Member struct {
	// Client sends requests as the member, whose user is named Name.
	client.Client
	Name string
	// Rand chooses the requests. The same one makes the same sequence as long as the cluster answers the same.
	*rand.Rand
	// Own is the member's tenant, Victim is another.
	Own, Victim *v1alpha1.Tenant
	// Templates are names of TenantJobTemplates which the member tries to dispatch. It may dispatch the first, and no other.
	Templates []string
	// Names are those of TenantJobs of both tenants at which requests are aimed. Created ones are added.
	Names []string
}

// NewRand returns a source of random numbers and the seed of it, which TENANTRY_SEED sets.
func NewRand() (*rand.Rand, uint64) {
	seed, err := strconv.ParseUint(os.Getenv("TENANTRY_SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	return rand.New(rand.NewPCG(seed, 0)), seed
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// Request sends a random request. It returns what it was, what the API server said, and whether the member may send it: one that it may
// not send must be refused.
func (m *Member) Request(ctx context.Context) (what string, permitted bool, err error) {
	target := pick(m.Rand, m.Own, m.Own, m.Victim)
	permitted = target == m.Own
	in := metav1.ObjectMeta{Namespace: target.NamespaceName(), Name: pick(m.Rand, m.Names...)}
	existing := &v1alpha1.TenantJob{ObjectMeta: in}
	switch m.IntN(14) {
	case 0, 1, 2:
		return m.create(ctx, in)
	case 3, 4, 5:
		base := existing.DeepCopy()
		m.forge(existing)
		existing.Spec.Cancel = pick(m.Rand, nil, new(true))
		return "patch TenantJob " + in.Name, permitted, m.Patch(ctx, existing, client.MergeFrom(base))
	case 6:
		how := pick(m.Rand, metav1.DeletePropagationOrphan, metav1.DeletePropagationBackground, metav1.DeletePropagationForeground)
		return fmt.Sprintf("delete TenantJob %s, %s", in.Name, how), permitted, m.Delete(ctx, existing, client.PropagationPolicy(how))
	case 7:
		return "delete all TenantJobs", permitted, m.DeleteAllOf(ctx, existing, client.InNamespace(in.Namespace))
	case 8:
		list := pick[client.ObjectList](m.Rand, &v1alpha1.TenantJobList{}, &batchv1.JobList{}, &corev1.PodList{}, &corev1.EventList{}, &corev1.ConfigMapList{})
		return fmt.Sprintf("list %T", list), permitted, m.List(ctx, list, client.InNamespace(in.Namespace))
	case 9:
		return "get TenantJob " + in.Name, permitted, m.Get(ctx, client.ObjectKeyFromObject(existing), existing)
	case 10:
		o := pick[client.Object](m.Rand, m.job(in.Namespace), m.cronJob(in.Namespace), m.pod(in.Namespace), m.networkPolicy(in.Namespace), m.roleBinding(in.Namespace))
		return fmt.Sprintf("create %T", o), false, m.Create(ctx, o)
	case 11:
		body := `{"status":{"conditions":[{"type":"Succeeded","status":"True","reason":"Completed","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`
		return "forge the status of TenantJob " + in.Name, false, m.Status().Patch(ctx, existing, client.RawPatch(types.MergePatchType, []byte(body)))
	case 12:
		o := pick[client.Object](m.Rand, &corev1.Secret{}, &corev1.Pod{}, &batchv1.Job{}, &networkingv1.NetworkPolicy{}, &corev1.ResourceQuota{})
		return fmt.Sprintf("delete all %T", o), false, m.DeleteAllOf(ctx, o, client.InNamespace(in.Namespace))
	}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"tenantry.dev/tenant":"x"}}}`))
	o := pick[client.Object](m.Rand, namespaceOf(target), target.DeepCopy(), &batchv1.Job{ObjectMeta: in}, &corev1.Pod{ObjectMeta: in})
	return fmt.Sprintf("patch %T", o), false, m.Patch(ctx, o, patch)
}

// create makes a TenantJob, of any tenant and template.
func (m *Member) create(ctx context.Context, in metav1.ObjectMeta) (what string, permitted bool, err error) {
	tenant := pick(m.Rand, m.Own, m.Own, m.Victim)
	template := pick(m.Rand, m.Templates...)
	in.Name = pick(m.Rand, fmt.Sprintf("hostile-%d", len(m.Names)), in.Name)
	o := &v1alpha1.TenantJob{ObjectMeta: in, Spec: v1alpha1.TenantJobSpec{
		TenantRef: v1alpha1.TenantReference{Name: tenant.Name}, TemplateRef: v1alpha1.LabelReference{Name: template},
	}}
	m.forge(o)
	if err = m.Create(ctx, o); err == nil {
		m.Names = append(m.Names, o.Name)
	}
	permitted = tenant == m.Own && in.Namespace == m.Own.NamespaceName() && template == m.Templates[0]
	return fmt.Sprintf("create a TenantJob of tenant %s and template %s", tenant.Name, template), permitted, err
}

// forge forges some metadata of a TenantJob, or none.
func (m *Member) forge(o *v1alpha1.TenantJob) {
	label := func(key, value string) func() {
		return func() { o.Labels = map[string]string{key: value} }
	}
	pick(m.Rand, func() {}, func() {},
		label(v1alpha1.LabelTenant, m.Victim.Name), label(v1alpha1.LabelFanOut, m.Names[0]), label(v1alpha1.TagPrefix+"payment", "1"),
		func() { o.Annotations = map[string]string{v1alpha1.AnnotationScheduledTime: "2026-01-01T00:00:00Z"} },
		func() { o.Finalizers = []string{"example.com/forever"} },
		func() { // The garbage collector deletes what an owner owned that does not exist.
			o.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "gone", UID: "00000000-0000-0000-0000-000000000000"}}
		},
	)()
}

func attack(namespace string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: "attack"}
}

func (m *Member) pod(namespace string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: attack(namespace), Spec: podSpec()}
}

func (m *Member) job(namespace string) *batchv1.Job {
	return &batchv1.Job{ObjectMeta: attack(namespace), Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: podSpec()}}}
}

func (m *Member) cronJob(namespace string) *batchv1.CronJob {
	return &batchv1.CronJob{ObjectMeta: attack(namespace), Spec: batchv1.CronJobSpec{
		Schedule: "* * * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: m.job(namespace).Spec},
	}}
}

// podSpec is accepted by every Pod Security level.
func podSpec() corev1.PodSpec {
	return corev1.PodSpec{
		RestartPolicy:   corev1.RestartPolicyNever,
		SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		Containers: []corev1.Container{{Name: "main", Image: "example.com/app", SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		}}},
	}
}

// networkPolicy allows everything.
func (m *Member) networkPolicy(namespace string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: attack(namespace), Spec: networkingv1.NetworkPolicySpec{
		Ingress: []networkingv1.NetworkPolicyIngressRule{{}}, Egress: []networkingv1.NetworkPolicyEgressRule{{}},
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
	}}
}

// roleBinding gives the member all rights.
func (m *Member) roleBinding(namespace string) *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: attack(namespace),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: m.Name}},
	}
}

func namespaceOf(tenant *v1alpha1.Tenant) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenant.NamespaceName()}}
}

// Everything returns what a tenant has, by kind and name: the metadata of each object, whose generation stands for its spec.
func Everything(ctx context.Context, c client.Client, tenant *v1alpha1.Tenant) (map[string]metav1.ObjectMeta, error) {
	objects := map[string]metav1.ObjectMeta{}
	add := func(o client.Object) {
		objects[fmt.Sprintf("%T %s", o, o.GetName())] = metav1.ObjectMeta{
			UID: o.GetUID(), Generation: o.GetGeneration(), Labels: o.GetLabels(), Annotations: o.GetAnnotations(),
			OwnerReferences: o.GetOwnerReferences(), Finalizers: o.GetFinalizers(), DeletionTimestamp: o.GetDeletionTimestamp(),
		}
	}
	namespace := namespaceOf(tenant)
	if err := c.Get(ctx, client.ObjectKeyFromObject(namespace), namespace); err != nil {
		return nil, err
	}
	add(namespace)
	for _, list := range []client.ObjectList{
		&v1alpha1.TenantJobList{}, &batchv1.JobList{}, &corev1.PodList{}, &corev1.SecretList{}, &corev1.ServiceAccountList{}, &corev1.ConfigMapList{},
		&corev1.ResourceQuotaList{}, &corev1.LimitRangeList{}, &networkingv1.NetworkPolicyList{}, &rbacv1.RoleBindingList{},
	} {
		if err := c.List(ctx, list, client.InNamespace(tenant.NamespaceName())); err != nil {
			return nil, err
		}
		items, err := meta.ExtractList(list)
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			add(item.(client.Object))
		}
	}
	return objects, nil
}
