package job

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// TestBindings: every container of a run has each of its credentials as files, and as the variables that the template asks for.
func TestBindings(t *testing.T) {
	t.Parallel()
	run, values := Specimen(&v1alpha1.TenantJobTemplate{Spec: v1alpha1.TenantJobTemplateSpec{}}, "tenant-acme")
	spec := &run.Template.Spec.JobTemplate.Spec.Template.Spec
	spec.InitContainers = []corev1.Container{{Name: "migrate"}}
	spec.Containers = []corev1.Container{{Name: "main", Env: []corev1.EnvVar{{Name: "SERVICE_BINDING_ROOT", Value: "/mine"}, {Name: "DB_PASSWORD", Value: "mine"}}}}
	run.Bindings = []Binding{
		{Name: "database", Secret: "s1", Env: []v1alpha1.CredentialEnv{{Name: "DB_PASSWORD", Key: "password"}, {Name: "TENANT_ID", Key: "id"}}},
		{Name: "sts", Token: &TokenBinding{Audience: "sts.example.com", ExpirationSeconds: 600, Type: "token", Provider: "cluster"}},
	}
	pod := Build(run, values).Spec.Template

	wantMounts := []corev1.VolumeMount{
		{Name: "tenantry-credential-0", MountPath: "/bindings/database", ReadOnly: true}, {Name: "tenantry-credential-1", MountPath: "/bindings/sts", ReadOnly: true},
	}
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		if diff := cmp.Diff(wantMounts, c.VolumeMounts); diff != "" {
			t.Errorf("mounts of %s (-want +got):\n%s", c.Name, diff)
		}
		found := map[string][]corev1.EnvVar{}
		for _, v := range c.Env {
			found[v.Name] = append(found[v.Name], v)
		}
		if root := found["SERVICE_BINDING_ROOT"]; len(root) != 1 || root[0].Value != "/bindings" {
			t.Errorf("SERVICE_BINDING_ROOT of %s: %v", c.Name, root)
		}
		if p := found["DB_PASSWORD"]; len(p) != 1 || p[0].ValueFrom == nil || p[0].ValueFrom.SecretKeyRef.Name != "s1" || p[0].ValueFrom.SecretKeyRef.Key != "password" {
			t.Errorf("DB_PASSWORD of %s: %v", c.Name, p)
		}
		if id := found["TENANT_ID"]; len(id) != 1 || id[0].ValueFrom != nil {
			t.Errorf("TENANT_ID of %s: %v", c.Name, id)
		}
	}
	wantVolumes := []corev1.Volume{
		{Name: "tenantry-credential-0", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s1"}}},
		{Name: "tenantry-credential-1", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "sts.example.com", ExpirationSeconds: new(int64(600)), Path: "token"}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "type", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.annotations['tenantry.dev/credential-1.type']"}},
				{Path: "provider", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.annotations['tenantry.dev/credential-1.provider']"}},
			}}},
		}}}},
	}
	if diff := cmp.Diff(wantVolumes, pod.Spec.Volumes); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"tenantry.dev/credential-1.type": "token", "tenantry.dev/credential-1.provider": "cluster"}, pod.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	for key := range pod.Annotations {
		if problems := validation.IsQualifiedName(key); len(problems) > 0 {
			t.Errorf("annotation %s: %v", key, problems)
		}
	}
}

// TestBindingProblems: a template with credentials has nothing where they are.
func TestBindingProblems(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*corev1.PodSpec)
		want   string
	}{
		"nothing in the way": {func(pod *corev1.PodSpec) {
			pod.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/bindings-of-mine"}}
		}, ""},
		"a volume of their name": {func(pod *corev1.PodSpec) { pod.Volumes = []corev1.Volume{{Name: "tenantry-credential-0"}} }, "volumes[tenantry-credential-0]"},
		"a mount in their place": {func(pod *corev1.PodSpec) {
			pod.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/bindings/"}}
		}, "containers[main].volumeMounts"},
		"a mount among them": {func(pod *corev1.PodSpec) {
			pod.InitContainers = []corev1.Container{{Name: "init", VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/bindings/database"}}}}
		}, "initContainers[init].volumeMounts"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			template := &v1alpha1.TenantJobTemplate{}
			template.Spec.Credentials = []v1alpha1.TemplateCredential{{Name: "database"}}
			pod := &template.Spec.JobTemplate.Spec.Template.Spec
			pod.Containers = []corev1.Container{{Name: "main"}}
			tc.change(pod)
			got := ""
			for _, p := range bindingProblems(template) {
				got += p.Message
			}
			if tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			template.Spec.Credentials = nil
			if problems := bindingProblems(template); len(problems) > 0 {
				t.Errorf("without credentials: %v", problems)
			}
		})
	}
}
