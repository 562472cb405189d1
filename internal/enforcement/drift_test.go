package enforcement

import (
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/config/policy"
)

func set(t *testing.T) policy.Set {
	t.Helper()
	set, err := policy.For("tenantry-system", policy.ServiceAccount("tenantry-system"))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// A policy without a probe would never be known to be in force.
func TestEachPolicyHasAProbe(t *testing.T) {
	probes := (&probes{}).all()
	for _, p := range set(t).Policies {
		if probes[p.Name] == nil {
			t.Errorf("policy %s has no probe", p.Name)
		}
		delete(probes, p.Name)
	}
	for name := range probes {
		t.Errorf("there is no policy %s for its probe", name)
	}
}

func TestRestoredPolicy(t *testing.T) {
	set := set(t)
	want := set.Policies[0]
	for _, tt := range []struct {
		name    string
		change  func(*admissionregistrationv1.ValidatingAdmissionPolicySpec)
		differs bool
	}{
		{"nothing", func(*admissionregistrationv1.ValidatingAdmissionPolicySpec) {}, false},
		{"a validation less", func(s *admissionregistrationv1.ValidatingAdmissionPolicySpec) { s.Validations = s.Validations[1:] }, true},
		{"it fails open", func(s *admissionregistrationv1.ValidatingAdmissionPolicySpec) {
			s.FailurePolicy = new(admissionregistrationv1.Ignore)
		}, true},
		{"a condition", func(s *admissionregistrationv1.ValidatingAdmissionPolicySpec) {
			s.MatchConditions = []admissionregistrationv1.MatchCondition{{Name: "never", Expression: "false"}}
		}, true},
		{"a selector", func(s *admissionregistrationv1.ValidatingAdmissionPolicySpec) {
			s.MatchConstraints.ObjectSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
		}, true},
		{"an exception", func(s *admissionregistrationv1.ValidatingAdmissionPolicySpec) {
			s.MatchConstraints.ExcludeResourceRules = s.MatchConstraints.ResourceRules
		}, true},
		{"the operator", variableTo("operator"), true},
		{"another variable", variableTo("tenant"), true},
		{"a controller of the cluster", variableTo("jobController"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			installed := want.DeepCopy()
			setDefaults(installed.Spec.MatchConstraints)
			tt.change(&installed.Spec)
			if _, differs := restoredPolicy(installed, want, set.ClusterUsers); differs != tt.differs {
				t.Errorf("differs: got %t, want %t", differs, tt.differs)
			}
			restored, _ := restoredPolicy(installed, want, set.ClusterUsers)
			if _, differs := restoredPolicy(restored, want, set.ClusterUsers); differs {
				t.Error("what is restored still differs")
			}
		})
	}
}

func variableTo(name string) func(*admissionregistrationv1.ValidatingAdmissionPolicySpec) {
	return func(s *admissionregistrationv1.ValidatingAdmissionPolicySpec) {
		for i := range s.Variables {
			if s.Variables[i].Name == name {
				s.Variables[i].Expression = "true"
			}
		}
	}
}

func TestRestoredBinding(t *testing.T) {
	for _, want := range set(t).Bindings {
		installed := want.DeepCopy()
		setDefaults(installed.Spec.MatchResources)
		if _, differs := restoredBinding(installed, want); differs {
			t.Errorf("%s: nothing was changed", want.Name)
		}
		installed.Spec.MatchResources = &admissionregistrationv1.MatchResources{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "elsewhere"}},
		}
		if _, differs := restoredBinding(installed, want); !differs {
			t.Errorf("%s: a selector was added", want.Name)
		}
	}
}
