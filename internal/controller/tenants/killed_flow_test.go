package tenants_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"sync"
	"testing"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// mostWrites is more than are made for a tenant until it is ready, or until it is gone.
const mostWrites = 20

// dying is an operator that is killed for each tenant at another time: so many writes get through, the answer to the last
// of them does not come back, and that was all.
type dying struct {
	mu   sync.Mutex
	left map[string]int
}

var tenantInPath = regexp.MustCompile(`/(?:tenants/|namespaces/tenant-)(t[0-9]+)(?:/|$)`)

func (d *dying) through(next http.RoundTripper, r *http.Request) (*http.Response, error) {
	where := r.URL.Path
	if r.Method == http.MethodPost && where == "/api/v1/namespaces" {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		where = "/namespaces/" + string(regexp.MustCompile(`tenant-t[0-9]+`).Find(body))
	}
	name := ""
	if match := tenantInPath.FindStringSubmatch(where); match != nil {
		name = match[1]
	}
	d.mu.Lock()
	left, dies := d.left[name]
	if dies && r.Method != http.MethodGet {
		d.left[name]--
	}
	d.mu.Unlock()
	if dies && left <= 0 {
		return nil, errors.New("killed")
	}
	response, err := next.RoundTrip(r)
	if err == nil && dies && left == 1 && r.Method != http.MethodGet {
		_ = response.Body.Close()
		return nil, errors.New("killed")
	}
	return response, err
}

func (d *dying) dead(tenant *v1alpha1.Tenant) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.left[tenant.Name] <= 0
}

// killedAtEachWrite runs an operator that dies at the first, second, and so on, write for one tenant each, until each is
// dead or has done what it should; and then another, that goes on.
func killedAtEachWrite(t *testing.T, tenants []*v1alpha1.Tenant, done func(*v1alpha1.Tenant) bool) *OtherOperator {
	t.Helper()
	return killedAtEachWriteBetween(t, tenants, done, func() {})
}

// killedAtEachWriteBetween is killedAtEachWrite, and does something after the death of the first operator.
func killedAtEachWriteBetween(t *testing.T, tenants []*v1alpha1.Tenant, done func(*v1alpha1.Tenant) bool, between func()) *OtherOperator {
	t.Helper()
	d := &dying{left: map[string]int{}}
	for i, tenant := range tenants {
		d.left[tenant.Name] = i + 1
	}
	first := &OtherOperator{Through: d.through}
	first.Start(t)
	Eventually(t, func(g gomega.Gomega) {
		for _, tenant := range tenants {
			g.Expect(d.dead(tenant) || done(tenant)).To(gomega.BeTrue())
		}
	})
	if d.dead(tenants[len(tenants)-1]) {
		t.Error("there are more writes than this test looks at")
	}
	first.Stop()
	between()
	second := &OtherOperator{}
	second.Start(t)
	return second
}

// It stops the operator of all tests, and so is not parallel.
func TestTenantOperatorKilled(t *testing.T) {
	WithoutOperator(t)
	var tenants []*v1alpha1.Tenant
	for range mostWrites {
		tenants = append(tenants, NewTenant(t, v1alpha1.TenantSpec{Namespace: &v1alpha1.TenantNamespace{
			DeletionPolicy: v1alpha1.NamespaceRetain, Labels: map[string]v1alpha1.LabelValue{"team": "a"},
		}}))
	}
	g := gomega.NewWithT(t)
	successor := killedAtEachWrite(t, tenants, func(tenant *v1alpha1.Tenant) bool {
		return Read(t.Context(), tenant) == nil && meta.IsStatusConditionTrue(tenant.Status.Conditions, v1alpha1.ConditionReady)
	})
	for _, tenant := range tenants {
		AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
		g.Expect(childrenIn(t, g, tenant.NamespaceName())).To(gomega.Equal([]string{
			"LimitRange tenant-limits", "NetworkPolicy tenant-deny-all", "NetworkPolicy tenant-egress", "ResourceQuota tenant-quota",
			"RoleBinding tenantry-operator", "ServiceAccount tenant-runner",
		}))
	}
	successor.Stop()

	var namespaces []*corev1.Namespace
	for _, tenant := range tenants {
		namespaces = append(namespaces, NamespaceOf(tenant))
		Remove(t, tenant)
	}
	killedAtEachWrite(t, tenants, func(tenant *v1alpha1.Tenant) bool { return Read(t.Context(), tenant) != nil })
	for i, tenant := range tenants {
		AwaitGone(t, tenant)
		namespace := Get(t, g, namespaces[i])
		g.Expect(namespace.Labels).To(gomega.Equal(map[string]string{corev1.LabelMetadataName: namespace.Name}))
		g.Expect(namespace.Annotations).To(gomega.BeEmpty())
		g.Expect(childrenIn(t, g, namespace.Name)).To(gomega.BeEmpty())
	}
}

// TestTenantOperatorKilledWithAdoptedNamespaces: the operator dies at each write of an adoption, and another at each write of the
// release. Before a third goes on, the platform has taken its consent off. No namespace is lost, and each is as it was. It stops the
// operator of all tests, and so is not parallel.
func TestTenantOperatorKilledWithAdoptedNamespaces(t *testing.T) {
	WithoutOperator(t)
	g := gomega.NewWithT(t)
	var tenants []*v1alpha1.Tenant
	var namespaces []*corev1.Namespace
	var was [][]any
	for range mostWrites {
		// A Tenant of this name adopts it.
		name := fmt.Sprintf("t%d", Serial.Add(1))
		namespace := Create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name:   "tenant-" + name,
			Labels: map[string]string{"team": "theirs", "pod-security.kubernetes.io/enforce": "baseline"}, Annotations: map[string]string{"theirs": "annotation"},
		}})
		was = append(was, metadataOf(Get(t, g, namespace)))
		Consent(t, namespace, name)
		tenants = append(tenants, Create(t, &v1alpha1.Tenant{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: v1alpha1.TenantSpec{
				Members:   []v1alpha1.TenantMember{dispatcher("ann")},
				Namespace: &v1alpha1.TenantNamespace{Labels: map[string]v1alpha1.LabelValue{"team": "ours"}},
			},
		}))
		namespaces = append(namespaces, namespace)
	}
	successor := killedAtEachWrite(t, tenants, func(tenant *v1alpha1.Tenant) bool {
		return Read(t.Context(), tenant) == nil && meta.IsStatusConditionTrue(tenant.Status.Conditions, v1alpha1.ConditionReady)
	})
	for _, tenant := range tenants {
		AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
		g.Expect(Get(t, g, NamespaceOf(tenant)).Labels).To(gomega.HaveKeyWithValue("team", "ours"))
	}
	successor.Stop()
	for _, tenant := range tenants {
		Remove(t, tenant)
	}
	killedAtEachWriteBetween(t, tenants, func(tenant *v1alpha1.Tenant) bool { return Read(t.Context(), tenant) != nil }, func() {
		for _, namespace := range namespaces {
			Patch(t, namespace, func(o *corev1.Namespace) { delete(o.Annotations, v1alpha1.AnnotationAdoptBy) })
		}
	})
	for i, tenant := range tenants {
		AwaitGone(t, tenant)
		namespace := Get(t, g, namespaces[i])
		g.Expect(namespace.DeletionTimestamp).To(gomega.BeNil())
		g.Expect(metadataOf(namespace)).To(gomega.Equal(was[i]))
		g.Expect(childrenIn(t, g, namespace.Name)).To(gomega.BeEmpty())
	}
}
