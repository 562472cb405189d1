package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

const samples = "../../config/samples"

// readSamples reads the objects in the files that match the pattern, and takes no field that their kind does not have.
func readSamples[T any](t *testing.T, pattern string) []T {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(samples, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples %s: %v", pattern, err)
	}
	var objects []T
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for document := range strings.SplitSeq(string(content), "\n---\n") {
			var object T
			if err := yaml.UnmarshalStrict([]byte(document), &object); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			objects = append(objects, object)
		}
	}
	return objects
}

func readTemplates(t *testing.T) map[string]v1alpha1.TenantJobTemplate {
	t.Helper()
	templates := map[string]v1alpha1.TenantJobTemplate{}
	for _, template := range readSamples[v1alpha1.TenantJobTemplate](t, "templates/*-*.yaml") {
		templates[template.Name] = template
	}
	return templates
}

// resolve does what the operator does with parameters, as far as the samples need it.
func resolve(t *testing.T, template v1alpha1.TenantJobTemplate, given map[string]v1alpha1.ParameterValue) environment {
	t.Helper()
	env := environment{}
	for _, p := range template.Spec.Parameters {
		value, ok := given[p.Name]
		switch {
		case ok:
		case p.Default != nil:
			value = *p.Default
		default:
			t.Fatalf("parameter %s of %s is not given", p.Name, template.Name)
		}
		if p.Pattern != "" && !regexp.MustCompile(p.Pattern).MatchString(string(value)) ||
			len(p.Enum) > 0 && !slices.Contains(p.Enum, value) {
			t.Errorf("parameter %s of %s refuses %q", p.Name, template.Name, value)
		}
		env[p.Env] = string(value)
	}
	for name := range given {
		if !slices.ContainsFunc(template.Spec.Parameters, func(p v1alpha1.Parameter) bool { return p.Name == name }) {
			t.Errorf("%s has no parameter %s", template.Name, name)
		}
	}
	return env
}

func TestEveryJobHasItsTemplate(t *testing.T) {
	templates := readTemplates(t)
	for _, j := range jobs {
		template, ok := templates[j.name]
		if !ok {
			t.Errorf("%s has no template", j.name)
			continue
		}
		containers := template.Spec.JobTemplate.Spec.Template.Spec.Containers
		if len(containers) != 1 || !slices.Equal(containers[0].Args, []string{j.name}) {
			t.Errorf("%s is not what its template runs", j.name)
		}
	}
	if len(templates) != len(jobs) {
		t.Errorf("%d templates for %d jobs", len(templates), len(jobs))
	}
}

func TestOtherSamplesParse(t *testing.T) {
	readSamples[v1alpha1.CredentialProvider](t, "tenantry_v1alpha1_credentialprovider.yaml")
	readSamples[v1alpha1.TenantFanOut](t, "jobs/tenantry_v1alpha1_tenantfanout.yaml")
}

// TestSamplesSelectTheirOwnTenants: on a cluster that has other tenants, neither the samples nor the demo run anything for them.
func TestSamplesSelectTheirOwnTenants(t *testing.T) {
	const key, application = "app.kubernetes.io/part-of", "hotspot"
	for _, tenant := range readSamples[v1alpha1.Tenant](t, "tenantry_v1alpha1_tenant.yaml") {
		if tenant.Labels[key] != application {
			t.Errorf("tenant %s lacks the label", tenant.Name)
		}
	}
	selections := map[string]v1alpha1.TenantSelection{}
	for _, ts := range readSamples[v1alpha1.TenantSchedule](t, "tenantry_v1alpha1_tenantschedule.yaml") {
		selections[ts.Name] = ts.Spec.FanOutTemplate.Spec.Tenants
	}
	for _, fanOut := range readSamples[v1alpha1.TenantFanOut](t, "jobs/tenantry_v1alpha1_tenantfanout.yaml") {
		selections["fan-out "+fanOut.Name] = fanOut.Spec.Tenants
	}
	for name, tenants := range selections {
		if tenants.Selector == nil || tenants.Selector.MatchLabels[key] != application {
			t.Errorf("%s does not select by the label", name)
		}
	}
	demo, err := os.ReadFile("../../hack/demo.sh")
	if err != nil {
		t.Fatal(err)
	}
	for selection := range strings.SplitSeq(string(demo), "tenants: {") {
		if strings.HasPrefix(selection, "all:") {
			t.Errorf("the demo selects the tenants of others: %.60s", selection)
		}
	}
}

func TestEveryTemplateHasItsQueue(t *testing.T) {
	queues := map[string]bool{}
	for _, queue := range readSamples[v1alpha1.TenantQueue](t, "tenantry_v1alpha1_tenantqueue.yaml") {
		queues[queue.Name] = true
	}
	for name, template := range readTemplates(t) {
		if ref := template.Spec.QueueRef; ref == nil || !queues[ref.Name] {
			t.Errorf("%s has queueRef %v, and no TenantQueue is named so", name, ref)
		}
	}
}

func TestEveryJobIsScheduled(t *testing.T) {
	templates := readTemplates(t)
	scheduled := map[string]bool{}
	for _, ts := range readSamples[v1alpha1.TenantSchedule](t, "tenantry_v1alpha1_tenantschedule.yaml") {
		t.Run(ts.Name, func(t *testing.T) {
			spec := ts.Spec.FanOutTemplate.Spec
			template, exists := templates[spec.TemplateRef.Name]
			if !exists || ts.Name != template.Name {
				t.Fatalf("it runs %q", spec.TemplateRef.Name)
			}
			env := resolve(t, template, spec.Parameters).with(environment{"TENANT_ID": "1"})
			var out strings.Builder
			if code := run(t.Context(), []string{template.Name}, env, now, &out); code != 0 {
				t.Errorf("exit code %d, output %s", code, out.String())
			}
			scheduled[template.Name] = true
		})
	}
	if len(scheduled) != len(templates) {
		t.Errorf("%d of %d templates have a schedule", len(scheduled), len(templates))
	}
}

func TestSampleTenantJobsRun(t *testing.T) {
	templates := readTemplates(t)
	tenants := map[string]v1alpha1.Tenant{}
	for _, tenant := range readSamples[v1alpha1.Tenant](t, "tenantry_v1alpha1_tenant.yaml") {
		tenants[tenant.Name] = tenant
	}
	ran := map[string]bool{}
	for _, tj := range readSamples[v1alpha1.TenantJob](t, "jobs/tenantry_v1alpha1_tenantjob_*.yaml") {
		t.Run(tj.Namespace+"/"+tj.Name, func(t *testing.T) {
			tenant, template := tenants[tj.Spec.TenantRef.Name], templates[tj.Spec.TemplateRef.Name]
			if tenant.Name == "" || tj.Namespace != tenant.NamespaceName() {
				t.Errorf("namespace %s is not that of tenant %q", tj.Namespace, tj.Spec.TenantRef.Name)
			}
			env := resolve(t, template, tj.Spec.Parameters).with(environment{"TENANT_ID": "1"})
			var out strings.Builder
			if code := run(t.Context(), []string{template.Name}, env, now, &out); code != 0 {
				t.Errorf("exit code %d, output %s", code, out.String())
			}
			ran[template.Name] = true
		})
	}
	if len(ran) != len(templates) {
		t.Errorf("the sample TenantJobs run %d of %d templates", len(ran), len(templates))
	}
}
