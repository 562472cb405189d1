package job

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Values are the values of a run's parameters by name, with the defaults applied.
type Values map[string]string

// Resolve returns the values of a run's parameters: those that are given, and the defaults of the declared ones. The error
// lists what to change in those that are given. It quotes no value, since a value may be a secret.
func Resolve(declared []v1alpha1.Parameter, given map[string]v1alpha1.ParameterValue) (Values, error) {
	values := Values{}
	var problems, names []string
	for _, p := range declared {
		names = append(names, p.Name)
		value, set := given[p.Name]
		switch {
		case set:
			if err := checkValue(p, string(value)); err != nil {
				problems = append(problems, fmt.Sprintf("`parameters.%s` %v", p.Name, err))
			}
			values[p.Name] = string(value)
		case p.Default != nil:
			values[p.Name] = string(*p.Default)
		case ptr.Deref(p.Required, false):
			problems = append(problems, fmt.Sprintf("`parameters.%s` must be set", p.Name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(names, name) {
			problems = append(problems, fmt.Sprintf("`parameters.%s` must be left out: the template declares %s", name, listOr(names, "no parameters")))
		}
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%s", strings.Join(problems, "; "))
	}
	return values, nil
}

// checkValue returns an error that says what a parameter's value must be, nil when it is.
func checkValue(p v1alpha1.Parameter, value string) error {
	switch p.Type {
	case v1alpha1.ParameterInteger:
		if _, err := strconv.ParseInt(value, 10, 64); err != nil {
			return fmt.Errorf("must be an integer")
		}
	case v1alpha1.ParameterBoolean:
		if value != "true" && value != "false" {
			return fmt.Errorf("must be true or false")
		}
	}
	if len(p.Enum) > 0 && !slices.Contains(p.Enum, v1alpha1.ParameterValue(value)) {
		allowed := make([]string, 0, len(p.Enum))
		for _, e := range p.Enum {
			allowed = append(allowed, string(e))
		}
		return fmt.Errorf("must be one of %s", strings.Join(allowed, ", "))
	}
	if p.Pattern != "" {
		pattern, err := regexp.Compile(p.Pattern)
		if err != nil {
			return fmt.Errorf("can't be checked: the template's pattern is not a regular expression")
		}
		if !pattern.MatchString(value) {
			return fmt.Errorf("must match %s", p.Pattern)
		}
	}
	if ptr.Deref(p.Tag, false) {
		if problems := validation.IsValidLabelValue(value); len(problems) > 0 {
			return fmt.Errorf("must be a label value, since it becomes one: at most 63 letters, digits, '-', '_' or '.'")
		}
	}
	return nil
}

// listOr joins names, or returns none when there are no names.
func listOr(names []string, none string) string {
	if len(names) == 0 {
		return none
	}
	return strings.Join(names, ", ")
}
