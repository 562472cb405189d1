package enforcement

import (
	"context"
	"errors"
	"fmt"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/config/policy"
	"github.com/tenantry/tenantry/internal/kube"
)

// probeName is the name of what the probes would create.
const probeName = "probe"

// probes sends the requests that the policies have to refuse.
type probes struct {
	// untrusted sends them as the probes' service account, and operator as the operator, for the policy that confines the operator.
	untrusted, operator client.Client
	// connect is untrusted, for what client.Client can't send.
	connect kubernetes.Interface
}

// newProbes returns the probes of an operator that has a namespace and this configuration.
func newProbes(operator *rest.Config, scheme *runtime.Scheme, operatorNamespace string) (*probes, error) {
	cfg := rest.CopyConfig(operator)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + operatorNamespace + ":" + policy.ProbeServiceAccount}
	var p probes
	var errs [3]error
	p.untrusted, errs[0] = client.New(cfg, client.Options{Scheme: scheme})
	p.operator, errs[1] = client.New(operator, client.Options{Scheme: scheme})
	p.connect, errs[2] = kubernetes.NewForConfig(cfg)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("creating the clients that try the policies out: %w", err)
	}
	return &p, nil
}

// all are the probes, by the name of the policy that has to refuse each. No other one of ours refuses it: an answer names only one.
func (p *probes) all() map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"operator-scope":       p.namespaceOfNoTenant,
		"tenant-access":        p.exec,
		"tenant-active":        p.create(pod(policy.ProbeAuditNamespace)),
		"tenant-infra":         p.create(&networkingv1.NetworkPolicy{ObjectMeta: in(policy.ProbeNamespace)}),
		"tenant-job":           p.create(foreignTenantJob()),
		"tenant-namespace":     p.relabel,
		"tenant-protection":    p.reservedTenant,
		"tenant-run":           p.create(forgedJob()),
		"tenant-workload":      p.create(cronJob()),
		"tenant-workload-pods": p.create(pod(policy.ProbeNamespace)),
	}
}

// answerOf returns what an error means, with which a probe of a policy was answered.
func answerOf(policyName string, err error) answer {
	a := answer{policy: policyName}
	switch {
	// There is no such pod to connect to, and no such object to change.
	case err == nil, apierrors.IsNotFound(err) && !strings.Contains(err.Error(), "namespaces "):
		a.outcome = admitted
	case strings.Contains(err.Error(), "ValidatingAdmissionPolicy '"+policyName+"' with binding"):
		a.outcome = refused
	default:
		a.why = kube.MessageOf(err)
	}
	return a
}

func in(namespace string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: probeName}
}

// create returns a probe that creates an object, by dry run.
func (p *probes) create(obj client.Object) func(context.Context) error {
	return func(ctx context.Context) error {
		return p.untrusted.Create(ctx, obj.DeepCopyObject().(client.Object), client.DryRunAll)
	}
}

// podSpec meets the pod security level Restricted, which would refuse it otherwise.
func podSpec() corev1.PodSpec {
	return corev1.PodSpec{
		RestartPolicy:   corev1.RestartPolicyNever,
		SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		Containers: []corev1.Container{{
			Name: probeName, Image: probeName,
			SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
		}},
	}
}

// pod belongs to no run. Where the tenant is suspended, no pod may be created.
func pod(namespace string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: in(namespace), Spec: podSpec()}
}

// cronJob would create Jobs that are no runs.
func cronJob() *batchv1.CronJob {
	return &batchv1.CronJob{
		ObjectMeta: in(policy.ProbeNamespace),
		Spec:       batchv1.CronJobSpec{Schedule: "@yearly", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: podSpec()}}}},
	}
}

// forgedJob claims to be a run.
func forgedJob() *batchv1.Job {
	job := &batchv1.Job{ObjectMeta: in(policy.ProbeAuditNamespace), Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: podSpec()}}}
	job.Labels = map[string]string{v1alpha1.LabelTenant: policy.ProbeTenant}
	return job
}

// foreignTenantJob names another tenant than that of its namespace.
func foreignTenantJob() *v1alpha1.TenantJob {
	return &v1alpha1.TenantJob{
		ObjectMeta: in(policy.ProbeNamespace),
		Spec: v1alpha1.TenantJobSpec{
			TenantRef: v1alpha1.TenantReference{Name: probeName}, TemplateRef: v1alpha1.LabelReference{Name: probeName},
		},
	}
}

// relabel suspends a tenant by its namespace's label.
func (p *probes) relabel(ctx context.Context) error {
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, v1alpha1.LabelState, v1alpha1.StateSuspended)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: policy.ProbeNamespace}}
	return p.untrusted.Patch(ctx, namespace, client.RawPatch(types.MergePatchType, []byte(patch)), client.DryRunAll)
}

// reservedTenant creates the Tenant whose name is reserved. It is applied, since RBAC can allow the creation of one name only then.
func (p *probes) reservedTenant(ctx context.Context) error {
	tenant := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{}}}
	tenant.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Tenant"))
	tenant.SetName(policy.ProbeTenant)
	return p.untrusted.Apply(ctx, client.ApplyConfigurationFromUnstructured(tenant), client.DryRunAll, client.FieldOwner(kube.FieldManager))
}

// exec enters a pod. There is none, and a connection can't be tried by dry run.
func (p *probes) exec(ctx context.Context) error {
	return p.connect.CoreV1().RESTClient().Post().Namespace(policy.ProbeNamespace).Resource("pods").Name(probeName).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: probeName, Command: []string{"true"}, Stdout: true}, clientgoscheme.ParameterCodec).
		Do(ctx).Error()
}

// namespaceOfNoTenant creates a namespace that is no tenant's.
func (p *probes) namespaceOfNoTenant(ctx context.Context) error {
	return p.operator.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: policy.ProbeNamespace + "-none"}}, client.DryRunAll)
}
