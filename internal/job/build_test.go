package job

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func TestBuild(t *testing.T) {
	labels := map[string]string{
		"tenantry.dev/tenant": "acme", "tenantry.dev/template": "report", "tenantry.dev/queue": "default",
	}
	with := func(base, more map[string]string) map[string]string { return merge(base, more) }
	// plain is the Job of the plainest run.
	plain := func(change func(*batchv1.Job)) *batchv1.Job {
		run := Run{TenantJob: newTenantJob(), Tenant: newTenant(), Template: newTemplate()}
		j := &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "tenant-acme", Name: "report-8231", Labels: with(nil, labels),
				Annotations: map[string]string{"tenantry.dev/template-generation": "4"},
				OwnerReferences: []metav1.OwnerReference{{
					APIVersion: "tenantry.dev/v1alpha1", Kind: "TenantJob", Name: "report-8231", UID: "run-uid",
					Controller: new(true), BlockOwnerDeletion: new(true),
				}},
			},
			Spec: batchv1.JobSpec{
				ActiveDeadlineSeconds: new(int64(86400)), PodReplacementPolicy: new(batchv1.Failed),
				Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: with(nil, labels)},
					Spec: corev1.PodSpec{
						RestartPolicy: corev1.RestartPolicyNever, ServiceAccountName: "tenant-runner",
						AutomountServiceAccountToken: new(false), EnableServiceLinks: new(false),
						Containers: []corev1.Container{{Name: "main", Image: "example.com/report", Env: environment(run, nil)}},
					},
				},
			},
		}
		if change != nil {
			change(j)
		}
		return j
	}
	container := func(r Run) *corev1.Container { return &r.Template.Spec.JobTemplate.Spec.Template.Spec.Containers[0] }
	cases := map[string]struct {
		run    func(Run)
		fanOut *FanOut
		values Values
		want   *batchv1.Job
	}{
		"a plain run": {want: plain(nil)},
		"the template's own labels and annotations": {
			run: func(r Run) {
				r.Template.Spec.JobTemplate.Labels = map[string]string{"team": "billing"}
				r.Template.Spec.JobTemplate.Annotations = map[string]string{"example.com/runbook": "r1"}
				r.Template.Spec.JobTemplate.Spec.Template.Labels = map[string]string{"app": "report"}
				r.Template.Spec.JobTemplate.Spec.Template.Annotations = map[string]string{"example.com/scrape": "true"}
			},
			want: plain(func(j *batchv1.Job) {
				j.Labels["team"], j.Annotations["example.com/runbook"] = "billing", "r1"
				j.Spec.Template.Labels["app"] = "report"
				j.Spec.Template.Annotations = map[string]string{"example.com/scrape": "true"}
			}),
		},
		"reserved labels and annotations of the template are left out": {
			run: func(r Run) {
				reserved := map[string]string{"tenantry.dev/tenant": "globex", "tenantry.dev/other": "x", "tag.tenantry.dev/payment": "x", "tenantry.dev/template-generation": "9"}
				r.Template.Spec.JobTemplate.Labels, r.Template.Spec.JobTemplate.Annotations = reserved, reserved
				r.Template.Spec.JobTemplate.Spec.Template.Labels = reserved
			},
			want: plain(nil),
		},
		"tags, fan-out and schedule are inherited, other labels of the TenantJob are not": {
			run: func(r Run) {
				r.TenantJob.Labels = map[string]string{
					"tag.tenantry.dev/payment": "8231", "tenantry.dev/schedule": "other", "tenantry.dev/tenant": "globex", "team": "billing",
				}
				r.TenantJob.Annotations = map[string]string{"tenantry.dev/template-generation": "9", "note": "x"}
				r.Template.Spec.QueueRef = &v1alpha1.LabelReference{Name: "payment-checks"}
			},
			fanOut: &FanOut{Name: "report-8231", Schedule: "check"},
			want: plain(func(j *batchv1.Job) {
				more := map[string]string{
					"tag.tenantry.dev/payment": "8231", "tenantry.dev/fan-out": "report-8231", "tenantry.dev/schedule": "check",
					"tenantry.dev/queue": "payment-checks",
				}
				j.Labels, j.Spec.Template.Labels = with(j.Labels, more), with(j.Spec.Template.Labels, more)
				// with takes out what is reserved.
				for _, all := range []map[string]string{j.Labels, j.Spec.Template.Labels} {
					all["tenantry.dev/tenant"], all["tenantry.dev/template"] = "acme", "report"
				}
				env := j.Spec.Template.Spec.Containers[0].Env
				env[8].Value, env[9].Value = "payment-checks", "report-8231"
			}),
		},
		"fan-out and schedule in the labels of one that says that it is a child": {
			run: func(r Run) {
				r.TenantJob.Labels = map[string]string{"tenantry.dev/fan-out": "report-8231", "tenantry.dev/schedule": "check"}
				r.TenantJob.OwnerReferences = ownedByFanOut("report-8231")
			},
			want: plain(nil),
		},
		"a schedule in the labels of a child whose fan-out has none": {
			run:    func(r Run) { r.TenantJob.Labels = map[string]string{"tenantry.dev/schedule": "check"} },
			fanOut: &FanOut{Name: "report-8231"},
			want: plain(func(j *batchv1.Job) {
				for _, all := range []map[string]string{j.Labels, j.Spec.Template.Labels} {
					all["tenantry.dev/fan-out"] = "report-8231"
				}
				j.Spec.Template.Spec.Containers[0].Env[9].Value = "report-8231"
			}),
		},
		"a parameter that is a tag": {
			run: func(r Run) {
				r.Template.Spec.Parameters = []v1alpha1.Parameter{{Name: "payment", Tag: new(true)}, {Name: "unset", Tag: new(true)}, {Name: "note"}}
				r.TenantJob.Labels = map[string]string{"tag.tenantry.dev/payment": "other"}
			},
			values: Values{"payment": "8231", "note": "$5"},
			want: plain(func(j *batchv1.Job) {
				j.Labels["tag.tenantry.dev/payment"], j.Spec.Template.Labels["tag.tenantry.dev/payment"] = "8231", "8231"
				main := &j.Spec.Template.Spec.Containers[0]
				main.Env = append(main.Env, corev1.EnvVar{Name: "PAYMENT", Value: "8231"}, corev1.EnvVar{Name: "NOTE", Value: "$$5"})
			}),
		},
		"its identity is the tenant's and has no token": {
			run: func(r Run) {
				pod := &r.Template.Spec.JobTemplate.Spec.Template.Spec
				pod.ServiceAccountName, pod.AutomountServiceAccountToken = "admin", new(true)
			},
			want: plain(nil),
		},
		"the template's deadline, not its TTL": {
			run: func(r Run) {
				r.Template.Spec.JobTemplate.Spec.ActiveDeadlineSeconds = new(int64(600))
				r.Template.Spec.JobTemplate.Spec.TTLSecondsAfterFinished = new(int32(1))
				r.Template.Spec.JobTemplate.Spec.BackoffLimit = new(int32(3))
			},
			want: plain(func(j *batchv1.Job) {
				j.Spec.ActiveDeadlineSeconds, j.Spec.BackoffLimit = new(int64(600)), new(int32(3))
			}),
		},
		"pods that are replaced while they stop, if the template asks for that": {
			run:  func(r Run) { r.Template.Spec.JobTemplate.Spec.PodReplacementPolicy = new(batchv1.TerminatingOrFailed) },
			want: plain(func(j *batchv1.Job) { j.Spec.PodReplacementPolicy = new(batchv1.TerminatingOrFailed) }),
		},
		"service links that the template asks for": {
			run: func(r Run) { r.Template.Spec.JobTemplate.Spec.Template.Spec.EnableServiceLinks = new(true) },
			want: plain(func(j *batchv1.Job) {
				j.Spec.Template.Spec.EnableServiceLinks = new(true)
			}),
		},
		"a container's own variables come after, and can't replace": {
			run: func(r Run) {
				r.Template.Spec.Parameters = []v1alpha1.Parameter{{Name: "graceDays"}}
				container(r).Env = []corev1.EnvVar{
					{Name: "URL", Value: "https://$(TENANT_ID).example.com"},
					{Name: "TENANT_ID", Value: "globex"},
					{Name: "TENANTRY_ATTRIBUTE_PLAN", Value: "gold"},
					{Name: "SERVICE_BINDING_ROOT", Value: "/elsewhere"},
					{Name: "GRACE_DAYS", Value: "99"},
				}
			},
			values: Values{"graceDays": "3"},
			want: plain(func(j *batchv1.Job) {
				main := &j.Spec.Template.Spec.Containers[0]
				main.Env = append(main.Env, corev1.EnvVar{Name: "GRACE_DAYS", Value: "3"}, corev1.EnvVar{Name: "URL", Value: "https://$(TENANT_ID).example.com"})
			}),
		},
		"a parameter that is named like the operator's variable does not replace it": {
			run: func(r Run) {
				r.Template.Spec.Parameters = []v1alpha1.Parameter{{Name: "tenantID"}, {Name: "x", Env: "TENANTRY_JOB_UID"}}
			},
			values: Values{"tenantID": "globex", "x": "other"},
			want:   plain(nil),
		},
		"every container, init containers too": {
			run: func(r Run) {
				pod := &r.Template.Spec.JobTemplate.Spec.Template.Spec
				pod.InitContainers = []corev1.Container{{Name: "init", Image: "i"}, {Name: "sidecar", Image: "s"}}
				pod.Containers = append(pod.Containers, corev1.Container{Name: "second", Image: "2"})
			},
			want: plain(func(j *batchv1.Job) {
				pod := &j.Spec.Template.Spec
				env := pod.Containers[0].Env
				pod.InitContainers = []corev1.Container{{Name: "init", Image: "i", Env: env}, {Name: "sidecar", Image: "s", Env: env}}
				pod.Containers = append(pod.Containers, corev1.Container{Name: "second", Image: "2", Env: env})
			}),
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			run := Run{TenantJob: newTenantJob(), Tenant: newTenant(), Template: newTemplate(), FanOut: tc.fanOut}
			if tc.run != nil {
				tc.run(run)
			}
			before := run.Template.DeepCopy()
			diff := cmp.Diff(tc.want, Build(run, tc.values))
			if mutated := cmp.Diff(before, run.Template); diff != "" || mutated != "" {
				t.Errorf("Build (-want, +got):\n%s\nthe template (-before, +after):\n%s", diff, mutated)
			}
		})
	}
}
