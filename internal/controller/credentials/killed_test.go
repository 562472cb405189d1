package credentials_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/internal/credential"
)

// These tests stop the operator of all tests, so none of them is parallel.

// killer kills an operator at the first step of a name.
type killer struct {
	at     string
	killed chan struct{}
	once   sync.Once
	cancel func()
	dead   atomic.Bool
}

func newKiller(at string) *killer { return &killer{at: at, killed: make(chan struct{})} }

// step kills the operator if this is the step. What the operator does after that has no effect.
func (k *killer) step(step string) error {
	if step == k.at {
		k.once.Do(func() {
			k.dead.Store(true)
			k.cancel()
			close(k.killed)
		})
	}
	if k.dead.Load() {
		return context.Canceled
	}
	return nil
}

// run starts an operator, does something, and waits until the operator is killed. It does something else while there is none, and starts
// another operator, which runs until the test ends.
func (k *killer) run(t *testing.T, do, between func()) {
	t.Helper()
	a := &OtherOperator{Through: k.through}
	k.cancel = func() { a.Cancel() }
	a.Start(t)
	do()
	AwaitSignal(t, k.killed, "the operator should have come to "+k.at)
	a.Stop()
	k.dead.Store(false)
	between()
	b := &OtherOperator{}
	b.Start(t)
}

// through calls step before and after each write that a test may kill the operator at.
func (k *killer) through(next http.RoundTripper, r *http.Request) (*http.Response, error) {
	step := ""
	switch {
	case r.Method == http.MethodGet:
	case strings.HasSuffix(r.URL.Path, "/rolebindings/tenantry-operator"):
		step = r.Method + " RoleBinding"
	case strings.HasSuffix(r.URL.Path, "/namespaces/"+path.Base(r.URL.Path)) && strings.Contains(bodyOf(r), `"tenantry.dev/tenant":null`):
		step = "release"
	case strings.Contains(r.URL.Path, "/tenants/") && strings.Contains(bodyOf(r), `"copiedSecrets"`):
		step = fmt.Sprintf("PATCH Tenant with %d copies", strings.Count(bodyOf(r), `"secretRef"`))
	case strings.Contains(r.URL.Path, "/secrets"):
		step = r.Method + " Secret"
	case strings.Contains(r.URL.Path, "/jobs") && r.Method == http.MethodPost:
		step = "POST Job"
	case strings.Contains(r.URL.Path, "/tenantjobs/") && !strings.HasSuffix(r.URL.Path, "/status"):
		step = "PATCH TenantJob"
	}
	if step == "" {
		if k.dead.Load() {
			return nil, context.Canceled
		}
		return next.RoundTrip(r)
	}
	if err := k.step("before " + step); err != nil {
		return nil, err
	}
	answer, err := next.RoundTrip(r)
	if stepErr := k.step("after " + step); stepErr != nil {
		return nil, stepErr
	}
	return answer, err
}

// bodyOf returns the body of a request, which can be sent after that.
func bodyOf(r *http.Request) string {
	if r.Body == nil {
		return ""
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err) // It is in memory.
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return string(body)
}

// TestOperatorKilledWhileIssuing: wherever the operator dies while it issues or revokes, the run has one Job whose password the source
// accepts, and no credential is left when it is over.
func TestOperatorKilledWhileIssuing(t *testing.T) {
	template := NewReadyTemplate(t, NeedsDatabase)
	steps := []string{
		"before PATCH TenantJob", "after PATCH TenantJob", "before issue", "issued", "before POST Secret", "after POST Secret", "before POST Job", "after POST Job",
		"before revoke", "revoked", "before DELETE Secret", "after DELETE Secret",
	}
	sources, tenants := map[string]*Source{}, map[string]*v1alpha1.Tenant{}
	for _, step := range steps {
		sources[step] = NewSource(t)
		tenants[step] = NewReadyTenant(t, sources[step].WithCredential())
	}
	WithoutOperator(t)
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			source, tenant := sources[step], tenants[step]
			k := newKiller(step)
			source.OnStep(func(step string, _ credential.Handle) error { return k.step(step) })
			ends := strings.Contains(step, "revoke") || strings.Contains(step, "DELETE")
			var tj *v1alpha1.TenantJob
			k.run(t, func() {
				tj = NewRun(t, tenant, template, func(*v1alpha1.TenantJob) {})
				if ends {
					AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
					Finish(t, tj, corev1.PodSucceeded)
				}
			}, func() {})
			if !ends {
				AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
				Eventually(t, func(g gomega.Gomega) {
					secrets := secretsOf(t, g, tenant)
					g.Expect(secrets).To(gomega.HaveLen(1))
					g.Expect(source.Accepts(string(secrets[0].Data["password"]))).To(gomega.BeTrue())
					g.Expect(source.Live()).To(gomega.HaveLen(1))
				})
				Finish(t, tj, corev1.PodSucceeded)
			}
			AwaitStatus(t, tj, metav1.ConditionTrue, v1alpha1.ReasonCompleted, "")
			awaitNothingLeft(t, source, tenant, tj)
		})
	}
}

// TestFinalizerIsRemovedByOthers: a credential dies although somebody has removed the finalizer and deleted the TenantJob while no
// operator was there.
func TestFinalizerIsRemovedByOthers(t *testing.T) {
	source := NewSource(t)
	tenant := NewReadyTenant(t, source.WithCredential())
	tj := NewRun(t, tenant, NewReadyTemplate(t, NeedsDatabase), func(*v1alpha1.TenantJob) {})
	AwaitStatus(t, tj, metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
	WithoutOperator(t)
	Patch(t, tj, func(o *v1alpha1.TenantJob) { o.Finalizers = nil })
	if err := Admin.Delete(t.Context(), tj); err != nil {
		t.Fatal(err)
	}
	b := &OtherOperator{}
	b.Start(t)
	defer b.Stop()
	awaitNothingLeft(t, source, tenant, nil)
}

// TestOtherSourceIsDown: an operator that has just started need not reach every source. It waits for those that the tenant of a run
// names, and for no others.
func TestOtherSourceIsDown(t *testing.T) {
	up, down := NewSource(t), NewSource(t)
	template := NewReadyTemplate(t, NeedsDatabase)
	tenants := map[*Source]*v1alpha1.Tenant{}
	runs := map[*Source]*v1alpha1.TenantJob{}
	for _, source := range []*Source{up, down} {
		tenants[source] = NewReadyTenant(t, source.WithCredential())
		runs[source] = NewRun(t, tenants[source], template, func(*v1alpha1.TenantJob) {})
		AwaitStatus(t, runs[source], metav1.ConditionUnknown, v1alpha1.ReasonRunning, "")
	}
	WithoutOperator(t)
	down.SetDown(true)
	defer down.SetDown(false) // Its CredentialProvider goes with the test.
	for _, tj := range runs {
		Finish(t, tj, corev1.PodSucceeded)
	}
	b := &OtherOperator{}
	b.Start(t)
	for _, tj := range runs {
		AwaitStatus(t, tj, metav1.ConditionTrue, v1alpha1.ReasonCompleted, "")
	}
	awaitNothingLeft(t, up, tenants[up], runs[up])
	g := gomega.NewWithT(t)
	g.Expect(Get(t, g, runs[down]).Finalizers).To(gomega.ContainElement(v1alpha1.FinalizerCredentials))
	down.SetDown(false)
	awaitNothingLeft(t, down, tenants[down], runs[down])
}
