package job

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
)

// BindingRoot is the directory with a run's credentials, SERVICE_BINDING_ROOT.
const BindingRoot = "/bindings"

// bindingVolume is the name of the volume with a credential, followed by its number. Templates have no volume of such a name.
const bindingVolume = "tenantry-credential-"

// Binding is a credential that every container of a run gets, as files in the layout of the Service Binding specification:
// a directory with its name, and in it a file for each key.
type Binding struct {
	// Name is that of the tenant's credential.
	Name string
	// Secret is the name of the Secret in the tenant's namespace that has all of its files. It is empty for a token.
	Secret string
	// Token is a token of the run's service account, which the kubelet requests and renews. Nil means that Secret has the files.
	Token *TokenBinding
	// Env are the variables that the template wants from it. A token can't be one.
	Env []v1alpha1.CredentialEnv
}

// TokenBinding is a token of the run's service account.
type TokenBinding struct {
	Audience          string
	ExpirationSeconds int64
	// Type and Provider are the keys `type` and `provider`.
	Type, Provider string
}

// Credentials is what is known about the credentials that a run needs.
type Credentials struct {
	// Missing says what the tenant lacks, and what to change. It is empty when it lacks nothing.
	Missing string
	// Blocked is why no credential can be issued now. It is empty when one can.
	Blocked string
	// Trouble says whose fault that is.
	Trouble Trouble
	// RetryAfter is after which time to look again. Zero means when something changes.
	RetryAfter time.Duration
}

// credentialsMissing applies when the tenant does not have a credential that the template names. The child of a fan-out ends, so
// that the fan-out can complete.
func credentialsMissing(o Observed, _ time.Time) *Decision {
	if o.Credentials == nil || o.Credentials.Missing == "" {
		return nil
	}
	if o.FanOut != nil {
		return endsWith(v1alpha1.ReasonCredentialsFailed, conditions.Stalled, o.Credentials.Missing)
	}
	d := waitsFor(v1alpha1.ReasonIssuingCredentials, o.Credentials.Missing)
	d.Progress = conditions.Stalled
	return &d
}

// credentialsBlocked applies when a credential can't be issued now.
func credentialsBlocked(o Observed, _ time.Time) *Decision {
	if o.Credentials == nil || o.Credentials.Blocked == "" {
		return nil
	}
	d := waitsFor(v1alpha1.ReasonIssuingCredentials, o.Credentials.Blocked)
	d.Trouble, d.RequeueAfter = o.Credentials.Trouble, o.Credentials.RetryAfter
	return &d
}

// IssuingCredentials returns the decision about a TenantJob whose credentials are being issued.
func IssuingCredentials() Decision {
	return waitsFor(v1alpha1.ReasonIssuingCredentials, "its credentials are being issued")
}

// bind gives a pod its credentials.
func bind(pod *corev1.PodTemplateSpec, bindings []Binding) {
	for i, b := range bindings {
		name := fmt.Sprintf("%s%d", bindingVolume, i)
		volume := corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: b.Secret}}}
		if b.Token != nil {
			volume.VolumeSource = corev1.VolumeSource{Projected: projectToken(pod, fmt.Sprintf("tenantry.dev/credential-%d", i), b.Token)}
		}
		pod.Spec.Volumes = append(pod.Spec.Volumes, volume)
		mount := corev1.VolumeMount{Name: name, MountPath: BindingRoot + "/" + b.Name, ReadOnly: true}
		for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
			for c := range containers {
				containers[c].VolumeMounts = append(containers[c].VolumeMounts, mount)
			}
		}
	}
}

// projectToken returns the volume with a token. What is constant in it comes from annotations of the pod: that needs no other object.
func projectToken(pod *corev1.PodTemplateSpec, annotation string, t *TokenBinding) *corev1.ProjectedVolumeSource {
	var items []corev1.DownwardAPIVolumeFile
	for _, file := range []struct{ key, value string }{{"type", t.Type}, {"provider", t.Provider}} {
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
		pod.Annotations[annotation+"."+file.key] = file.value
		items = append(items, corev1.DownwardAPIVolumeFile{
			Path: file.key, FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: fmt.Sprintf("metadata.annotations['%s.%s']", annotation, file.key)},
		})
	}
	return &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: t.Audience, ExpirationSeconds: new(t.ExpirationSeconds), Path: "token"}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: items}},
	}}
}

// bindingVariables returns the variables that a run has because of its credentials.
func bindingVariables(bindings []Binding) []corev1.EnvVar {
	if len(bindings) == 0 {
		return nil
	}
	vars := []corev1.EnvVar{{Name: VarBindingRoot, Value: BindingRoot}}
	for _, b := range bindings {
		for _, e := range b.Env {
			if !ReservedVariable(e.Name) { // A template with such a variable is not Ready.
				vars = append(vars, corev1.EnvVar{Name: e.Name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
					LocalObjectReference: corev1.LocalObjectReference{Name: b.Secret}, Key: e.Key,
				}}})
			}
		}
	}
	return vars
}

// bindingProblems finds what is in the way of a run's credentials.
func bindingProblems(t *v1alpha1.TenantJobTemplate) []Problem {
	if len(t.Spec.Credentials) == 0 {
		return nil
	}
	const path = "spec.jobTemplate.spec.template.spec."
	pod := t.Spec.JobTemplate.Spec.Template.Spec
	var problems []Problem
	for _, v := range pod.Volumes {
		if strings.HasPrefix(v.Name, bindingVolume) {
			problems = append(problems, Problem{v1alpha1.ReasonInvalidTemplate,
				fmt.Sprintf("`%svolumes[%s]` must have another name: the credentials have names that begin with %s", path, v.Name, bindingVolume)})
		}
	}
	inContainers := func(field string, containers []corev1.Container) {
		for _, c := range containers {
			for _, m := range c.VolumeMounts {
				if at := strings.TrimRight(m.MountPath, "/"); at == BindingRoot || strings.HasPrefix(at, BindingRoot+"/") {
					problems = append(problems, Problem{v1alpha1.ReasonInvalidTemplate,
						fmt.Sprintf("`%s%s[%s].volumeMounts` must not have %s: the credentials are at %s", path, field, c.Name, m.MountPath, BindingRoot)})
				}
			}
		}
	}
	inContainers("initContainers", pod.InitContainers)
	inContainers("containers", pod.Containers)
	return problems
}
