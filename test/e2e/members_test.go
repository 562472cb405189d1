package e2e

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	authenticationv1 "k8s.io/api/authentication/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// attempts are requests that a user tries, by description.
type attempts map[string]func(context.Context) error

// expectRefused expects the API server to refuse all attempts.
func expectRefused(ctx context.Context, all attempts) {
	GinkgoHelper()
	for what, attempt := range all {
		Expect(attempt(ctx)).To(MatchError(isForbidden, "IsForbidden"), "it should be forbidden to %s", what)
	}
}

var _ = Describe("A tenant's member", func() {
	It("who is a Dispatcher creates TenantJobs in the tenant's namespace and can do nothing elsewhere", func(ctx SpecContext) {
		const name = "dora@acme.example"
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{Members: []v1alpha1.TenantMember{
			{Role: v1alpha1.RoleDispatcher, Subject: v1alpha1.MemberSubject{Kind: v1alpha1.SubjectUser, Name: name}},
		}})
		globex := givenTenant(ctx, "globex", v1alpha1.TenantSpec{})
		template := givenTemplate(ctx, "check-expired-sessions", dispatchedByMembersOf(acme))
		theirs := dispatch(ctx, globex, template, "theirs", none)
		expectReason(ctx, theirs, v1alpha1.ReasonCompleted)
		theirPod := podOf(ctx, theirs)
		dora, user := clientAs(name), clientsetAs(name)

		By("dispatching")
		ours := newTenantJob(acme, template, "ours", none)
		// Role bindings, and the list of templates that members may dispatch, take a moment to be in effect.
		Eventually(ctx, func(ctx context.Context) error { return dora.Create(ctx, ours) }).Should(Succeed())
		expectReason(ctx, ours, v1alpha1.ReasonCompleted)
		pod := podOf(ctx, ours)
		Expect(readLog(ctx, user, &pod)).To(Succeed())

		By("cancelling")
		cancelled := newTenantJob(acme, template, "cancelled", endless)
		Expect(dora.Create(ctx, cancelled)).To(Succeed())
		runs(ctx, cancelled)
		Expect(dora.Patch(ctx, cancelled.DeepCopy(), toCancel)).To(Succeed())
		expectReason(ctx, cancelled, v1alpha1.ReasonCancelled)

		By("trying more than that")
		expectRefused(ctx, attempts{
			"create a TenantJob for another tenant": func(ctx context.Context) error {
				return dora.Create(ctx, newTenantJob(globex, template, "stolen", none))
			},
			"list another tenant's TenantJobs": func(ctx context.Context) error {
				return dora.List(ctx, &v1alpha1.TenantJobList{}, client.InNamespace(theirs.Namespace))
			},
			"list everybody's TenantJobs":       func(ctx context.Context) error { return dora.List(ctx, &v1alpha1.TenantJobList{}) },
			"cancel another tenant's TenantJob": func(ctx context.Context) error { return dora.Patch(ctx, theirs.DeepCopy(), toCancel) },
			"delete another tenant's TenantJob": func(ctx context.Context) error { return dora.Delete(ctx, theirs.DeepCopy()) },
			"read another tenant's log":         func(ctx context.Context) error { return readLog(ctx, user, &theirPod) },
			"forge an outcome": func(ctx context.Context) error {
				return dora.Status().Patch(ctx, ours.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(`{"status":{"conditions":[]}}`)))
			},
			"read secrets": func(ctx context.Context) error {
				return dora.List(ctx, &corev1.SecretList{}, client.InNamespace(ours.Namespace))
			},
			"have the runner's token": func(ctx context.Context) error {
				_, err := user.CoreV1().ServiceAccounts(ours.Namespace).
					CreateToken(ctx, v1alpha1.RunnerServiceAccount, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
				return err
			},
			"run a command in a pod": func(ctx context.Context) error {
				command := &corev1.PodExecOptions{Command: []string{"/hotspot", "help"}, Stdout: true}
				return user.CoreV1().RESTClient().Post().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).
					SubResource("exec").VersionedParams(command, clientgoscheme.ParameterCodec).Do(ctx).Error()
			},
			"delete a pod": func(ctx context.Context) error { return dora.Delete(ctx, pod.DeepCopy()) },
			"create a pod": func(ctx context.Context) error {
				return dora.Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ours.Namespace, Name: "pod"}, Spec: samplePod("probe")})
			},
			"create a Job": func(ctx context.Context) error {
				return dora.Create(ctx, &batchv1.Job{
					ObjectMeta: metav1.ObjectMeta{Namespace: ours.Namespace, Name: "job"},
					Spec:       batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: samplePod("probe")}},
				})
			},
			"delete the TenantJob's Job": func(ctx context.Context) error {
				return dora.Delete(ctx, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: ours.Namespace, Name: ours.Name}})
			},
			"open the network": func(ctx context.Context) error {
				return dora.DeleteAllOf(ctx, &networkingv1.NetworkPolicy{}, client.InNamespace(ours.Namespace))
			},
			"grant rights": func(ctx context.Context) error {
				return dora.Create(ctx, &rbacv1.RoleBinding{
					ObjectMeta: metav1.ObjectMeta{Namespace: ours.Namespace, Name: "grant"},
					RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
					Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: name}},
				})
			},
			"read the Tenant": func(ctx context.Context) error {
				return dora.Get(ctx, client.ObjectKeyFromObject(acme), &v1alpha1.Tenant{})
			},
			"delete the namespace": func(ctx context.Context) error {
				return dora.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ours.Namespace}})
			},
		})

		By("deleting")
		Expect(dora.Delete(ctx, cancelled)).To(Succeed())

		By("being a member no more")
		change(ctx, acme, func(t *v1alpha1.Tenant) { t.Spec.Members = nil })
		Eventually(ctx, func(ctx context.Context) error {
			return dora.List(ctx, &v1alpha1.TenantJobList{}, client.InNamespace(ours.Namespace))
		}).Should(MatchError(isForbidden, "IsForbidden"))
	})

	It("who is a Viewer reads and changes nothing", func(ctx SpecContext) {
		const name, group = "audrey@acme.example", "acme-auditors"
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{Members: []v1alpha1.TenantMember{
			{Role: v1alpha1.RoleViewer, Subject: v1alpha1.MemberSubject{Kind: v1alpha1.SubjectGroup, Name: group}},
		}})
		globex := givenTenant(ctx, "globex", v1alpha1.TenantSpec{})
		template := givenTemplate(ctx, "check-expired-sessions", dispatchedByMembersOf(acme))
		ours := dispatch(ctx, acme, template, "ours", none)
		expectReason(ctx, ours, v1alpha1.ReasonCompleted)
		audrey, user := clientAs(name, group), clientsetAs(name, group)

		for _, list := range []client.ObjectList{&v1alpha1.TenantJobList{}, &batchv1.JobList{}, &corev1.PodList{}, &corev1.EventList{}} {
			Eventually(ctx, func(ctx context.Context) error { return audrey.List(ctx, list, client.InNamespace(ours.Namespace)) }).Should(Succeed())
		}
		pod := podOf(ctx, ours)
		Expect(readLog(ctx, user, &pod)).To(Succeed())

		expectRefused(ctx, attempts{
			"create a TenantJob": func(ctx context.Context) error {
				return audrey.Create(ctx, newTenantJob(acme, template, "viewed", none))
			},
			"cancel a TenantJob": func(ctx context.Context) error { return audrey.Patch(ctx, ours.DeepCopy(), toCancel) },
			"delete a TenantJob": func(ctx context.Context) error { return audrey.Delete(ctx, ours.DeepCopy()) },
			"read secrets": func(ctx context.Context) error {
				return audrey.List(ctx, &corev1.SecretList{}, client.InNamespace(ours.Namespace))
			},
			"list another tenant's TenantJobs": func(ctx context.Context) error {
				return audrey.List(ctx, &v1alpha1.TenantJobList{}, client.InNamespace(globex.NamespaceName()))
			},
		})
	})
})

var toCancel = client.RawPatch(types.MergePatchType, []byte(`{"spec":{"cancel":true}}`))

// dispatchedByMembersOf lets only this tenant's members dispatch a template.
func dispatchedByMembersOf(tenant *v1alpha1.Tenant) func(*v1alpha1.TenantJobTemplateSpec) {
	return func(spec *v1alpha1.TenantJobTemplateSpec) {
		spec.MemberDispatch = &v1alpha1.MemberDispatch{TenantSelector: &metav1.LabelSelector{MatchLabels: tenant.Labels}}
	}
}

func clientsetAs(user string, groups ...string) kubernetes.Interface {
	GinkgoHelper()
	made, err := kubernetes.NewForConfig(configAs(user, groups...))
	Expect(err).NotTo(HaveOccurred())
	return made
}

func readLog(ctx context.Context, as kubernetes.Interface, pod *corev1.Pod) error {
	_, err := as.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(ctx)
	return err
}
