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
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

var _ = Describe("A tenant's members", func() {
	It("dispatch or look on, in their own namespace and nowhere else", func(ctx SpecContext) {
		const dispatcher, auditor, auditors = "dora@acme.example", "audrey@acme.example", "acme-auditors"
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{Members: []v1alpha1.TenantMember{
			{Role: v1alpha1.RoleDispatcher, Subject: v1alpha1.MemberSubject{Kind: v1alpha1.SubjectUser, Name: dispatcher}},
			{Role: v1alpha1.RoleViewer, Subject: v1alpha1.MemberSubject{Kind: v1alpha1.SubjectGroup, Name: auditors}},
		}})
		globex := givenTenant(ctx, "globex", v1alpha1.TenantSpec{})
		template := givenTemplate(ctx, "check-expired-sessions", func(spec *v1alpha1.TenantJobTemplateSpec) {
			spec.MemberDispatch = &v1alpha1.MemberDispatch{TenantSelector: &metav1.LabelSelector{MatchLabels: acme.Labels}}
		})
		theirs := dispatch(ctx, globex, template, "theirs", none)
		expectReason(ctx, theirs, v1alpha1.ReasonCompleted)
		theirPod := podOf(ctx, theirs)

		By("dispatching as a Dispatcher")
		dora := clientAs(dispatcher)
		ours := newTenantJob(acme, template, "ours", none)
		// Role bindings, and what members may dispatch, take effect in their own time.
		Eventually(ctx, func(ctx context.Context) error { return dora.Create(ctx, ours) }).Should(Succeed())
		expectReason(ctx, ours, v1alpha1.ReasonCompleted)
		pod := podOf(ctx, ours)
		Expect(readLogs(ctx, configuredAs(dispatcher), &pod)).To(Succeed())

		By("cancelling and deleting as a Dispatcher")
		endless := newTenantJob(acme, template, "endless", endless)
		Expect(dora.Create(ctx, endless)).To(Succeed())
		running := runs(ctx, endless)
		Expect(dora.Patch(ctx, endless, client.RawPatch(cancelPatch.type_, cancelPatch.data))).To(Succeed())
		expectReason(ctx, endless, v1alpha1.ReasonCancelled)
		Expect(dora.Delete(ctx, ours)).To(Succeed())

		By("trying as a Dispatcher what only the platform may")
		user := configuredAs(dispatcher)
		expectRefused(ctx, map[string]func(context.Context) error{
			"create a TenantJob for another tenant": func(ctx context.Context) error {
				return dora.Create(ctx, newTenantJob(globex, template, "stolen", none))
			},
			"read another tenant's TenantJobs": func(ctx context.Context) error {
				return dora.List(ctx, &v1alpha1.TenantJobList{}, client.InNamespace(globex.NamespaceName()))
			},
			"delete another tenant's TenantJob": func(ctx context.Context) error { return dora.Delete(ctx, theirs.DeepCopy()) },
			"read another tenant's logs":        func(ctx context.Context) error { return readLogs(ctx, user, &theirPod) },
			"read all TenantJobs":               func(ctx context.Context) error { return dora.List(ctx, &v1alpha1.TenantJobList{}) },
			"forge a TenantJob's status": func(ctx context.Context) error {
				forged := endless.DeepCopy()
				forged.Status.Conditions = nil
				return dora.Status().Update(ctx, forged)
			},
			"read secrets": func(ctx context.Context) error {
				return dora.List(ctx, &corev1.SecretList{}, client.InNamespace(acme.NamespaceName()))
			},
			"create a pod": func(ctx context.Context) error {
				return dora.Create(ctx, &corev1.Pod{ObjectMeta: in(acme, "pod"), Spec: samplePod("probe")})
			},
			"create a Job": func(ctx context.Context) error {
				return dora.Create(ctx, &batchv1.Job{ObjectMeta: in(acme, "job"),
					Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: samplePod("probe")}}})
			},
			"create a CronJob": func(ctx context.Context) error {
				return dora.Create(ctx, &batchv1.CronJob{ObjectMeta: in(acme, "cronjob"), Spec: batchv1.CronJobSpec{Schedule: "@daily",
					JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: samplePod("probe")}}}}})
			},
			"run a command in a pod":   func(ctx context.Context) error { return runCommand(ctx, user, &running) },
			"delete a pod":             func(ctx context.Context) error { return dora.Delete(ctx, pod.DeepCopy()) },
			"have the runner's token":  func(ctx context.Context) error { return requestToken(ctx, user, acme.NamespaceName()) },
			"open the network": func(ctx context.Context) error {
				return dora.DeleteAllOf(ctx, &networkingv1.NetworkPolicy{}, client.InNamespace(acme.NamespaceName()))
			},
			"grant rights": func(ctx context.Context) error {
				return dora.Create(ctx, &rbacv1.RoleBinding{ObjectMeta: in(acme, "grant"),
					RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
					Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: dispatcher}}})
			},
			"change the Tenant": func(ctx context.Context) error {
				return dora.Patch(ctx, acme.DeepCopy(), client.RawPatch(suspendPatch.type_, suspendPatch.data))
			},
			"change the namespace": func(ctx context.Context) error {
				return dora.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: acme.NamespaceName()}})
			},
		})

		By("looking on as a Viewer")
		audrey := clientAs(auditor, auditors)
		Expect(audrey.List(ctx, &v1alpha1.TenantJobList{}, client.InNamespace(acme.NamespaceName()))).To(Succeed())
		Expect(audrey.List(ctx, &corev1.PodList{}, client.InNamespace(acme.NamespaceName()))).To(Succeed())
		Expect(readLogs(ctx, configuredAs(auditor, auditors), &running)).To(Or(Succeed(), MatchError(isNotFound, "IsNotFound")))
		expectRefused(ctx, map[string]func(context.Context) error{
			"create a TenantJob": func(ctx context.Context) error {
				return audrey.Create(ctx, newTenantJob(acme, template, "viewed", none))
			},
			"cancel a TenantJob": func(ctx context.Context) error {
				return audrey.Patch(ctx, endless.DeepCopy(), client.RawPatch(cancelPatch.type_, cancelPatch.data))
			},
			"delete a TenantJob": func(ctx context.Context) error { return audrey.Delete(ctx, endless.DeepCopy()) },
			"read secrets": func(ctx context.Context) error {
				return audrey.List(ctx, &corev1.SecretList{}, client.InNamespace(acme.NamespaceName()))
			},
			"read another tenant's TenantJobs": func(ctx context.Context) error {
				return audrey.List(ctx, &v1alpha1.TenantJobList{}, client.InNamespace(globex.NamespaceName()))
			},
		})

		By("being let go")
		change(ctx, acme, func(t *v1alpha1.Tenant) { t.Spec.Members = nil })
		Eventually(ctx, func(ctx context.Context) error {
			return audrey.List(ctx, &v1alpha1.TenantJobList{}, client.InNamespace(acme.NamespaceName()))
		}).Should(MatchError(isForbidden, "IsForbidden"))
	})
})
