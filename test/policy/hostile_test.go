package policy_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// hostileRequests is how many requests the hostile member sends.
const hostileRequests = 1500

// A hostile member sends random requests to both tenants' namespaces. They never change or read anything of the other tenant, and the
// other tenant's runs start while they go on. TENANTRY_SEED repeats a sequence.
func TestHostileMember(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if given, err := strconv.ParseUint(os.Getenv("TENANTRY_SEED"), 10, 64); err == nil {
		seed = given
	}
	t.Logf("TENANTRY_SEED=%d", seed)
	mallory := user{"mallory", nil}
	own := NewReadyTenant(t, v1alpha1.TenantSpec{
		Members: []v1alpha1.TenantMember{{Role: v1alpha1.RoleDispatcher, Subject: v1alpha1.MemberSubject{Kind: v1alpha1.SubjectUser, Name: mallory.name}}},
		Jobs:    &v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(3))},
	})
	Patch(t, own, func(o *v1alpha1.Tenant) { o.Labels = map[string]string{"hostile": "true"} })
	victim := NewReadyTenant(t, v1alpha1.TenantSpec{})
	open := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		o.Spec.MemberDispatch = &v1alpha1.MemberDispatch{TenantSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"hostile": "true"}}}
	})
	closed := NewReadyTemplate(t, nil)
	quiet := NewTenantJob(t, victim, closed)
	AwaitRunningPod(t, quiet)
	fanOut := NewFanOut(t, closed.Name, []*v1alpha1.Tenant{own, victim}, nil)
	AwaitRunningPod(t, ChildIn(victim, fanOut))
	AwaitRunningPod(t, ChildIn(own, fanOut))
	h := hostile{
		Client: mallory.client(t), Rand: rand.New(rand.NewPCG(seed, 0)), own: own, victim: victim,
		templates: []string{open.Name, closed.Name, "none"}, names: []string{fanOut.Name, quiet.Name},
	}
	Eventually(t, func(g gomega.Gomega) { // The role binding, and the list of templates, take a moment.
		g.Expect(h.Create(t.Context(), tj(own, own, open, nil), client.DryRunAll)).To(gomega.Succeed())
	})
	before := everythingOf(t, victim)

	for i := range hostileRequests {
		namespace, what, err := h.request(t.Context(), i)
		if err == nil && namespace != own.NamespaceName() {
			t.Errorf("request %d in namespace %s was granted: %s", i, namespace, what)
		}
		if i%(hostileRequests/3) == hostileRequests/6 {
			AwaitRunningPod(t, NewTenantJob(t, victim, closed)) // It starts in spite of everything.
		}
	}
	after := everythingOf(t, victim)
	for key := range after {
		if _, was := before[key]; !was {
			delete(after, key) // Its own runs of the meantime.
		}
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("what the other tenant has was changed (-before +after):\n%s", diff)
	}
	var child v1alpha1.TenantJob
	if err := Admin.Get(t.Context(), types.NamespacedName{Namespace: own.NamespaceName(), Name: fanOut.Name}, &child); err != nil {
		t.Errorf("its own child of the fan-out: %v", err)
	}
}

// hostile is a member of one tenant.
type hostile struct {
	client.Client
	*rand.Rand
	own, victim *v1alpha1.Tenant
	templates   []string
	names       []string
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// request sends a random request, and returns in which namespace and what it was.
func (h *hostile) request(ctx context.Context, i int) (namespace, what string, err error) {
	target := pick(h.Rand, h.own, h.own, h.victim)
	namespace = target.NamespaceName()
	name := pick(h.Rand, h.names...)
	existing := &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	switch h.IntN(12) {
	case 0, 1, 2:
		o := &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pick(h.Rand, fmt.Sprintf("hostile-%d", i), name)}, Spec: v1alpha1.TenantJobSpec{
			TenantRef: v1alpha1.TenantReference{Name: pick(h.Rand, h.own, h.own, h.victim).Name}, TemplateRef: v1alpha1.LabelReference{Name: pick(h.Rand, h.templates...)},
		}}
		h.change(o)
		if err = h.Create(ctx, o); err == nil {
			h.names = append(h.names, o.Name)
			if o.Spec.TenantRef.Name != h.own.Name {
				return h.victim.NamespaceName(), "create a TenantJob that names the other tenant", nil
			}
		}
		return namespace, "create a TenantJob", err
	case 3, 4, 5:
		base := existing.DeepCopy()
		h.change(existing)
		existing.Spec.Cancel = pick(h.Rand, nil, new(true))
		return namespace, "patch a TenantJob", h.Patch(ctx, existing, client.MergeFrom(base))
	case 6:
		return namespace, "delete a TenantJob", h.Delete(ctx, existing, client.PropagationPolicy(pick(h.Rand, metav1.DeletePropagationOrphan, metav1.DeletePropagationBackground, metav1.DeletePropagationForeground)))
	case 7:
		return namespace, "delete all TenantJobs", h.DeleteAllOf(ctx, existing, client.InNamespace(namespace))
	case 8:
		list := pick[client.ObjectList](h.Rand, &v1alpha1.TenantJobList{}, &batchv1.JobList{}, &corev1.PodList{}, &corev1.SecretList{}, &corev1.ConfigMapList{}, &corev1.EventList{})
		return namespace, fmt.Sprintf("list %T", list), h.List(ctx, list, client.InNamespace(namespace))
	case 9:
		return namespace, "get a TenantJob", h.Get(ctx, client.ObjectKeyFromObject(existing), existing)
	case 10:
		o := pick[client.Object](h.Rand, newJob(namespace, nil), newCronJob(namespace), newPod(namespace, nil), allowEverything(namespace),
			clusterRoleBinding(namespace, "cluster-admin", rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "mallory"}))
		return h.victim.NamespaceName(), fmt.Sprintf("create %T", o), h.Create(ctx, o)
	}
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"tenantry.dev/tenant":"x"}}}`))
	o := pick[client.Object](h.Rand, NamespaceOf(target), target.DeepCopy(), &batchv1.Job{ObjectMeta: existing.ObjectMeta}, &corev1.Pod{ObjectMeta: existing.ObjectMeta})
	return h.victim.NamespaceName(), fmt.Sprintf("patch %T", o), h.Patch(ctx, o, patch)
}

// change forges some metadata, or none.
func (h *hostile) change(o *v1alpha1.TenantJob) {
	pick(h.Rand,
		func(*v1alpha1.TenantJob) {}, func(*v1alpha1.TenantJob) {},
		label[*v1alpha1.TenantJob](v1alpha1.LabelTenant, h.victim.Name), label[*v1alpha1.TenantJob](v1alpha1.LabelFanOut, h.names[0]),
		label[*v1alpha1.TenantJob](v1alpha1.TagPrefix+"payment", "1"), annotate[*v1alpha1.TenantJob](v1alpha1.AnnotationScheduledTime, "2026-01-01T00:00:00Z"),
		finalize[*v1alpha1.TenantJob]("example.com/forever"), own[*v1alpha1.TenantJob](stranger),
	)(o)
}

// everythingOf is what a tenant has: the metadata of each object, whose generation stands for its spec.
func everythingOf(t *testing.T, tenant *v1alpha1.Tenant) map[string]metav1.ObjectMeta {
	t.Helper()
	objects := map[string]metav1.ObjectMeta{}
	add := func(o client.Object) {
		objects[fmt.Sprintf("%T %s", o, o.GetName())] = metav1.ObjectMeta{
			UID: o.GetUID(), Generation: o.GetGeneration(), Labels: o.GetLabels(), Annotations: o.GetAnnotations(),
			OwnerReferences: o.GetOwnerReferences(), Finalizers: o.GetFinalizers(), DeletionTimestamp: o.GetDeletionTimestamp(),
		}
	}
	namespace := NamespaceOf(tenant)
	if err := Read(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	add(namespace)
	for _, list := range []client.ObjectList{
		&v1alpha1.TenantJobList{}, &batchv1.JobList{}, &corev1.PodList{}, &corev1.SecretList{}, &corev1.ServiceAccountList{}, &corev1.ResourceQuotaList{},
		&corev1.LimitRangeList{}, &networkingv1.NetworkPolicyList{}, &rbacv1.RoleBindingList{},
	} {
		if err := Admin.List(t.Context(), list, client.InNamespace(tenant.NamespaceName())); err != nil {
			t.Fatal(err)
		}
		items, err := meta.ExtractList(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range items {
			add(item.(client.Object))
		}
	}
	return objects
}
