package job

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func TestProblems(t *testing.T) {
	type (
		template   = v1alpha1.TenantJobTemplate
		parameters = []v1alpha1.Parameter
	)
	const reserved = ": TENANT_ID, TENANT_NAME, TENANTRY_* and SERVICE_BINDING_ROOT belong to the operator"
	value := func(v v1alpha1.ParameterValue) *v1alpha1.ParameterValue { return &v }
	invalid := func(messages ...string) []Problem {
		var all []Problem
		for _, m := range messages {
			all = append(all, Problem{v1alpha1.ReasonInvalidTemplate, m})
		}
		return all
	}
	job := func(t *template) *batchv1.JobSpec { return &t.Spec.JobTemplate.Spec }
	pod := func(t *template) *corev1.PodSpec { return &t.Spec.JobTemplate.Spec.Template.Spec }
	many := map[string]string{"tenantry.dev/b": "", "tenantry.dev/a": "", "tag.tenantry.dev/c": "", "tenantry.dev/d": "", "team": "", "example.com/tenantry.dev": ""}
	cases := map[string]struct {
		change func(*template)
		want   []Problem
	}{
		"none": {change: func(t *template) {
			t.Spec.Parameters = parameters{
				{Name: "graceDays", Type: v1alpha1.ParameterInteger, Pattern: "^[0-9]{1,2}$", Default: value("3")},
				{Name: "mode", Enum: []v1alpha1.ParameterValue{"fast", "slow"}, Default: value("slow"), Tag: new(true)},
			}
			t.Spec.Credentials = []v1alpha1.TemplateCredential{{Name: "database", Env: []v1alpha1.CredentialEnv{{Name: "DB_PASSWORD", Key: "password"}}}}
			pod(t).ServiceAccountName, pod(t).DeprecatedServiceAccount = v1alpha1.RunnerServiceAccount, v1alpha1.RunnerServiceAccount
			pod(t).AutomountServiceAccountToken = new(false)
			job(t).Suspend, job(t).ManualSelector = new(false), new(false)
			pod(t).InitContainers = []corev1.Container{{Name: "init", Env: []corev1.EnvVar{{Name: "LEVEL"}}}}
			pod(t).Containers[0].Env = []corev1.EnvVar{{Name: "LEVEL"}, {Name: "TENANT"}}
			pod(t).Containers[0].EnvFrom = []corev1.EnvFromSource{{Prefix: "SHARED_"}, {Prefix: "APP_"}}
		}},
		"a pattern that is not one": {
			change: func(t *template) { t.Spec.Parameters = parameters{{Name: "n", Pattern: "[", Default: value("x")}} },
			want:   invalid("`spec.parameters[n]` must have an RE2 expression as pattern: error parsing regexp: missing closing ]: `[`"),
		},
		"a pattern of another dialect": {
			change: func(t *template) { t.Spec.Parameters = parameters{{Name: "n", Pattern: "(?=x)"}} },
			want:   invalid("`spec.parameters[n]` must have an RE2 expression as pattern: error parsing regexp: invalid or unsupported Perl syntax: `(?=`"),
		},
		"defaults that do not fit": {
			change: func(t *template) {
				t.Spec.Parameters = parameters{
					{Name: "a", Type: v1alpha1.ParameterInteger, Default: value("s3cr3t")},
					{Name: "b", Pattern: "^[0-9]$", Default: value("s3cr3t")},
					{Name: "c", Tag: new(true), Default: value("s3cr3t!")},
					{Name: "d", Type: v1alpha1.ParameterBoolean, Default: value("yes")},
				}
			},
			want: invalid(
				"`spec.parameters[a]` must have a default that fits: it must be an integer",
				"`spec.parameters[b]` must have a default that fits: it must match ^[0-9]$",
				"`spec.parameters[c]` must have a default that fits: it must be a label value, since it becomes one: at most 63 letters, digits, '-', '_' or '.'",
				"`spec.parameters[d]` must have a default that fits: it must be true or false",
			),
		},
		"an enum that does not fit": {
			change: func(t *template) {
				t.Spec.Parameters = parameters{{Name: "n", Type: v1alpha1.ParameterInteger, Enum: []v1alpha1.ParameterValue{"1", "two", "three"}}}
			},
			want: invalid("`spec.parameters[n]` must have an enum of values that fit: each must be an integer"),
		},
		"reserved variables, however they are set": {
			change: func(t *template) {
				t.Spec.Parameters = parameters{{Name: "tenantID"}, {Name: "n", Env: "TENANTRY_QUEUE"}}
				t.Spec.Credentials = []v1alpha1.TemplateCredential{{Name: "database", Env: []v1alpha1.CredentialEnv{{Name: "TENANT_NAME", Key: "k"}}}}
				pod(t).InitContainers = []corev1.Container{{Name: "init", Env: []corev1.EnvVar{{Name: "SERVICE_BINDING_ROOT"}}}}
				pod(t).Containers[0].Env = []corev1.EnvVar{{Name: "TENANTRY_X"}, {Name: "LEVEL"}, {Name: "TENANT_ID"}}
				pod(t).Containers[0].EnvFrom = []corev1.EnvFromSource{{Prefix: "TENANTRY_ATTRIBUTE_"}}
			},
			want: []Problem{
				{v1alpha1.ReasonReservedVariable, "`spec.parameters[tenantID]` must not set TENANT_ID" + reserved},
				{v1alpha1.ReasonReservedVariable, "`spec.parameters[n]` must not set TENANTRY_QUEUE" + reserved},
				{v1alpha1.ReasonReservedVariable, "`spec.credentials[database].env` must not set TENANT_NAME" + reserved},
				{v1alpha1.ReasonReservedVariable, "`spec.jobTemplate.spec.template.spec.initContainers[init].env` must not set SERVICE_BINDING_ROOT" + reserved},
				{v1alpha1.ReasonReservedVariable, "`spec.jobTemplate.spec.template.spec.containers[main].env` must not set TENANTRY_X" + reserved},
				{v1alpha1.ReasonReservedVariable, "`spec.jobTemplate.spec.template.spec.containers[main].env` must not set TENANT_ID" + reserved},
				{v1alpha1.ReasonReservedVariable, "`spec.jobTemplate.spec.template.spec.containers[main].envFrom` must have a prefix with which no key becomes TENANT_ID, TENANT_NAME, TENANTRY_* or SERVICE_BINDING_ROOT, APP_ for example: they belong to the operator; to have keys without a prefix, list them in `env`"},
			},
		},
		"keys of a ConfigMap that could be reserved variables": {
			change: func(t *template) {
				pod(t).InitContainers = []corev1.Container{{Name: "init", EnvFrom: []corev1.EnvFromSource{{Prefix: "APP_"}, {}, {}}}}
			},
			want: []Problem{{v1alpha1.ReasonReservedVariable, "`spec.jobTemplate.spec.template.spec.initContainers[init].envFrom` must have a prefix with which no key becomes TENANT_ID, TENANT_NAME, TENANTRY_* or SERVICE_BINDING_ROOT, APP_ for example: they belong to the operator; to have keys without a prefix, list them in `env`"}},
		},
		"variables set twice": {
			change: func(t *template) {
				t.Spec.Parameters = parameters{{Name: "graceDays"}, {Name: "days", Env: "GRACE_DAYS"}}
				t.Spec.Credentials = []v1alpha1.TemplateCredential{{Name: "database", Env: []v1alpha1.CredentialEnv{{Name: "PASSWORD", Key: "password"}}}}
				pod(t).Containers[0].Env = []corev1.EnvVar{{Name: "PASSWORD"}, {Name: "GRACE_DAYS"}, {Name: "GRACE_DAYS"}}
			},
			want: invalid(
				"`spec.parameters[days]` must not set GRACE_DAYS: `spec.parameters[graceDays]` sets it",
				"`spec.jobTemplate.spec.template.spec.containers[main].env` must not set GRACE_DAYS: `spec.parameters[days]` sets it",
				"`spec.jobTemplate.spec.template.spec.containers[main].env` must not set PASSWORD: `spec.credentials[database].env` sets it",
			),
		},
		"reserved labels and annotations": {
			change: func(t *template) {
				t.Spec.JobTemplate.Labels, t.Spec.JobTemplate.Annotations = many, map[string]string{"tenantry.dev/x": ""}
				job(t).Template.Labels, job(t).Template.Annotations = map[string]string{"tag.tenantry.dev/x": ""}, map[string]string{"tenantry.dev/y": ""}
			},
			want: invalid(
				"`spec.jobTemplate.metadata.labels` must not have tag.tenantry.dev/c: the operator sets tenantry.dev/* and tag.tenantry.dev/*",
				"`spec.jobTemplate.metadata.labels` must not have tenantry.dev/a: the operator sets tenantry.dev/* and tag.tenantry.dev/*",
				"`spec.jobTemplate.metadata.labels` must not have tenantry.dev/b: the operator sets tenantry.dev/* and tag.tenantry.dev/*",
				"`spec.jobTemplate.metadata.labels` must not have tenantry.dev/d: the operator sets tenantry.dev/* and tag.tenantry.dev/*",
				"`spec.jobTemplate.metadata.annotations` must not have tenantry.dev/x: the operator sets tenantry.dev/* and tag.tenantry.dev/*",
				"`spec.jobTemplate.spec.template.metadata.labels` must not have tag.tenantry.dev/x: the operator sets tenantry.dev/* and tag.tenantry.dev/*",
				"`spec.jobTemplate.spec.template.metadata.annotations` must not have tenantry.dev/y: the operator sets tenantry.dev/* and tag.tenantry.dev/*",
			),
		},
		"fields that only the operator may set": {
			change: func(t *template) {
				job(t).TTLSecondsAfterFinished, job(t).Suspend, job(t).ManagedBy = new(int32(0)), new(true), new("example.com/other")
				job(t).Selector = &metav1.LabelSelector{}
				pod(t).ServiceAccountName, pod(t).AutomountServiceAccountToken, pod(t).NodeName = "admin", new(true), "node-1"
			},
			want: invalid(
				"`spec.jobTemplate.spec.ttlSecondsAfterFinished` must be left out: set `spec.ttlSecondsAfterFinished`",
				"`spec.jobTemplate.spec.suspend` must be left out: the operator decides when a run starts",
				"`spec.jobTemplate.spec.selector` must be left out, and manualSelector: a run has its own pods",
				"`spec.jobTemplate.spec.managedBy` must be left out: the Job controller runs it",
				"`spec.jobTemplate.spec.template.spec.serviceAccountName` must be left out: a run has its tenant's identity, tenant-runner",
				"`spec.jobTemplate.spec.template.spec.automountServiceAccountToken` must be left out: a run has no rights in the API",
				"`spec.jobTemplate.spec.template.spec.nodeName` must be left out: use nodeSelector or affinity",
			),
		},
		"a token of its own, and a priority of the system's": {
			change: func(t *template) {
				pod(t).PriorityClassName = "system-node-critical"
				pod(t).Volumes = append(pod(t).Volumes, corev1.Volume{Name: "token", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
					Sources: []corev1.VolumeProjection{{DownwardAPI: &corev1.DownwardAPIProjection{}}, {ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}},
				}}})
			},
			want: invalid(
				"`spec.jobTemplate.spec.template.spec.volumes[0].projected.sources[1].serviceAccountToken` must be left out: name a credential of a CredentialProvider with `serviceAccountToken` in `spec.credentials`",
				"`spec.jobTemplate.spec.template.spec.priorityClassName` must not be one of the system's: its pods would push out those that the cluster needs",
			),
		},
		"a priority of one's own": {change: func(t *template) { pod(t).PriorityClassName = "high" }},
		"numbers with which nothing runs": {
			change: func(t *template) {
				job(t).Parallelism, job(t).Completions, job(t).ActiveDeadlineSeconds = new(int32(0)), new(int32(0)), new(int64(0))
				job(t).SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{{SucceededCount: new(int32(1))}, {SucceededCount: new(int32(0))}}}
			},
			want: invalid(
				"`spec.jobTemplate.spec.parallelism` must be at least 1: with 0 the Job never has a pod",
				"`spec.jobTemplate.spec.completions` must be at least 1: with 0 the Job completes without a pod",
				"`spec.jobTemplate.spec.activeDeadlineSeconds` must be at least 1: with 0 the Job fails before it has a pod",
				"`spec.jobTemplate.spec.successPolicy.rules[1].succeededCount` must be at least 1: with 0 the Job completes without a pod",
			),
		},
		"zeros with which everything runs": {change: func(t *template) {
			job(t).BackoffLimit, job(t).BackoffLimitPerIndex, job(t).MaxFailedIndexes = new(int32(0)), new(int32(0)), new(int32(0))
			pod(t).TerminationGracePeriodSeconds = new(int64(0))
		}},
		"the deprecated field for the service account": {
			change: func(t *template) { pod(t).DeprecatedServiceAccount = "admin" },
			want:   invalid("`spec.jobTemplate.spec.template.spec.serviceAccountName` must be left out: a run has its tenant's identity, tenant-runner"),
		},
		"a manual selector": {
			change: func(t *template) { job(t).ManualSelector = new(true) },
			want:   invalid("`spec.jobTemplate.spec.selector` must be left out, and manualSelector: a run has its own pods"),
		},
		"problems of every sort, in the order of the fields": {
			change: func(t *template) {
				t.Spec.Parameters = parameters{{Name: "tenantName", Pattern: "["}}
				pod(t).NodeName = "node-1"
			},
			want: []Problem{
				{v1alpha1.ReasonInvalidTemplate, "`spec.parameters[tenantName]` must have an RE2 expression as pattern: error parsing regexp: missing closing ]: `[`"},
				{v1alpha1.ReasonReservedVariable, "`spec.parameters[tenantName]` must not set TENANT_NAME" + reserved},
				{v1alpha1.ReasonInvalidTemplate, "`spec.jobTemplate.spec.template.spec.nodeName` must be left out: use nodeSelector or affinity"},
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			// The order of a map differs each time, so this is tried often.
			for range 100 {
				if diff := cmp.Diff(tc.want, Problems(newTemplate(tc.change))); diff != "" {
					t.Fatalf("Problems (-want, +got):\n%s", diff)
				}
			}
		})
	}
}

// The names of the specimen have the greatest length, and its labels are valid.
func TestSpecimen(t *testing.T) {
	value := v1alpha1.ParameterValue("14")
	template := newTemplate(func(t *v1alpha1.TenantJobTemplate) {
		t.Spec.Parameters = []v1alpha1.Parameter{
			{Name: "a", Default: &value}, {Name: "b", Enum: []v1alpha1.ParameterValue{"fast", "slow"}}, {Name: "c", Tag: new(true)},
		}
	})
	run, values := Specimen(template, "tenantry-system")
	made := Build(run, values)
	type facts struct {
		Namespace        string
		NameLength       int
		FanOut, Schedule int
		Tenant           int
		Values           Values
		Problems         []string
	}
	want := facts{Namespace: "tenantry-system", NameLength: 63, FanOut: 63, Schedule: 40, Tenant: 40, Values: Values{"a": "14", "b": "fast", "c": "1111111111"}}
	got := facts{
		Namespace: made.Namespace, NameLength: len(made.Name), Tenant: len(made.Labels[v1alpha1.LabelTenant]),
		FanOut: len(made.Labels[v1alpha1.LabelFanOut]), Schedule: len(made.Labels[v1alpha1.LabelSchedule]), Values: values,
	}
	got.Problems = append(got.Problems, validation.IsDNS1123Label(made.Name)...)
	for _, v := range made.Labels {
		got.Problems = append(got.Problems, validation.IsValidLabelValue(v)...)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Specimen (-want, +got):\n%s", diff)
	}
	if !strings.HasPrefix(made.Name, "specimen-") {
		t.Errorf("Specimen is named %s", made.Name)
	}
}

// The name of an Indexed Job's specimen is as long as that of a run may be, and its last pod's host name as long as one may be.
func TestSpecimenOfAnIndexedJob(t *testing.T) {
	unset := newTemplate(func(t *v1alpha1.TenantJobTemplate) {
		t.Spec.JobTemplate.Spec.CompletionMode = new(batchv1.IndexedCompletion)
	})
	if got := MaxNameLength(unset); got != 61 {
		t.Errorf("without completions, which means one, the longest name has %d characters", got)
	}
	for completions, want := range map[int32]int{1: 61, 3: 61, 10: 61, 11: 60, 100: 60, 101: 59, 100000: 57} {
		o := newObserved()
		indexed(completions)(&o)
		made := Build(Specimen(o.Template, "tenantry-system"))
		if got := []int{len(made.Name), MaxNameLength(o.Template)}; !cmp.Equal(got, []int{want, want}) {
			t.Errorf("%d completions: the specimen's name and the longest one have %d characters, want %d", completions, got, want)
		}
		if host := fmt.Sprintf("%s-%d", made.Name, completions-1); len(host) != 63 {
			t.Errorf("%d completions: the last host name has %d characters", completions, len(host))
		}
	}
}
