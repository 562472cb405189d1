package fanout

import (
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

const testNamespace = "tenantry-system"

var testTime = time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)

// givenFanOut returns a fan-out for all tenants, changed by the options.
func givenFanOut(options ...func(*v1alpha1.TenantFanOut)) *v1alpha1.TenantFanOut {
	f := &v1alpha1.TenantFanOut{
		ObjectMeta: metav1.ObjectMeta{Name: "nightly", UID: "5f6c1f0e-0c0a-4c58-9f43-0d6c0f7d3a01", Generation: 1},
		Spec: v1alpha1.TenantFanOutSpec{
			TemplateRef: v1alpha1.LabelReference{Name: "check"},
			Tenants:     v1alpha1.TenantSelection{All: new(true)},
			Strategy:    &v1alpha1.FanOutStrategy{},
		},
	}
	for _, option := range options {
		option(f)
	}
	return f
}

func withNames(names ...v1alpha1.TenantName) func(*v1alpha1.TenantFanOut) {
	return func(f *v1alpha1.TenantFanOut) { f.Spec.Tenants = v1alpha1.TenantSelection{Names: names} }
}

func withSelector(selector metav1.LabelSelector) func(*v1alpha1.TenantFanOut) {
	return func(f *v1alpha1.TenantFanOut) { f.Spec.Tenants = v1alpha1.TenantSelection{Selector: &selector} }
}

func withRetry(outcomes ...v1alpha1.RetryOutcome) func(*v1alpha1.TenantFanOut) {
	return func(f *v1alpha1.TenantFanOut) {
		f.Name, f.UID = "retry", "a0a7c2de-77b4-4a55-8a5a-64a3c4d4c002"
		f.Spec.Tenants = v1alpha1.TenantSelection{RetryOf: &v1alpha1.RetryOf{Name: "nightly", Outcomes: outcomes}}
	}
}

func withExclude(names ...v1alpha1.TenantName) func(*v1alpha1.TenantFanOut) {
	return func(f *v1alpha1.TenantFanOut) { f.Spec.Tenants.Exclude = names }
}

func withWaves(waves ...v1alpha1.Wave) func(*v1alpha1.TenantFanOut) {
	return func(f *v1alpha1.TenantFanOut) { f.Spec.Strategy.Waves = waves }
}

func withMaxFailures(v any) func(*v1alpha1.TenantFanOut) {
	return func(f *v1alpha1.TenantFanOut) { f.Spec.Strategy.MaxFailures = amount(v) }
}

func withMaxConcurrent(v any) func(*v1alpha1.TenantFanOut) {
	return func(f *v1alpha1.TenantFanOut) { f.Spec.Strategy.MaxConcurrent = amount(v) }
}

func withSpread(seconds int32) func(*v1alpha1.TenantFanOut) {
	return func(f *v1alpha1.TenantFanOut) { f.Spec.SpreadSeconds = &seconds }
}

func sizeWave(name string, size, maxFailures any) v1alpha1.Wave {
	return v1alpha1.Wave{Name: name, Size: amount(size), MaxFailures: amount(maxFailures)}
}

func labelWave(name, key string) v1alpha1.Wave {
	return v1alpha1.Wave{Name: name, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{key: "true"}}}
}

// amount returns a number or a percentage, or nil for nil.
func amount(v any) *intstr.IntOrString {
	switch v := v.(type) {
	case int:
		return new(intstr.FromInt32(int32(v)))
	case string:
		return new(intstr.FromString(v))
	}
	return nil
}

// givenTemplate returns a template that is Ready.
func givenTemplate() *v1alpha1.TenantJobTemplate {
	return &v1alpha1.TenantJobTemplate{
		ObjectMeta: metav1.ObjectMeta{Name: "check", Generation: 4},
		Spec: v1alpha1.TenantJobTemplateSpec{
			JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{BackoffLimit: new(int32(3)), Template: corev1.PodTemplateSpec{
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "check", Image: "example.com/check:1"}}},
			}}},
		},
		Status: v1alpha1.TenantJobTemplateStatus{Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, ObservedGeneration: 4},
		}},
	}
}

// givenTenants returns n active tenants.
func givenTenants(n int) []Tenant {
	tenants := make([]Tenant, n)
	for i := range tenants {
		name := fmt.Sprintf("tenant-%05d", i)
		tenants[i] = Tenant{Name: name, UID: uid(i), Labels: map[string]string{"number": fmt.Sprint(i)}}
	}
	return tenants
}

func tenant(name string, labels ...string) Tenant {
	t := Tenant{Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{}}
	for _, label := range labels {
		t.Labels[label] = "true"
	}
	return t
}

func in(state State, t Tenant) Tenant {
	t.State = state
	return t
}

// uid returns one that compresses as badly as a random one.
func uid(i int) types.UID {
	a, b := hash("uid", fmt.Sprint(i), "a"), hash("uid", fmt.Sprint(i), "b")
	return types.UID(fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", a>>32, a&0xffff, a>>16&0xfff, b>>52, b&0xffffffffffff))
}

func givenPlan(t testing.TB, fanOut *v1alpha1.TenantFanOut, tenants []Tenant) *Plan {
	t.Helper()
	p, err := Seal(Request{FanOut: fanOut, Template: givenTemplate(), Tenants: tenants}, testTime)
	if err != nil {
		t.Fatalf("sealing the plan: %v", err)
	}
	return p
}

// storedPlan returns a plan as it is decoded from its ConfigMaps.
func storedPlan(t testing.TB, fanOut *v1alpha1.TenantFanOut, p *Plan) *Plan {
	t.Helper()
	objects, err := p.ConfigMaps(fanOut, testNamespace)
	if err != nil {
		t.Fatalf("encoding the plan: %v", err)
	}
	last := len(objects) - 1
	decoded, err := DecodePlan(objects[last], objects[:last]...)
	if err != nil {
		t.Fatalf("decoding the plan: %v", err)
	}
	return decoded
}

func failedWith(reason string) Outcome { return Outcome{Failed, reason, "it failed"} }

func condition(conditions []metav1.Condition, conditionType string) string {
	for _, c := range conditions {
		if c.Type == conditionType {
			return fmt.Sprintf("%s %s", c.Status, c.Reason)
		}
	}
	return ""
}
