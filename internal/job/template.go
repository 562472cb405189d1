package job

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Problem is something in a template that its author must change.
type Problem struct {
	// Reason is that of the condition Ready.
	Reason string
	// Message says which field to change and how.
	Message string
}

// Problems returns what is wrong with a template that neither its schema nor the API server's validation of the Job checks,
// in the order of the fields. It is empty when nothing is.
func Problems(t *v1alpha1.TenantJobTemplate) []Problem {
	var all []Problem
	for _, check := range []func(*v1alpha1.TenantJobTemplate) []Problem{parameterProblems, variableProblems, jobProblems, bindingProblems} {
		all = append(all, check(t)...)
	}
	return all
}

// parameterProblems finds patterns that are no regular expressions, and defaults and enums that do not fit.
func parameterProblems(t *v1alpha1.TenantJobTemplate) []Problem {
	var problems []Problem
	add := func(p v1alpha1.Parameter, format string, args ...any) {
		problems = append(problems, Problem{v1alpha1.ReasonInvalidTemplate, fmt.Sprintf("`spec.parameters[%s]` ", p.Name) + fmt.Sprintf(format, args...)})
	}
	for _, p := range t.Spec.Parameters {
		if _, err := regexp.Compile(p.Pattern); err != nil {
			add(p, "must have an RE2 expression as pattern: %v", err)
			continue
		}
		if p.Default != nil {
			if err := checkValue(p, string(*p.Default)); err != nil {
				add(p, "must have a default that fits: it %v", err)
			}
		}
		for _, value := range p.Enum {
			p := p
			p.Enum = nil
			if err := checkValue(p, string(value)); err != nil {
				add(p, "must have an enum of values that fit: each %v", err)
				break
			}
		}
	}
	return problems
}

// variableProblems finds variables that are reserved for the operator, or could be by the keys of a ConfigMap or Secret that
// nobody knows here, and variables that are set twice.
func variableProblems(t *v1alpha1.TenantJobTemplate) []Problem {
	var problems []Problem
	taken := map[string]string{}
	check := func(name, by string) {
		switch other, twice := taken[name]; {
		case ReservedVariable(name):
			problems = append(problems, Problem{v1alpha1.ReasonReservedVariable,
				fmt.Sprintf("`%s` must not set %s: TENANT_ID, TENANT_NAME, TENANTRY_* and SERVICE_BINDING_ROOT belong to the operator", by, name)})
		case twice:
			problems = append(problems, Problem{v1alpha1.ReasonInvalidTemplate,
				fmt.Sprintf("`%s` must not set %s: `%s` sets it", by, name, other)})
		}
	}
	take := func(name, by string) {
		check(name, by)
		taken[name] = by
	}
	for _, p := range t.Spec.Parameters {
		take(ParameterVariable(p), fmt.Sprintf("spec.parameters[%s]", p.Name))
	}
	for _, c := range t.Spec.Credentials {
		for _, e := range c.Env {
			take(e.Name, fmt.Sprintf("spec.credentials[%s].env", c.Name))
		}
	}
	pod := t.Spec.JobTemplate.Spec.Template.Spec
	inContainers := func(field string, containers []corev1.Container) {
		for _, c := range containers {
			own := map[string]string{}
			for _, e := range c.Env {
				// Two containers may set the same variable.
				own[e.Name] = ""
			}
			for _, name := range slices.Sorted(maps.Keys(own)) {
				check(name, fmt.Sprintf("spec.jobTemplate.spec.template.spec.%s[%s].env", field, c.Name))
			}
			if slices.ContainsFunc(c.EnvFrom, func(from corev1.EnvFromSource) bool { return beginsReserved(from.Prefix) }) {
				problems = append(problems, Problem{v1alpha1.ReasonReservedVariable, fmt.Sprintf(
					"`spec.jobTemplate.spec.template.spec.%s[%s].envFrom` must have a prefix with which no key becomes TENANT_ID, TENANT_NAME, TENANTRY_* or SERVICE_BINDING_ROOT, "+
						"APP_ for example: they belong to the operator; to have keys without a prefix, list them in `env`", field, c.Name)})
			}
		}
	}
	inContainers("initContainers", pod.InitContainers)
	inContainers("containers", pod.Containers)
	return problems
}

// jobProblems finds fields of the Job that only the operator may set.
func jobProblems(t *v1alpha1.TenantJobTemplate) []Problem {
	spec := t.Spec.JobTemplate.Spec
	pod := spec.Template.Spec
	var problems []Problem
	refuse := func(wrong bool, field, why string) {
		if wrong {
			problems = append(problems, Problem{v1alpha1.ReasonInvalidTemplate, fmt.Sprintf("`spec.jobTemplate.%s` must %s", field, why)})
		}
	}
	refuseReserved := func(field string, keys map[string]string) {
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			refuse(reservedKey(key), field, "not have "+key+": the operator sets tenantry.dev/* and tag.tenantry.dev/*")
		}
	}
	refuseReserved("metadata.labels", t.Spec.JobTemplate.Labels)
	refuseReserved("metadata.annotations", t.Spec.JobTemplate.Annotations)
	refuseReserved("spec.template.metadata.labels", spec.Template.Labels)
	refuseReserved("spec.template.metadata.annotations", spec.Template.Annotations)
	refuse(spec.TTLSecondsAfterFinished != nil, "spec.ttlSecondsAfterFinished", "be left out: set `spec.ttlSecondsAfterFinished`")
	refuse(ptr.Deref(spec.Suspend, false), "spec.suspend", "be left out: the operator decides when a run starts")
	refuse(ptr.Deref(spec.ManualSelector, false) || spec.Selector != nil, "spec.selector", "be left out, and manualSelector: a run has its own pods")
	refuse(isZero(spec.Parallelism), "spec.parallelism", "be at least 1: with 0 the Job never has a pod")
	refuse(isZero(spec.Completions), "spec.completions", "be at least 1: with 0 the Job completes without a pod")
	refuse(isZero(spec.ActiveDeadlineSeconds), "spec.activeDeadlineSeconds", "be at least 1: with 0 the Job fails before it has a pod")
	for i, rule := range ptr.Deref(spec.SuccessPolicy, batchv1.SuccessPolicy{}).Rules {
		refuse(isZero(rule.SucceededCount), fmt.Sprintf("spec.successPolicy.rules[%d].succeededCount", i), "be at least 1: with 0 the Job completes without a pod")
	}
	refuse(spec.ManagedBy != nil, "spec.managedBy", "be left out: the Job controller runs it")
	refuse(pod.ServiceAccountName != "" && pod.ServiceAccountName != v1alpha1.RunnerServiceAccount || pod.DeprecatedServiceAccount != "" && pod.DeprecatedServiceAccount != v1alpha1.RunnerServiceAccount,
		"spec.template.spec.serviceAccountName", "be left out: a run has its tenant's identity, "+v1alpha1.RunnerServiceAccount)
	refuse(ptr.Deref(pod.AutomountServiceAccountToken, false), "spec.template.spec.automountServiceAccountToken", "be left out: a run has no rights in the API")
	for i, v := range pod.Volumes {
		for k, source := range ptr.Deref(v.Projected, corev1.ProjectedVolumeSource{}).Sources {
			refuse(source.ServiceAccountToken != nil, fmt.Sprintf("spec.template.spec.volumes[%d].projected.sources[%d].serviceAccountToken", i, k),
				"be left out: name a credential of a CredentialProvider with `serviceAccountToken` in `spec.credentials`")
		}
	}
	refuse(strings.HasPrefix(pod.PriorityClassName, "system-"), "spec.template.spec.priorityClassName",
		"not be one of the system's: its pods would push out those that the cluster needs")
	refuse(pod.NodeName != "", "spec.template.spec.nodeName", "be left out: use nodeSelector or affinity")
	return problems
}

func isZero[N int32 | int64](n *N) bool { return n != nil && *n == 0 }

// maxName is the greatest length of a TenantJob's name.
const maxName = 63

// MaxNameLength is how long the name of a TenantJob of a template may be. The pods of an Indexed Job have its name and their index
// as their host name, which has at most 63 characters.
func MaxNameLength(t *v1alpha1.TenantJobTemplate) int {
	spec := t.Spec.JobTemplate.Spec
	if ptr.Deref(spec.CompletionMode, batchv1.NonIndexedCompletion) != batchv1.IndexedCompletion {
		return maxName
	}
	return maxName - len(fmt.Sprintf("-%d", max(0, ptr.Deref(spec.Completions, 1)-1)))
}

// Specimen returns a run of a template in a namespace, and the values of its parameters, for a dry run. Its names have the
// greatest length: when the API server accepts its Job, it accepts the Job of every run whose name is not longer than MaxNameLength.
func Specimen(t *v1alpha1.TenantJobTemplate, namespace string) (Run, Values) {
	values := Values{}
	for _, p := range t.Spec.Parameters {
		switch {
		case p.Default != nil:
			values[p.Name] = string(*p.Default)
		case len(p.Enum) > 0:
			values[p.Name] = string(p.Enum[0])
		default:
			values[p.Name] = strings.Repeat("1", 10)
		}
	}
	uid := types.UID("00000000-0000-0000-0000-000000000000")
	bindings := make([]Binding, 0, len(t.Spec.Credentials))
	for _, c := range t.Spec.Credentials {
		bindings = append(bindings, Binding{Name: c.Name, Secret: strings.Repeat("x", maxName), Env: c.Env})
	}
	name := "specimen-" + strings.Repeat("x", MaxNameLength(t)-len("specimen-"))
	return Run{
		TenantJob: &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: uid,
		}},
		FanOut:   &FanOut{Name: name, Schedule: strings.Repeat("x", 40), ScheduledTime: "2006-01-02T15:04:05Z"},
		Tenant:   &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: strings.Repeat("x", 40), UID: uid}},
		Template: t,
		Bindings: bindings,
	}, values
}
