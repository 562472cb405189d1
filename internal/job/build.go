package job

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// DefaultActiveDeadlineSeconds is a Job's deadline when its template names none: a day. Without one a run that hangs
// would hold its slot, and its credentials, for ever.
const DefaultActiveDeadlineSeconds int64 = 24 * 60 * 60

// Run is what a Job is built from.
type Run struct {
	TenantJob *v1alpha1.TenantJob
	Tenant    *v1alpha1.Tenant
	Template  *v1alpha1.TenantJobTemplate
}

// Labels are what the operator puts on a run's TenantJob, Job and pods: whose, which template's, in which queue, and its
// tags.
func Labels(r Run, values Values) map[string]string {
	labels := map[string]string{}
	for key, value := range r.TenantJob.Labels {
		if strings.HasPrefix(key, v1alpha1.TagPrefix) {
			labels[key] = value
		}
	}
	for _, p := range r.Template.Spec.Parameters {
		if value, set := values[p.Name]; set && p.Tag != nil && *p.Tag {
			labels[v1alpha1.TagPrefix+p.Name] = value
		}
	}
	if owner := FanOutOf(r.TenantJob); owner != nil {
		labels[v1alpha1.LabelFanOut] = owner.Name
		if schedule, scheduled := r.TenantJob.Labels[v1alpha1.LabelSchedule]; scheduled {
			labels[v1alpha1.LabelSchedule] = schedule
		}
	}
	labels[v1alpha1.LabelTenant] = r.Tenant.Name
	labels[v1alpha1.LabelTemplate] = r.Template.Name
	labels[v1alpha1.LabelQueue] = r.Template.QueueName()
	return labels
}

// FanOutOf is the fan-out that a TenantJob is the child of. Nil when it is nobody's, whatever its labels say: one of another
// name only says so, too.
func FanOutOf(tj *v1alpha1.TenantJob) *metav1.OwnerReference {
	owner := metav1.GetControllerOf(tj)
	if owner == nil || owner.Kind != "TenantFanOut" || owner.Name != tj.Name {
		return nil
	}
	return owner
}

// Build returns the Job of a run. What the operator sets wins over what the template says.
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
	// A Job that removes itself would take its outcome along.
	job.Spec.TTLSecondsAfterFinished = nil

	pod := &job.Spec.Template
	pod.Labels = merge(pod.Labels, labels)
	pod.Spec.ServiceAccountName = v1alpha1.RunnerServiceAccount
	pod.Spec.AutomountServiceAccountToken = new(false)
	if pod.Spec.EnableServiceLinks == nil {
		pod.Spec.EnableServiceLinks = new(false)
	}
	vars := environment(r, values)
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			containers[i].Env = withOwn(vars, containers[i].Env)
		}
	}
	return job
}

// withOwn appends a container's own variables to those that all get, which they can't replace.
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

// merge returns base with over on top, and nothing of base that only the operator may set.
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

// reservedKey says whether a label or annotation is the operator's to set.
func reservedKey(key string) bool {
	return strings.HasPrefix(key, "tenantry.dev/") || strings.HasPrefix(key, v1alpha1.TagPrefix)
}
