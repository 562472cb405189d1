package e2e

import (
	"context"
	"maps"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// sampleImage is the image of the sample application. The nodes have it.
const sampleImage = "tenantry.dev/hotspot:dev"

// newTenant returns a Tenant that is not created yet. Its name starts with the given name and is unique.
func newTenant(name string, spec v1alpha1.TenantSpec) *v1alpha1.Tenant {
	name += "-" + rand.String(5)
	return &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"e2e": name}}, Spec: spec}
}

// givenTenant creates a Tenant and waits until it is Ready. It is deleted when the spec ends.
func givenTenant(ctx context.Context, name string, spec v1alpha1.TenantSpec) *v1alpha1.Tenant {
	GinkgoHelper()
	tenant := newTenant(name, spec)
	create(ctx, tenant)
	expectReady(ctx, tenant)
	return tenant
}

// create creates a Tenant, which is deleted when the spec ends.
func create(ctx context.Context, tenant *v1alpha1.Tenant) {
	GinkgoHelper()
	Expect(kube.Create(ctx, tenant)).To(Succeed())
	tenantsOfSpec, tenantsOfSuite = append(tenantsOfSpec, tenant), append(tenantsOfSuite, tenant)
	DeferCleanup(func(ctx SpecContext) {
		Expect(client.IgnoreNotFound(kube.Delete(ctx, tenant))).To(Succeed())
	})
}

// expectReady waits until the operator has done what the Tenant's spec says.
func expectReady(ctx context.Context, tenant *v1alpha1.Tenant) {
	GinkgoHelper()
	generation := tenant.Generation
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		g.Expect(kube.Get(ctx, client.ObjectKeyFromObject(tenant), tenant)).To(Succeed())
		g.Expect(meta.FindStatusCondition(tenant.Status.Conditions, v1alpha1.ConditionReady)).To(And(
			Not(BeNil()), HaveField("Status", metav1.ConditionTrue), HaveField("ObservedGeneration", BeNumerically(">=", generation))))
	}).Should(Succeed(), "Tenant %s should become Ready", tenant.Name)
}

// change patches an object as a person does who edits it.
func change[T client.Object](ctx context.Context, obj T, edit func(T)) {
	GinkgoHelper()
	before := obj.DeepCopyObject().(client.Object)
	edit(obj)
	Expect(kube.Patch(ctx, obj, client.MergeFrom(before))).To(Succeed())
}

func suspend(t *v1alpha1.Tenant) { t.Spec.Suspend = new(true) }
func resume(t *v1alpha1.Tenant)  { t.Spec.Suspend = nil }

// givenTemplate creates a template that runs a subcommand of the sample application. It is deleted when the spec ends. It
// has all parameters of all subcommands.
func givenTemplate(ctx context.Context, command string, edits ...func(*v1alpha1.TenantJobTemplateSpec)) *v1alpha1.TenantJobTemplate {
	GinkgoHelper()
	template := &v1alpha1.TenantJobTemplate{
		ObjectMeta: metav1.ObjectMeta{Name: command + "-" + rand.String(5)},
		Spec: v1alpha1.TenantJobTemplateSpec{
			Parameters: []v1alpha1.Parameter{
				{Name: "idleMinutes", Type: v1alpha1.ParameterInteger, Default: new(v1alpha1.ParameterValue("30"))},
				{Name: "runSeconds", Type: v1alpha1.ParameterInteger},
				{Name: "simulateFailure", Type: v1alpha1.ParameterBoolean},
				{Name: "probeConnect"},
			},
			JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{
				BackoffLimit: new(int32(0)),
				Template:     corev1.PodTemplateSpec{Spec: samplePod(command)},
			}},
		},
	}
	for _, edit := range edits {
		edit(&template.Spec)
	}
	Expect(kube.Create(ctx, template)).To(Succeed())
	DeferCleanup(func(ctx SpecContext) {
		Expect(client.IgnoreNotFound(kube.Delete(ctx, template))).To(Succeed())
	})
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		g.Expect(kube.Get(ctx, client.ObjectKeyFromObject(template), template)).To(Succeed())
		g.Expect(template.Status.Conditions).To(ContainElement(And(
			HaveField("Type", v1alpha1.ConditionReady), HaveField("Status", metav1.ConditionTrue))))
	}).Should(Succeed(), "TenantJobTemplate %s should become Ready", template.Name)
	return template
}

// samplePod runs a subcommand of the sample application under the pod security level Restricted.
func samplePod(command string) corev1.PodSpec {
	return corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever,
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), RunAsGroup: new(int64(65532)),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Containers: []corev1.Container{{
			Name: "hotspot", Image: sampleImage, ImagePullPolicy: corev1.PullIfNotPresent, Args: []string{command},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("16Mi"),
			}},
			SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
				Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
		}},
	}
}

// toEndSlowly makes the pods take some seconds to end when they are deleted, so that a spec can see them.
func toEndSlowly(spec *v1alpha1.TenantJobTemplateSpec) {
	spec.JobTemplate.Spec.Template.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{
		PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 3}},
	}
}

// parameters of a TenantJob, by name.
type parameters map[string]v1alpha1.ParameterValue

var (
	// none sets no parameters.
	none parameters
	// endless is a run that does not end by itself.
	endless = parameters{"runSeconds": forever}
)

// newTenantJob returns a TenantJob in the tenant's namespace that is not created yet.
func newTenantJob(tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate, name string, given parameters) *v1alpha1.TenantJob {
	return &v1alpha1.TenantJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: tenant.NamespaceName(), Name: name},
		Spec: v1alpha1.TenantJobSpec{
			TenantRef:   v1alpha1.TenantReference{Name: tenant.Name},
			TemplateRef: v1alpha1.LabelReference{Name: template.Name},
			Parameters:  maps.Clone(given),
		},
	}
}

// dispatch creates a TenantJob. It is deleted with its tenant.
func dispatch(ctx context.Context, tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate, name string, given parameters) *v1alpha1.TenantJob {
	GinkgoHelper()
	tj := newTenantJob(tenant, template, name, given)
	Expect(kube.Create(ctx, tj)).To(Succeed())
	return tj
}
