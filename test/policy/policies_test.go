package policy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/tenantry/tenantry/config/policy"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// The API server checks the types of each expression against each kind that the policy matches.
func TestPoliciesHaveNoTypeWarnings(t *testing.T) {
	set := policies(t)
	for _, p := range set.Policies {
		Eventually(t, func(g gomega.Gomega) {
			Get(t, g, p)
			g.Expect(p.Status.ObservedGeneration).To(gomega.Equal(p.Generation), p.Name)
			g.Expect(p.Status.TypeChecking).NotTo(gomega.BeNil(), p.Name)
		})
		for _, warning := range p.Status.TypeChecking.ExpressionWarnings {
			t.Errorf("%s: %s: %s", p.Name, warning.FieldRef, warning.Warning)
		}
	}
}

// A binding for each policy, and each policy bound: one that is not bound is never asked.
func TestEachPolicyIsBound(t *testing.T) {
	set := policies(t)
	bound := map[string]bool{}
	for _, b := range set.Bindings {
		bound[b.Spec.PolicyName] = true
	}
	for _, p := range set.Policies {
		if !bound[p.Name] {
			t.Errorf("policy %s has no binding", p.Name)
		}
		if len(p.Spec.MatchConditions) > 0 || p.Spec.ParamKind != nil || p.Spec.FailurePolicy == nil || *p.Spec.FailurePolicy != admissionregistrationv1.Fail {
			t.Errorf("policy %s must have neither match conditions nor parameters, and fail closed", p.Name)
		}
	}
}

// What kustomize makes of the files is what the operator takes them for.
func TestKustomizeMakesTheSame(t *testing.T) {
	kubectl := filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kubectl")
	out, err := exec.CommandContext(t.Context(), kubectl, "kustomize", "../../config/policy").Output()
	if err != nil {
		t.Fatal(err)
	}
	var got policy.Set
	for document := range strings.SplitSeq(string(out), "\n---\n") {
		if strings.Contains(document, "\nkind: ValidatingAdmissionPolicy\n") {
			p := &admissionregistrationv1.ValidatingAdmissionPolicy{}
			if err := yaml.UnmarshalStrict([]byte(document), p); err != nil {
				t.Fatal(err)
			}
			got.Policies = append(got.Policies, p)
			continue
		}
		if !strings.Contains(document, "\nkind: ValidatingAdmissionPolicyBinding\n") {
			obj := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(document), obj); err != nil {
				t.Fatal(err)
			}
			got.Probe = append(got.Probe, obj)
			continue
		}
		b := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}
		if err := yaml.UnmarshalStrict([]byte(document), b); err != nil {
			t.Fatal(err)
		}
		got.Bindings = append(got.Bindings, b)
	}
	want := policies(t)
	got.ClusterUsers = want.ClusterUsers
	for _, set := range []policy.Set{got, want} {
		slices.SortFunc(set.Probe, func(a, b *unstructured.Unstructured) int {
			return strings.Compare(a.GetKind()+a.GetNamespace()+a.GetName(), b.GetKind()+b.GetNamespace()+b.GetName())
		})
		slices.SortFunc(set.Policies, func(a, b *admissionregistrationv1.ValidatingAdmissionPolicy) int {
			return strings.Compare(a.Name, b.Name)
		})
		slices.SortFunc(set.Bindings, func(a, b *admissionregistrationv1.ValidatingAdmissionPolicyBinding) int {
			return strings.Compare(a.Name, b.Name)
		})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("policy.For makes something else of the files than kustomize does (-for, +kustomize):\n%s", diff)
	}
}

func TestOperatorNamespace(t *testing.T) {
	set, err := policy.For("elsewhere", policy.ServiceAccount("elsewhere"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range set.Policies {
		for _, v := range p.Spec.Variables {
			if strings.Contains(v.Expression, OperatorNamespace) {
				t.Errorf("policy %s: variable %s names another namespace: %s", p.Name, v.Name, v.Expression)
			}
		}
	}
}

func policies(t *testing.T) policy.Set {
	t.Helper()
	set, err := policy.For(OperatorNamespace, policy.ServiceAccount(OperatorNamespace))
	if err != nil {
		t.Fatal(err)
	}
	return set
}
