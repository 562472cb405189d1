package cel_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// unrelated is a change of the spec that is none of the rules' business.
var unrelated = map[string]struct{ at, value string }{
	"Tenant":             {"spec.suspend", "true"},
	"TenantJobTemplate":  {"spec.description", "a"},
	"TenantJob":          {"spec.cancel", "true"},
	"TenantFanOut":       {"spec.suspend", "true"},
	"TenantSchedule":     {"spec.suspend", "true"},
	"TenantQueue":        {"spec.suspend", "true"},
	"CredentialProvider": {"metadata.annotations", "{a: b}"},
}

// An older version of a CustomResourceDefinition, without rules and limits, let objects in that the current one refuses.
// After the upgrade they are all still there and what is not wrong with them can be changed; new ones are refused.
func TestUpgradeOverObjectsThatWouldBeRefused(t *testing.T) {
	crds := loadCRDs()
	for _, crd := range crds {
		crd.Spec.Group = "upgrade." + crd.Spec.Group // so that the other tests keep theirs
		crd.Name = crd.Spec.Names.Plural + "." + crd.Spec.Group
		install(t, older(crd))
		t.Cleanup(func() { _ = kube.Delete(context.Background(), crd) })
	}
	letIn := map[string]map[string]*unstructured.Unstructured{}
	for _, crd := range crds {
		letIn[crd.Spec.Names.Kind] = createLetIn(t, crd.Spec.Group, crd.Spec.Names.Kind)
	}
	for _, crd := range crds {
		install(t, crd)
	}
	for kind, olds := range letIn {
		if len(olds) < len(rulesOf[kind])/4 {
			t.Errorf("the older version let only %d of %d objects of kind %s in", len(olds), len(rulesOf[kind]), kind)
		}
		for name, old := range olds {
			t.Run(kind+"/"+name, func(t *testing.T) { survives(t, old, rulesOf[kind][name]) })
		}
	}
}

// survives checks that an object from before the upgrade is as it was, that updates pass which leave alone what is wrong
// with it, and that another one like it is refused.
func survives(t *testing.T, old *unstructured.Unstructured, r rule) {
	t.Helper()
	another := old.DeepCopy()
	another.SetResourceVersion("")
	// The API server takes a moment to heed the new version.
	if err := eventually(t.Context(), "another one like it to be refused", func(ctx context.Context) (bool, error) {
		err := kube.Create(ctx, another.DeepCopy(), client.DryRunAll)
		return err != nil && strings.Contains(err.Error(), r.want), nil
	}); err != nil {
		t.Fatal(err)
	}

	live := old.DeepCopy()
	if err := kube.Get(t.Context(), client.ObjectKeyFromObject(old), live); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(old.Object, live.Object); diff != "" {
		t.Errorf("the upgrade changed it (-before +after):\n%.1000s", diff)
	}
	put(live, "metadata.labels", "{a: b}")
	put(live, "metadata.finalizers", "[tenantry.dev/test]")
	if err := kube.Update(t.Context(), live); err != nil {
		t.Errorf("updating its metadata: %.500v", err)
	}
	put(live, "status.observedGeneration", "1")
	if err := kube.Status().Update(t.Context(), live); err != nil {
		t.Errorf("updating its status: %.500v", err)
	}
	if r.at != "spec" {
		change := unrelated[live.GetKind()]
		put(live, change.at, change.value)
		if err := kube.Update(t.Context(), live); err != nil {
			t.Errorf("updating its %s: %.500v", change.at, err)
		}
	}
	put(live, "metadata.finalizers", absent)
	if err := kube.Update(t.Context(), live); err != nil {
		t.Errorf("taking its finalizer off: %.500v", err)
	}
}

// createLetIn creates what the rules of a kind refuse, and returns by rule what was let in.
func createLetIn(t *testing.T, group, kind string) map[string]*unstructured.Unstructured {
	t.Helper()
	letIn := map[string]*unstructured.Unstructured{}
	for name, r := range rulesOf[kind] {
		if r.at == "spec.notBeforeTime" {
			continue // A rule that can't be evaluated, as on such a time, does not spare what was there before it.
		}
		if len(r.refused) > 50_000 {
			continue // It takes its time and shows nothing more.
		}
		obj := newObject(kind, fmt.Sprintf("old-%d", len(letIn)))
		obj.SetAPIVersion(group + "/v1alpha1")
		put(obj, r.at, strings.ReplaceAll(r.refused, "cel-test", obj.GetName()))
		if err := kube.Create(t.Context(), obj); err == nil {
			letIn[name] = obj
		}
	}
	// What is read is the measure: the API server fills in a status as it reads.
	for _, obj := range letIn {
		if err := kube.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
			t.Fatal(err)
		}
	}
	return letIn
}

func install(t *testing.T, crd *apiextensionsv1.CustomResourceDefinition) {
	t.Helper()
	if err := installCRD(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
}

// older returns the definition as an older version could have been, without rules and limits.
func older(crd *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.CustomResourceDefinition {
	old := crd.DeepCopy()
	for i := range old.Spec.Versions {
		schema := old.Spec.Versions[i].Schema
		*schema.OpenAPIV3Schema = loosened(*schema.OpenAPIV3Schema)
	}
	return old
}

func loosened(schema apiextensionsv1.JSONSchemaProps) apiextensionsv1.JSONSchemaProps {
	schema.XValidations, schema.Enum, schema.Pattern = nil, nil, ""
	schema.Minimum, schema.Maximum = nil, nil
	schema.MinLength, schema.MaxLength = nil, nil
	schema.MinItems, schema.MaxItems, schema.MaxProperties = nil, nil, nil
	for name, property := range schema.Properties {
		schema.Properties[name] = loosened(property)
	}
	if schema.Items != nil {
		*schema.Items.Schema = loosened(*schema.Items.Schema)
	}
	if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
		*schema.AdditionalProperties.Schema = loosened(*schema.AdditionalProperties.Schema)
	}
	return schema
}
