package e2e

import (
	"context"
	"strings"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

var _ = Describe("A team with workloads of its own", func() {
	It("goes on as before in Audit and Warn, and is refused in Enforce what it was warned of", func(ctx SpecContext) {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "legacy-" + rand.String(5)}}
		Expect(kube.Create(ctx, namespace)).To(Succeed())
		tenant := newTenant("legacy", v1alpha1.TenantSpec{
			Namespace: &v1alpha1.TenantNamespace{Name: namespace.Name}, Enforcement: v1alpha1.EnforcementAudit,
		})
		DeferCleanup(func(ctx SpecContext) { // The Tenant is gone then, or the policies protect its namespace.
			Expect(client.IgnoreNotFound(kube.Delete(ctx, tenant))).To(Succeed())
			Eventually(ctx, func(ctx context.Context) error { return kube.Get(ctx, client.ObjectKeyFromObject(tenant), tenant) }).Should(MatchError(isNotFound, "IsNotFound"))
			Expect(kube.Delete(ctx, namespace)).To(Succeed())
		})
		team := newTeam(ctx, namespace.Name)

		By("working before there is a Tenant")
		team.worksAs(ctx, "before", nil)

		By("working in Audit")
		change(ctx, namespace, func(o *corev1.Namespace) { o.Annotations = map[string]string{v1alpha1.AnnotationAdoptBy: tenant.Name} })
		create(ctx, tenant)
		expectReady(ctx, tenant)
		team.worksAs(ctx, "audit", nil)
		Eventually(ctx, func(ctx context.Context) (string, error) {
			c, err := tenantCondition(ctx, tenant, v1alpha1.ConditionWorkloadsConform)
			return c.Message, err
		}).Should(And(ContainSubstring("Deployment"), ContainSubstring("CronJob")))

		By("working in Warn")
		change(ctx, tenant, func(t *v1alpha1.Tenant) { t.Spec.Enforcement = v1alpha1.EnforcementWarn })
		expectReady(ctx, tenant)
		Eventually(ctx, func(ctx context.Context) []string { // The policies learn of the phase from the namespace, after a moment.
			Expect(team.Create(ctx, team.job("first"), client.DryRunAll)).To(Succeed())
			return team.warnings.take()
		}).ShouldNot(BeEmpty())
		team.worksAs(ctx, "warn", []string{"create a Job", "create a pod", "create a CronJob", "create a Deployment"})

		By("being refused in Enforce")
		change(ctx, tenant, func(t *v1alpha1.Tenant) { t.Spec.Enforcement = v1alpha1.EnforcementEnforce })
		expectReady(ctx, tenant)
		Eventually(ctx, func(ctx context.Context) error {
			return team.Create(ctx, team.job("first"), client.DryRunAll)
		}).Should(MatchError(isForbidden, "IsForbidden"))
		for _, step := range team.steps("enforce") {
			err := step.do(ctx)
			if step.allowed {
				Expect(err).NotTo(HaveOccurred(), step.what)
			} else {
				Expect(err).To(MatchError(isForbidden, "IsForbidden"), step.what)
				Expect(err).To(MatchError(ContainSubstring("tenant")), step.what)
			}
		}
		Expect(team.Delete(ctx, team.deployment("warn"))).To(Succeed(), "what is left from before may be deleted")
	})
})

// team is a user who administers a namespace, as Kubernetes means it, and the warnings that the user has got.
type team struct {
	client.Client
	clientset kubernetes.Interface
	namespace string
	warnings  *warnings
}

type warnings struct {
	mu  sync.Mutex
	all []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, text)
}

// take returns what was warned of since the last call by one of the policies.
func (w *warnings) take() (ours []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range w.all {
		if strings.Contains(text, "ValidatingAdmissionPolicy") {
			ours = append(ours, text)
		}
	}
	w.all = nil
	return ours
}

func newTeam(ctx context.Context, namespace string) team {
	GinkgoHelper()
	user := namespace + "@example.com"
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "team"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}
	Expect(kube.Create(ctx, binding)).To(Succeed())
	t := team{namespace: namespace, warnings: &warnings{}}
	config := configAs(user)
	config.WarningHandler = t.warnings
	var err error
	t.Client, err = client.New(config, client.Options{Scheme: scheme})
	Expect(err).NotTo(HaveOccurred())
	t.clientset, err = kubernetes.NewForConfig(config)
	Expect(err).NotTo(HaveOccurred())
	Eventually(ctx, func(ctx context.Context) error { // The role binding takes a moment.
		return t.Create(ctx, t.job("first"), client.DryRunAll)
	}).Should(Succeed())
	return t
}

// step is something that a team does.
type step struct {
	what string
	do   func(context.Context) error
	// allowed says whether it is allowed in the phase Enforce.
	allowed bool
}

func (t team) in(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: t.namespace, Name: name}
}

func (t team) job(name string) *batchv1.Job {
	return &batchv1.Job{ObjectMeta: t.in(name), Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: samplePod("help")}}}
}

func (t team) deployment(name string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	pod := samplePod("help") // It ends, and is started again.
	pod.RestartPolicy = corev1.RestartPolicyAlways
	return &appsv1.Deployment{ObjectMeta: t.in(name), Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod},
	}}
}

// steps are what a team does every day.
func (t team) steps(name string) []step {
	create := func(o client.Object) func(context.Context) error {
		return func(ctx context.Context) error { return t.Create(ctx, o) }
	}
	return []step{
		{"create a Job", create(t.job(name)), false},
		{"create a pod", create(&corev1.Pod{ObjectMeta: t.in(name), Spec: samplePod("help")}), false},
		{"create a CronJob", create(&batchv1.CronJob{ObjectMeta: t.in(name), Spec: batchv1.CronJobSpec{
			Schedule: "@yearly", JobTemplate: batchv1.JobTemplateSpec{Spec: t.job(name).Spec},
		}}), false},
		{"create a Deployment", create(t.deployment(name)), false},
		{"create a NetworkPolicy", create(&networkingv1.NetworkPolicy{ObjectMeta: t.in(name)}), false},
		{"create a service account", create(&corev1.ServiceAccount{ObjectMeta: t.in(name)}), false},
		{"create a role binding", create(&rbacv1.RoleBinding{
			ObjectMeta: t.in(name), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "colleague@example.com"}},
		}), false},
		{"create a Service", create(&corev1.Service{ObjectMeta: t.in(name), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}), true},
		{"create a ConfigMap", create(&corev1.ConfigMap{ObjectMeta: t.in(name)}), true},
		{"create a Secret", create(&corev1.Secret{ObjectMeta: t.in(name)}), true},
		{"mint a token", func(ctx context.Context) error {
			_, err := t.clientset.CoreV1().ServiceAccounts(t.namespace).CreateToken(ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			return err
		}, false},
		{"run a command in a pod", func(ctx context.Context) error {
			// It is a plain request, so that what comes after admission asks for a better one.
			command := &corev1.PodExecOptions{Command: []string{"/hotspot", "help"}, Stdout: true}
			err := t.clientset.CoreV1().RESTClient().Post().Namespace(t.namespace).Resource("pods").Name("before").
				SubResource("exec").VersionedParams(command, clientgoscheme.ParameterCodec).Do(ctx).Error()
			if apierrors.IsForbidden(err) {
				return err
			}
			return nil
		}, false},
	}
}

// worksAs does what a team does every day, with objects of a name, and expects that all of it works, and which steps are warned of.
func (t team) worksAs(ctx context.Context, name string, warned []string) {
	GinkgoHelper()
	var got []string
	for _, step := range t.steps(name) {
		t.warnings.take()
		Expect(step.do(ctx)).To(Succeed(), step.what)
		if len(t.warnings.take()) > 0 {
			got = append(got, step.what)
		}
	}
	Expect(got).To(Equal(warned), "what is warned of")
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		job, pod := t.job(name), &corev1.Pod{ObjectMeta: t.in(name)}
		var pods corev1.PodList
		g.Expect(t.Get(ctx, client.ObjectKeyFromObject(job), job)).To(Succeed())
		g.Expect(job.Status.Succeeded).To(Equal(int32(1)), "its Job runs")
		g.Expect(t.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
		g.Expect(pod.Status.Phase).To(Equal(corev1.PodSucceeded), "its pod runs")
		g.Expect(t.List(ctx, &pods, client.InNamespace(t.namespace), client.MatchingLabels{"app": name})).To(Succeed())
		g.Expect(pods.Items).To(ContainElement(HaveField("Status.ContainerStatuses", ContainElement(
			HaveField("RestartCount", BeNumerically(">", 0))))), "its Deployment runs")
	}).Should(Succeed())
}
