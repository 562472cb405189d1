package job

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// DefaultActiveDeadlineSeconds is the deadline of a Job whose template has none: a day. Without a deadline a run that hangs
// would hold its slot and its credentials without end.
const DefaultActiveDeadlineSeconds int64 = 24 * 60 * 60

// Run is what a Job is built from.
type Run struct {
	TenantJob *v1alpha1.TenantJob
	Tenant    *v1alpha1.Tenant
	Template  *v1alpha1.TenantJobTemplate
	// FanOut is the fan-out of which the TenantJob is a child, nil when it is no child of one. What the TenantJob says of itself
	// does not count: whoever may create it writes its owner references, labels and annotations.
	FanOut *FanOut
	// Bindings are the credentials that the template names, in its order.
	Bindings []Binding
}

// Labels returns the labels that the operator puts on a run's TenantJob, Job and pods: the tenant, the template, the queue,
// the fan-out and schedule if there are any, and the tags. The values are those of the run's parameters.
func Labels(r Run, values Values) map[string]string {
	labels := map[string]string{}
	for key, value := range r.TenantJob.Labels {
		if strings.HasPrefix(key, v1alpha1.TagPrefix) {
			labels[key] = value
		}
	}
	for _, p := range r.Template.Spec.Parameters {
		if value, set := values[p.Name]; set && ptr.Deref(p.Tag, false) {
			labels[v1alpha1.TagPrefix+p.Name] = value
		}
	}
	if r.FanOut != nil {
		labels[v1alpha1.LabelFanOut] = r.FanOut.Name
		if r.FanOut.Schedule != "" {
			labels[v1alpha1.LabelSchedule] = r.FanOut.Schedule
		}
	}
	labels[v1alpha1.LabelTenant] = r.Tenant.Name
	labels[v1alpha1.LabelTemplate] = r.Template.Name
	labels[v1alpha1.LabelQueue] = r.Template.QueueName()
	return labels
}

// FanOutOf returns the owner reference to the fan-out of which a TenantJob says that it is a child, nil when it does not say
// so. Its labels do not count, and neither does an owner reference to a fan-out of another name: a child has its fan-out's
// name. An owner of another API group is no fan-out of Tenantry's. The ledger of the fan-out says whether it is true.
func FanOutOf(tj *v1alpha1.TenantJob) *metav1.OwnerReference {
	owner := metav1.GetControllerOf(tj)
	if owner == nil || owner.Kind != "TenantFanOut" || owner.Name != tj.Name || !strings.HasPrefix(owner.APIVersion, v1alpha1.GroupVersion.Group+"/") {
		return nil
	}
	return owner
}

// Build returns the Job of a run. What the operator sets replaces what the template says. The values are those of the run's
// parameters.
func Build(r Run, values Values) *batchv1.Job {
	jobTemplate := r.Template.Spec.JobTemplate.DeepCopy()
	labels := Labels(r, values)

	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:   r.TenantJob.Namespace,
			Name:        r.TenantJob.Name,
			Labels:      merge(jobTemplate.Labels, labels),
			Annotations: merge(jobTemplate.Annotations, map[string]string{v1alpha1.AnnotationTemplateGeneration: strconv.FormatInt(r.Template.Generation, 10)}),
			OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(r.TenantJob, v1alpha1.GroupVersion.WithKind("TenantJob")),
			},
		},
		Spec: jobTemplate.Spec,
	}
	if job.Spec.ActiveDeadlineSeconds == nil {
		job.Spec.ActiveDeadlineSeconds = new(DefaultActiveDeadlineSeconds)
	}
	if job.Spec.PodReplacementPolicy == nil {
		// Otherwise a pod that is deleted is replaced while it still stops, and two of them work at once.
		job.Spec.PodReplacementPolicy = new(batchv1.Failed)
	}
	// With a TTL the Job could be deleted before its outcome was read.
	job.Spec.TTLSecondsAfterFinished = nil

	pod := &job.Spec.Template
	pod.Labels = merge(pod.Labels, labels)
	pod.Spec.ServiceAccountName = v1alpha1.RunnerServiceAccount
	pod.Spec.AutomountServiceAccountToken = new(false)
	if pod.Spec.EnableServiceLinks == nil {
		pod.Spec.EnableServiceLinks = new(false)
	}
	bind(pod, r.Bindings)
	vars := append(environment(r, values), bindingVariables(r.Bindings)...)
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			containers[i].Env = withOwn(vars, containers[i].Env)
		}
	}
	return job
}

// withOwn appends a container's own variables to those of all containers. It leaves out own ones that would replace those,
// and reserved ones.
func withOwn(vars, own []corev1.EnvVar) []corev1.EnvVar {
	taken := map[string]bool{}
	for _, v := range vars {
		taken[v.Name] = true
	}
	all := slices.Clone(vars)
	for _, v := range own {
		if !taken[v.Name] && !ReservedVariable(v.Name) {
			all = append(all, v)
		}
	}
	return all
}

// merge returns the labels or annotations of base without reserved ones, and those of over, which replace them.
func merge(base, over map[string]string) map[string]string {
	all := map[string]string{}
	for key, value := range base {
		if !reservedKey(key) {
			all[key] = value
		}
	}
	maps.Copy(all, over)
	return all
}

// reservedKey says whether only the operator may set a label or annotation.
func reservedKey(key string) bool {
	return strings.HasPrefix(key, "tenantry.dev/") || strings.HasPrefix(key, v1alpha1.TagPrefix)
}
