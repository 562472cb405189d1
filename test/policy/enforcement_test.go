package policy_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// Each binding that is deleted, and each policy that is changed, is put back. Until it is known to be in force again nothing starts.
func TestWhatIsChangedIsPutBack(t *testing.T) {
	set := Policies()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	awaitEnforced(t, tenant, metav1.ConditionTrue)
	for _, b := range set.Bindings {
		t.Run("binding "+b.Name, func(t *testing.T) {
			if err := Admin.Delete(t.Context(), b.DeepCopy()); err != nil {
				t.Fatal(err)
			}
			Eventually(t, func(g gomega.Gomega) {
				restored := Get(t, g, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: b.Name}})
				g.Expect(restored.Spec.PolicyName).To(gomega.Equal(b.Spec.PolicyName))
				g.Expect(restored.Spec.ValidationActions).To(gomega.Equal(b.Spec.ValidationActions))
			})
		})
	}
	for _, p := range set.Policies {
		t.Run("policy "+p.Name, func(t *testing.T) {
			Patch(t, p.DeepCopy(), func(p *admissionregistrationv1.ValidatingAdmissionPolicy) {
				p.Spec.MatchConditions = append(p.Spec.MatchConditions, admissionregistrationv1.MatchCondition{Name: "never", Expression: "false"})
			})
			Eventually(t, func(g gomega.Gomega) {
				restored := Get(t, g, &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: p.Name}})
				g.Expect(restored.Spec.MatchConditions).To(gomega.Equal(p.Spec.MatchConditions))
			})
		})
	}
	awaitEnforced(t, tenant, metav1.ConditionTrue)
}

// The names of a cluster's controllers may be others than in most clusters.
func TestUsersOfTheClusterStay(t *testing.T) {
	const other = "request.userInfo.username == 'the-job-controller'"
	for _, p := range Policies().Policies {
		if p.Name != "tenant-workload" {
			continue
		}
		set := func(name, expression string) {
			Patch(t, Get(t, gomega.NewWithT(t), p), func(p *admissionregistrationv1.ValidatingAdmissionPolicy) {
				for i, v := range p.Spec.Variables {
					if v.Name == name {
						p.Spec.Variables[i].Expression = expression
					}
				}
			})
		}
		before := variable(p, "jobController")
		set("jobController", other)
		defer set("jobController", before)
		set("operator", "true")
		Eventually(t, func(g gomega.Gomega) {
			Get(t, g, p)
			g.Expect(variable(p, "operator")).To(gomega.ContainSubstring("tenantry-system"))
			g.Expect(variable(p, "jobController")).To(gomega.Equal(other))
		})
	}
}

func variable(p *admissionregistrationv1.ValidatingAdmissionPolicy, name string) string {
	for _, v := range p.Spec.Variables {
		if v.Name == name {
			return v.Expression
		}
	}
	return ""
}

// An operator that sees no change of the policies finds out by trying them out: while one of them is not in force nothing starts, and
// what waits says which policy it is.
func TestNothingStartsUnenforced(t *testing.T) {
	WithoutOperator(t)
	var blind atomic.Pointer[chan struct{}]
	other := &OtherOperator{ProbeInterval: time.Second, Through: func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(r)
		if err == nil && strings.Contains(r.URL.Path, "/validatingadmissionpolic") && r.URL.Query().Get("watch") != "" {
			response.Body = GatedBody{ReadCloser: response.Body, Gate: &blind}
		}
		return response, err
	}}
	other.Start(t)
	gate := make(chan struct{})
	t.Cleanup(func() { close(gate) })
	blind.Store(&gate)
	tenant, template := NewReadyTenant(t, v1alpha1.TenantSpec{}), NewReadyTemplate(t, nil)
	for _, b := range Policies().Bindings {
		if b.Spec.ValidationActions[0] != admissionregistrationv1.Deny {
			continue
		}
		t.Run(b.Name, func(t *testing.T) {
			awaitEnforced(t, tenant, metav1.ConditionTrue)
			if err := Admin.Delete(t.Context(), b.DeepCopy()); err != nil {
				t.Fatal(err)
			}
			awaitEnforced(t, tenant, metav1.ConditionFalse)
			run := NewTenantJob(t, tenant, template)
			Eventually(t, func(g gomega.Gomega) {
				c := conditions.Get(Get(t, g, run).Status.Conditions, v1alpha1.ConditionSucceeded)
				g.Expect(c.Reason).To(gomega.Equal(v1alpha1.ReasonPolicyNotEnforced))
				g.Expect(c.Message).To(gomega.Equal("policy " + b.Spec.PolicyName + " does not refuse what it has to refuse"))
				g.Expect(run.Status.JobRef).To(gomega.BeNil())
			})
			if err := Admin.Create(t.Context(), b.DeepCopy()); err != nil {
				t.Fatal(err)
			}
			AwaitRunningPod(t, run)
		})
	}
}

// awaitEnforced waits until a Tenant says whether the policies are in force.
func awaitEnforced(t *testing.T, tenant *v1alpha1.Tenant, status metav1.ConditionStatus) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		c := conditions.Get(Get(t, g, tenant).Status.Conditions, v1alpha1.ConditionEnforced)
		g.Expect(c.Status).To(gomega.Equal(status), c.Message)
	})
}
