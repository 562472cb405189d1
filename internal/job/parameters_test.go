package job

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func TestResolve(t *testing.T) {
	type (
		parameters = []v1alpha1.Parameter
		given      = map[string]v1alpha1.ParameterValue
	)
	value := func(v v1alpha1.ParameterValue) *v1alpha1.ParameterValue { return &v }
	cases := map[string]struct {
		declared parameters
		given    given
		want     Values
		wantErr  string
	}{
		"none declared, none given": {want: Values{}},
		"given": {
			declared: parameters{{Name: "paymentID"}},
			given:    given{"paymentID": "8231"},
			want:     Values{"paymentID": "8231"},
		},
		"given empty is given": {
			declared: parameters{{Name: "note", Default: value("none")}},
			given:    given{"note": ""},
			want:     Values{"note": ""},
		},
		"given empty satisfies required": {
			declared: parameters{{Name: "note", Required: new(true)}},
			given:    given{"note": ""},
			want:     Values{"note": ""},
		},
		"default": {
			declared: parameters{{Name: "graceDays", Default: value("3")}},
			want:     Values{"graceDays": "3"},
		},
		"given wins over default": {
			declared: parameters{{Name: "graceDays", Default: value("3")}},
			given:    given{"graceDays": "4"},
			want:     Values{"graceDays": "4"},
		},
		"optional without default stays unset": {
			declared: parameters{{Name: "note"}},
			want:     Values{},
		},
		"required and missing": {
			declared: parameters{{Name: "paymentID", Required: new(true)}},
			wantErr:  "`parameters.paymentID` must be set",
		},
		"undeclared": {
			declared: parameters{{Name: "paymentID"}, {Name: "note"}},
			given:    given{"payment": "s3cr3t"},
			wantErr:  "`parameters.payment` must be left out: the template declares paymentID, note",
		},
		"undeclared when there are none": {
			given:   given{"payment": "s3cr3t"},
			wantErr: "`parameters.payment` must be left out: the template declares no parameters",
		},
		"all that is wrong, in a stable order": {
			declared: parameters{{Name: "b", Type: v1alpha1.ParameterInteger}, {Name: "a", Required: new(true)}},
			given:    given{"b": "s3cr3t", "z": "s3cr3t", "y": "s3cr3t"},
			wantErr: "`parameters.b` must be an integer; `parameters.a` must be set; " +
				"`parameters.y` must be left out: the template declares b, a; `parameters.z` must be left out: the template declares b, a",
		},
		"integer": {
			declared: parameters{{Name: "n", Type: v1alpha1.ParameterInteger}},
			given:    given{"n": "-9223372036854775808"},
			want:     Values{"n": "-9223372036854775808"},
		},
		"integer of more than 64 bits": {
			declared: parameters{{Name: "n", Type: v1alpha1.ParameterInteger}},
			given:    given{"n": "9223372036854775808"},
			wantErr:  "`parameters.n` must be an integer",
		},
		"integer with a fraction": {
			declared: parameters{{Name: "n", Type: v1alpha1.ParameterInteger}},
			given:    given{"n": "1.0"},
			wantErr:  "`parameters.n` must be an integer",
		},
		"integer with shell text": {
			declared: parameters{{Name: "n", Type: v1alpha1.ParameterInteger}},
			given:    given{"n": "1; rm -rf /"},
			wantErr:  "`parameters.n` must be an integer",
		},
		"integer, empty": {
			declared: parameters{{Name: "n", Type: v1alpha1.ParameterInteger}},
			given:    given{"n": ""},
			wantErr:  "`parameters.n` must be an integer",
		},
		"boolean": {
			declared: parameters{{Name: "dry", Type: v1alpha1.ParameterBoolean}},
			given:    given{"dry": "false"},
			want:     Values{"dry": "false"},
		},
		"boolean as others write it": {
			declared: parameters{{Name: "dry", Type: v1alpha1.ParameterBoolean}},
			given:    given{"dry": "True"},
			wantErr:  "`parameters.dry` must be true or false",
		},
		"string is any text": {
			declared: parameters{{Name: "note", Type: v1alpha1.ParameterString}},
			given:    given{"note": "$(TENANT_ID); DROP TABLE users\n"},
			want:     Values{"note": "$(TENANT_ID); DROP TABLE users\n"},
		},
		"enum": {
			declared: parameters{{Name: "mode", Enum: []v1alpha1.ParameterValue{"fast", "slow"}}},
			given:    given{"mode": "slow"},
			want:     Values{"mode": "slow"},
		},
		"not in the enum": {
			declared: parameters{{Name: "mode", Enum: []v1alpha1.ParameterValue{"fast", "slow"}}},
			given:    given{"mode": "s3cr3t"},
			wantErr:  "`parameters.mode` must be one of fast, slow",
		},
		"pattern": {
			declared: parameters{{Name: "graceDays", Pattern: "^[0-9]{1,2}$"}},
			given:    given{"graceDays": "14"},
			want:     Values{"graceDays": "14"},
		},
		"pattern matches somewhere": {
			declared: parameters{{Name: "graceDays", Pattern: "[0-9]"}},
			given:    given{"graceDays": "x1x"},
			want:     Values{"graceDays": "x1x"},
		},
		"not the pattern": {
			declared: parameters{{Name: "graceDays", Pattern: "^[0-9]{1,2}$"}},
			given:    given{"graceDays": "s3cr3t"},
			wantErr:  "`parameters.graceDays` must match ^[0-9]{1,2}$",
		},
		"an anchored pattern is not fooled by a second line": {
			declared: parameters{{Name: "graceDays", Pattern: "^[0-9]{1,2}$"}},
			given:    given{"graceDays": "14\nexport X=s3cr3t"},
			wantErr:  "`parameters.graceDays` must match ^[0-9]{1,2}$",
		},
		"pattern that is none": {
			declared: parameters{{Name: "graceDays", Pattern: "["}},
			given:    given{"graceDays": "s3cr3t"},
			wantErr:  "`parameters.graceDays` can't be checked: the template's pattern is not a regular expression",
		},
		"tag": {
			declared: parameters{{Name: "payment", Tag: new(true)}},
			given:    given{"payment": "8231_a.b-C"},
			want:     Values{"payment": "8231_a.b-C"},
		},
		"tag that is no label value": {
			declared: parameters{{Name: "payment", Tag: new(true)}},
			given:    given{"payment": "s3cr3t with spaces"},
			wantErr:  "`parameters.payment` must be a label value, since it becomes one: at most 63 letters, digits, '-', '_' or '.'",
		},
		"tag that is too long": {
			declared: parameters{{Name: "payment", Tag: new(true)}},
			given:    given{"payment": v1alpha1.ParameterValue(strings.Repeat("1", 64))},
			wantErr:  "`parameters.payment` must be a label value, since it becomes one: at most 63 letters, digits, '-', '_' or '.'",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := Resolve(tc.declared, tc.given)
			gotErr := ""
			if err != nil {
				gotErr = err.Error()
			}
			if diff := cmp.Diff(tc.want, got) + cmp.Diff(tc.wantErr, gotErr); diff != "" || strings.Contains(gotErr, "s3cr3t") {
				t.Errorf("Resolve (-want, +got):\n%s", diff)
			}
		})
	}
}
