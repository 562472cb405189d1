package cel_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

// The rules of spec.schedule are long; here a plain parser says for random expressions what they should.
func TestExpressionsAgainstOracle(t *testing.T) {
	const runs = 20000
	validator, structural := scheduleValidator(t)
	random := rand.New(rand.NewPCG(1, 2))
	accepted := 0
	for range runs {
		expression := randomExpression(random)
		errs, _ := validator.Validate(t.Context(), nil, structural, expression, nil, celconfig.RuntimeCELCostBudget)
		switch want := comes(expression); {
		case want && len(errs) > 0:
			t.Errorf("%q was refused: %v", expression, errs)
		case !want && len(errs) == 0:
			t.Errorf("%q was accepted", expression)
		case want:
			accepted++
		}
	}
	if accepted < runs/10 || accepted > runs*9/10 {
		t.Errorf("of %d expressions %d are right: too few of one sort to say anything", runs, accepted)
	}
}

// scheduleValidator evaluates the rules of spec.schedule as the API server does.
func scheduleValidator(t *testing.T) (*cel.Validator, *schema.Structural) {
	t.Helper()
	crds := loadCRDs()
	crd := crds[slices.IndexFunc(crds, func(crd *apiextensionsv1.CustomResourceDefinition) bool {
		return crd.Spec.Names.Kind == "TenantSchedule"
	})]
	property := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties["schedule"]
	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(&property, &internal, nil); err != nil {
		t.Fatal(err)
	}
	structural, err := schema.NewStructural(&internal)
	if err != nil {
		t.Fatal(err)
	}
	return cel.NewValidator(structural, false, celconfig.PerCallLimit), structural
}

// cronField is what may stand at one of the five places.
type cronField struct {
	least, most int
	names       []string
	maxStep     int
}

var (
	monthNames = []string{"", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	cronFields = []cronField{
		{0, 59, nil, 99},
		{0, 23, nil, 99},
		{1, 31, nil, 99},
		{1, 12, monthNames, 99},
		{0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat", ""}, 9},
	}
	daysOfMonth = []int{0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
)

// comes says whether an expression is one, and names a date that comes.
func comes(expression string) bool {
	fields := strings.Split(expression, " ")
	if len(fields) != len(cronFields) {
		return false
	}
	values, every := make([][]int, len(fields)), make([]bool, len(fields))
	for i, field := range fields {
		for part := range strings.SplitSeq(field, ",") {
			some, ok := cronFields[i].parse(part)
			if !ok {
				return false
			}
			values[i] = append(values[i], some...)
			every[i] = every[i] || part == "*" || part == "*/1"
		}
	}
	days, months, everyWeekDay := values[2], values[3], every[4]
	return !everyWeekDay || slices.ContainsFunc(months, func(month int) bool { return slices.Min(days) <= daysOfMonth[month] })
}

// parse returns the values of one part of a list.
func (f cronField) parse(part string) (values []int, ok bool) {
	span, stepText, stepped := strings.Cut(part, "/")
	step := 1
	if stepped {
		if step, ok = digits(stepText); !ok || step < 1 || step > f.maxStep || stepText[0] == '0' {
			return nil, false
		}
	}
	from, to, ranged := strings.Cut(span, "-")
	least, most := f.least, f.most
	if span != "*" {
		if least, ok = f.value(from); !ok {
			return nil, false
		}
		if !stepped {
			most = least
		}
		if ranged {
			if most, ok = f.value(to); !ok || most < least {
				return nil, false
			}
		}
	}
	for value := least; value <= most; value += step {
		values = append(values, value)
	}
	return values, true
}

func (f cronField) value(text string) (int, bool) {
	if place := slices.Index(f.names, strings.ToLower(text)); text != "" && place >= 0 {
		return place, true
	}
	value, ok := digits(text)
	return value, ok && value >= f.least && value <= f.most
}

// digits reads one or two digits.
func digits(text string) (int, bool) {
	if len(text) < 1 || len(text) > 2 || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	value, err := strconv.Atoi(text)
	return value, err == nil
}

// randomExpression is right more often than not, and wrong in one place where it is wrong.
func randomExpression(random *rand.Rand) string {
	fields := make([]string, len(cronFields))
	late := random.IntN(3) == 0
	for i, field := range cronFields {
		switch {
		case late && i == 2:
			field.least = 28 // where months differ
		case late && i == 4:
			fields[i] = "*"
			continue
		}
		fields[i] = field.random(random)
	}
	expression := strings.Join(fields, " ")
	if random.IntN(4) == 0 {
		place := random.IntN(len(expression))
		expression = expression[:place] + string("0123456789*,-/ janfeb@"[random.IntN(22)]) + expression[place+random.IntN(2):]
	}
	return expression
}

func (f cronField) random(random *rand.Rand) string {
	value := func() string {
		value := f.least + random.IntN(f.most-f.least+1)
		switch choice := random.IntN(40); {
		case choice == 0:
			value = f.most + 1
		case choice == 1 && f.least > 0:
			value = f.least - 1
		case choice < 15 && f.names != nil && f.names[value] != "":
			return []string{f.names[value], strings.ToUpper(f.names[value])}[random.IntN(2)]
		case choice < 18:
			return fmt.Sprintf("%02d", value)
		}
		return strconv.Itoa(value)
	}
	parts := make([]string, 1+random.IntN(8)/5)
	for i := range parts {
		switch random.IntN(4) {
		case 0:
			parts[i] = "*"
		case 1:
			parts[i] = value() + "-" + value()
		default:
			parts[i] = value()
		}
		if random.IntN(4) == 0 {
			parts[i] += "/" + strconv.Itoa(random.IntN(14))
		}
	}
	return strings.Join(parts, ",")
}
