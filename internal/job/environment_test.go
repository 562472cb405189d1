package job

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func TestEnvironment(t *testing.T) {
	type (
		vars       = []corev1.EnvVar
		attributes = map[string]v1alpha1.AttributeValue
	)
	// operators returns the variables that every run has, in their order, before the attributes and parameters.
	operators := func(change map[string]string) vars {
		all := vars{
			{Name: "TENANT_ID", Value: "acme"},
			{Name: "TENANT_NAME", Value: "acme"},
			{Name: "TENANTRY_NAMESPACE", Value: "tenant-acme"},
			{Name: "TENANTRY_TENANT_UID", Value: "tenant-uid"},
			{Name: "TENANTRY_TIME_ZONE", Value: "Etc/UTC"},
			{Name: "TENANTRY_JOB_NAME", Value: "report-8231"},
			{Name: "TENANTRY_JOB_UID", Value: "run-uid"},
			{Name: "TENANTRY_TEMPLATE", Value: "report"},
			{Name: "TENANTRY_QUEUE", Value: "default"},
			{Name: "TENANTRY_FAN_OUT"},
			{Name: "TENANTRY_SCHEDULED_TIME"},
		}
		for i := range all {
			if value, changed := change[all[i].Name]; changed {
				all[i].Value = value
			}
		}
		return all
	}
	parameters := func(names ...string) func(Run) {
		return func(r Run) {
			for _, name := range names {
				r.Template.Spec.Parameters = append(r.Template.Spec.Parameters, v1alpha1.Parameter{Name: name})
			}
		}
	}
	cases := map[string]struct {
		run    func(Run)
		fanOut *FanOut
		values Values
		want   vars
	}{
		"of a TenantJob created by hand": {want: operators(nil)},
		"all of the operator's": {
			run: func(r Run) {
				r.Tenant.Spec.ExternalID = "9f1c0c1e"
				r.Tenant.Spec.TimeZone = "America/New_York"
				r.Tenant.Spec.Attributes = attributes{"plan": "gold", "billing.day": "3", "a-b": "c"}
				r.Template.Spec.QueueRef = &v1alpha1.LabelReference{Name: "payment-checks"}
			},
			fanOut: &FanOut{Name: "report-8231", ScheduledTime: "2026-11-24T02:00:00Z"},
			want: append(operators(map[string]string{
				"TENANT_ID": "9f1c0c1e", "TENANTRY_TIME_ZONE": "America/New_York", "TENANTRY_QUEUE": "payment-checks",
				"TENANTRY_FAN_OUT": "report-8231", "TENANTRY_SCHEDULED_TIME": "2026-11-24T02:00:00Z",
			}),
				corev1.EnvVar{Name: "TENANTRY_ATTRIBUTE_A_B", Value: "c"},
				corev1.EnvVar{Name: "TENANTRY_ATTRIBUTE_BILLING_DAY", Value: "3"},
				corev1.EnvVar{Name: "TENANTRY_ATTRIBUTE_PLAN", Value: "gold"},
			),
		},
		"of one that says that it is a fan-out's child": {
			run: func(r Run) {
				r.TenantJob.Labels = map[string]string{v1alpha1.LabelFanOut: "report-8231"}
				r.TenantJob.OwnerReferences = ownedByFanOut("report-8231")
				r.TenantJob.Annotations = map[string]string{v1alpha1.AnnotationScheduledTime: "2026-11-24T02:00:00Z"}
			},
			want: operators(nil),
		},
		"of a fan-out's child in which somebody has changed the time of the tick": {
			run: func(r Run) {
				r.TenantJob.Annotations = map[string]string{v1alpha1.AnnotationScheduledTime: "2026-11-24T02:00:00Z"}
			},
			fanOut: &FanOut{Name: "report-8231"},
			want:   operators(map[string]string{"TENANTRY_FAN_OUT": "report-8231"}),
		},
		"parameters in the order of the template, without those that are not set": {
			run:    parameters("paymentID", "note", "graceDays"),
			values: Values{"graceDays": "3", "paymentID": "8231"},
			want:   append(operators(nil), corev1.EnvVar{Name: "PAYMENT_ID", Value: "8231"}, corev1.EnvVar{Name: "GRACE_DAYS", Value: "3"}),
		},
		"nothing in a value is expanded": {
			run: func(r Run) {
				parameters("note", "price")(r)
				r.Tenant.Spec.Attributes = attributes{"motto": "$(TENANT_ID)"}
			},
			values: Values{"note": "$(TENANTRY_TENANT_UID) $$(X) $X ${X}", "price": "5$"},
			want: append(operators(nil),
				corev1.EnvVar{Name: "TENANTRY_ATTRIBUTE_MOTTO", Value: "$$(TENANT_ID)"},
				corev1.EnvVar{Name: "NOTE", Value: "$$(TENANTRY_TENANT_UID) $$$$(X) $$X $${X}"},
				corev1.EnvVar{Name: "PRICE", Value: "5$$"},
			),
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			run := Run{TenantJob: newTenantJob(), Tenant: newTenant(), Template: newTemplate(), FanOut: tc.fanOut}
			if tc.run != nil {
				tc.run(run)
			}
			if diff := cmp.Diff(tc.want, environment(run, tc.values)); diff != "" {
				t.Errorf("environment (-want, +got):\n%s", diff)
			}
		})
	}
}

// A pod sees the value that was given, after the expansion that the kubelet does.
func TestLiteral(t *testing.T) {
	for _, value := range []string{"", "$", "$$", "$(X)", "$$(X)", "$$$(X)", "a$(X", "$X", "${X}", "a$b$(X)c$$", "()$", "$)(X)"} {
		if got := kubeletExpands(literal("NAME", value).Value); got != value {
			t.Errorf("the pod sees %q for %q", got, value)
		}
	}
}

// kubeletExpands does what k8s.io/kubernetes/third_party/forked/golang/expansion does, with X=expanded.
func kubeletExpands(text string) string {
	return regexp.MustCompile(`\$\$|\$\([^)]*\)`).ReplaceAllStringFunc(text, func(match string) string {
		if match == "$$" {
			return "$"
		}
		return strings.ReplaceAll(match, "$(X)", "expanded")
	})
}

func TestParameterVariable(t *testing.T) {
	cases := map[string]struct {
		parameter v1alpha1.Parameter
		want      string
	}{
		"one word":               {v1alpha1.Parameter{Name: "day"}, "DAY"},
		"words":                  {v1alpha1.Parameter{Name: "graceDays"}, "GRACE_DAYS"},
		"an initial capital":     {v1alpha1.Parameter{Name: "GraceDays"}, "GRACE_DAYS"},
		"capitals at the end":    {v1alpha1.Parameter{Name: "paymentID"}, "PAYMENT_ID"},
		"capitals at the start":  {v1alpha1.Parameter{Name: "HTTPPort"}, "HTTP_PORT"},
		"capitals in the middle": {v1alpha1.Parameter{Name: "theURLPath"}, "THE_URL_PATH"},
		"only capitals":          {v1alpha1.Parameter{Name: "ID"}, "ID"},
		"digits":                 {v1alpha1.Parameter{Name: "line2Text"}, "LINE2_TEXT"},
		"a single letter":        {v1alpha1.Parameter{Name: "n"}, "N"},
		"its env":                {v1alpha1.Parameter{Name: "graceDays", Env: "Days_of_grace"}, "Days_of_grace"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, ParameterVariable(tc.parameter)); diff != "" {
				t.Errorf("ParameterVariable (-want, +got):\n%s", diff)
			}
		})
	}
}

func TestBeginsReserved(t *testing.T) {
	cases := map[string]bool{
		"": true, "T": true, "TENANT": true, "TENANT_": true, "TENANT_I": true, "TENANTRY": true, "TENANTRY_": true, "TENANTRY_ATTRIBUTE_": true,
		"S": true, "SERVICE_": true, "SERVICE_BINDING_": true,
		"APP_": false, "TENANTS_": false, "TENANT_X": false, "SERVICES_": false, "t": false, "_TENANTRY_": false,
	}
	got := map[string]bool{}
	for prefix := range cases {
		got[prefix] = beginsReserved(prefix)
	}
	if diff := cmp.Diff(cases, got); diff != "" {
		t.Errorf("beginsReserved (-want, +got):\n%s", diff)
	}
}

func TestReservedVariable(t *testing.T) {
	cases := map[string]bool{
		"TENANT_ID": true, "TENANT_NAME": true, "SERVICE_BINDING_ROOT": true, "TENANTRY_": true, "TENANTRY_ANYTHING": true,
		"TENANT": false, "TENANT_IDS": false, "TENANT_NAMES": false, "TENANTRY": false, "tenant_id": false, "MY_TENANTRY_X": false, "": false,
	}
	got := map[string]bool{}
	for name := range cases {
		got[name] = ReservedVariable(name)
	}
	if diff := cmp.Diff(cases, got); diff != "" {
		t.Errorf("ReservedVariable (-want, +got):\n%s", diff)
	}
}
