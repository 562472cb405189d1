package cel_test

import (
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// TestMembersWriteNothingUnbounded: a TenantJob is what a tenant's members write, and the operator holds all of them. So whatever is
// in its spec has a limit.
func TestMembersWriteNothingUnbounded(t *testing.T) {
	for _, crd := range loadCRDs() {
		if crd.Spec.Names.Kind != "TenantJob" {
			continue
		}
		for _, version := range crd.Spec.Versions {
			for _, field := range unbounded(version.Schema.OpenAPIV3Schema.Properties["spec"], "spec") {
				t.Errorf("%s: %s has no limit", version.Name, field)
			}
		}
	}
}

// unbounded are the fields of which a user may write as much as fits into an object.
func unbounded(schema apiextensionsv1.JSONSchemaProps, at string) []string {
	var all []string
	switch {
	case schema.Type == "string" && schema.MaxLength == nil && len(schema.Enum) == 0 && schema.Format != "date-time",
		schema.Type == "array" && schema.MaxItems == nil,
		schema.AdditionalProperties != nil && (schema.MaxProperties == nil || !slices.ContainsFunc(schema.XValidations, boundsNames)):
		all = append(all, at)
	}
	for name, property := range schema.Properties {
		all = append(all, unbounded(property, at+"."+name)...)
	}
	if schema.Items != nil {
		all = append(all, unbounded(*schema.Items.Schema, at+"[]")...)
	}
	if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
		all = append(all, unbounded(*schema.AdditionalProperties.Schema, at+"{}")...)
	}
	return all
}

// boundsNames says whether a rule is about the names of a map. A schema has no limit for them.
func boundsNames(rule apiextensionsv1.ValidationRule) bool {
	return strings.HasPrefix(rule.Rule, "self.all(name, ")
}
