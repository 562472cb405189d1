package cel_test

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// constraint is something that a schema asks of a field.
type constraint struct {
	// at is the field, with [] for an item and {} for a value of a map.
	at string
	// says is the message of a rule, or the sort of constraint.
	says string
	// rule is a rule in CEL, with a message of ours.
	rule bool
	// refuses tells a refusal for this constraint's sake.
	refuses func(metav1.StatusCause) bool
}

// A new rule without a case that it refuses fails here, and so does a new pattern, limit or enum.
func TestEveryConstraintRefusesSomething(t *testing.T) {
	for _, crd := range loadCRDs() {
		kind := crd.Spec.Names.Kind
		t.Run(kind, func(t *testing.T) {
			var causes []metav1.StatusCause
			for _, r := range rulesOf[kind] {
				_, err := create(t.Context(), kind, r.at, r.refused)
				causes = append(causes, causesOf(err)...)
			}
			causes = append(causes, causesOfChanges(t, kind)...)
			for _, c := range constraintsOf(crd) {
				if !slices.ContainsFunc(causes, c.refuses) {
					t.Errorf("%s has no case in which it refuses: %s", c.at, c.says)
				}
			}
		})
	}
}

func TestMessagesNameTheirField(t *testing.T) {
	form := regexp.MustCompile("^`[A-Za-z.]+` must ")
	for _, crd := range loadCRDs() {
		for _, c := range constraintsOf(crd) {
			if c.rule && !form.MatchString(c.says) {
				t.Errorf("%s: %s: %q is not of the form \"`field` must …\"", crd.Name, c.at, c.says)
			}
		}
	}
}

func causesOf(err error) []metav1.StatusCause {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	return status.Status().Details.Causes
}

// foreign are fields whose types are not ours. Kubernetes tests those.
var foreign = []string{"spec.jobTemplate", "spec.isolation.egress[]", "elector.matchExpressions[]"}

// constraintsOf are those that a user meets: not those of the status, which the operator writes.
func constraintsOf(crd *apiextensionsv1.CustomResourceDefinition) []constraint {
	var all []constraint
	for _, version := range crd.Spec.Versions {
		root := *version.Schema.OpenAPIV3Schema
		delete(root.Properties, "status")
		all = append(all, constraintsIn(root, "")...)
	}
	return all
}

func constraintsIn(schema apiextensionsv1.JSONSchemaProps, at string) []constraint {
	if slices.ContainsFunc(foreign, func(field string) bool { return strings.HasSuffix(at, field) }) {
		return nil
	}
	all := own(schema, at)
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		all = append(all, constraintsIn(schema.Properties[name], strings.TrimPrefix(at+"."+name, "."))...)
	}
	if schema.Items != nil {
		all = append(all, constraintsIn(*schema.Items.Schema, at+"[]")...)
	}
	if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
		all = append(all, constraintsIn(*schema.AdditionalProperties.Schema, at+"{}")...)
	}
	return all
}

// own are the constraints that a schema has itself, without those of its properties and items.
func own(schema apiextensionsv1.JSONSchemaProps, at string) []constraint {
	var all []constraint
	add := func(at, says, message string) {
		field := fieldPattern(at)
		all = append(all, constraint{at, says, says == message, func(cause metav1.StatusCause) bool {
			return field.MatchString(cause.Field) && strings.Contains(cause.Message, message)
		}})
	}
	addIf := func(set bool, says, message string) {
		if set {
			add(at, says, message)
		}
	}
	for _, rule := range schema.XValidations {
		add(strings.TrimPrefix(at+rule.FieldPath, "."), rule.Message, rule.Message)
	}
	for _, name := range schema.Required {
		add(strings.TrimPrefix(at+"."+name, "."), "required", "Required value")
	}
	addIf(len(schema.Enum) > 0, "enum", "Unsupported value")
	addIf(schema.Pattern != "", "pattern", "should match")
	addIf(schema.Minimum != nil, "minimum", "should be greater than or equal to")
	addIf(schema.Maximum != nil, "maximum", "should be less than or equal to")
	addIf(schema.MinLength != nil && *schema.MinLength > 0, "minLength", "chars long")
	addIf(schema.MaxLength != nil, "maxLength", "Too long")
	addIf(schema.MinItems != nil, "minItems", "should have at least")
	addIf(schema.MaxItems != nil, "maxItems", "Too many")
	addIf(schema.MaxProperties != nil, "maxProperties", "Too many")
	if list := schema.XListType; list != nil && *list != "atomic" {
		add(at+"[]", "unique", "Duplicate value")
	}
	return all
}

// fieldPattern matches the names that the API server gives to a field in its refusals.
func fieldPattern(at string) *regexp.Regexp {
	if at == "" {
		return regexp.MustCompile(`^(<nil>)?$`)
	}
	pattern := strings.NewReplacer(`\[\]`, `\[[^]]+\]`, `\{\}`, `(\[[^]]+\]|\..+)`).Replace(regexp.QuoteMeta(at))
	return regexp.MustCompile("^" + pattern + "$")
}
