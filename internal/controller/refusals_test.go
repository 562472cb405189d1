package controller_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// refused is a write of the operator's that the API server never accepts.
type refused struct {
	// method and path are those of the request: the end of the path. The body has all of contains.
	method, path string
	contains     []string
	// why is what the API server says. Empty means that a policy forbids it.
	why string
	// does has the operator write it.
	does func()
	// says is what a person reads about it then.
	says func(g gomega.Gomega)

	requests atomic.Int32
}

// policy is what the policy of the tests says, and lacksRight what the API server does.
const (
	policy     = "a policy of this cluster forbids it"
	lacksRight = `User "tenantry" cannot create resource "jobs" in API group "batch"`
)

func (r *refused) matches(request *http.Request, body string) bool {
	for _, text := range r.contains {
		if !strings.Contains(body, text) {
			return false
		}
	}
	return request.Method == r.method && strings.HasSuffix(request.URL.Path, r.path)
}

// refusedWrites are writes of all kinds, each about an object of its own. What has to be there before is made, while the operator of all
// tests runs.
func refusedWrites(t *testing.T) map[string]*refused {
	t.Helper()
	template := NewReadyTemplate(t, nil)
	tenants := NewReadyTenants(t, 8)
	next := func() *v1alpha1.Tenant {
		tenant := tenants[0]
		tenants = tenants[1:]
		return tenant
	}
	name := func() string { return fmt.Sprintf("refused-%d-x", Serial.Add(1)) }
	message := func(obj client.Object, list func() []metav1.Condition, conditionType string, texts ...string) func(gomega.Gomega) {
		return func(g gomega.Gomega) {
			Get(t, g, obj)
			got := conditions.Get(list(), conditionType).Message
			for _, text := range append(texts, policy) {
				g.Expect(got).To(gomega.ContainSubstring(text))
			}
		}
	}
	event := func(obj client.Object, reason string) func(gomega.Gomega) {
		return func(g gomega.Gomega) {
			g.Expect(EventReasons(t, g, obj.GetUID())).To(gomega.ContainElement("Warning " + reason))
		}
	}
	tenant := func(texts ...string) (*v1alpha1.Tenant, func(), func(gomega.Gomega)) {
		obj := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: name()}}
		list := func() []metav1.Condition { return obj.Status.Conditions }
		return obj, func() { Create(t, obj) }, message(obj, list, v1alpha1.ConditionReady, texts...)
	}
	all := map[string]*refused{}

	obj, does, says := tenant("retrying: writing the finalizers of Tenant")
	all["the finalizer of a Tenant"] = &refused{method: http.MethodPatch, path: "/tenants/" + obj.Name, does: does, says: says}
	obj, does, says = tenant("creating namespace")
	all["a namespace"] = &refused{method: http.MethodPost, path: "/namespaces", contains: []string{obj.NamespaceName()}, does: does, says: says}
	obj, does, says = tenant("retrying")
	all["a tenant's service account"] = &refused{method: http.MethodPost, path: "/" + obj.NamespaceName() + "/serviceaccounts", does: does, says: says}
	obj, does, _ = tenant()
	all["a Tenant's status"] = &refused{method: http.MethodPatch, path: "/tenants/" + obj.Name + "/status", does: does, says: event(obj, "StatusRefused")}

	going := func(tenant *v1alpha1.Tenant, texts ...string) (func(), func(gomega.Gomega)) {
		list := func() []metav1.Condition { return tenant.Status.Conditions }
		return func() { Remove(t, tenant) }, message(tenant, list, v1alpha1.ConditionReconciling, texts...)
	}
	obj = next()
	does, says = going(obj, "deleting")
	all["the deletion of a namespace"] = &refused{method: http.MethodDelete, path: "/namespaces/" + obj.NamespaceName(), does: does, says: says}
	obj = next()
	does, says = going(obj, "writing the finalizers of Tenant")
	all["the removal of a finalizer"] = &refused{method: http.MethodPatch, path: "/tenants/" + obj.Name, does: does, says: says}
	suspended := next()
	_, says = going(suspended, "applying namespace")
	all["a namespace's labels"] = &refused{
		method: http.MethodPatch, path: "/namespaces/" + suspended.NamespaceName(), does: func() { Patch(t, suspended, Suspend) }, says: says,
	}

	run := func(change func(*v1alpha1.TenantJob)) (*v1alpha1.TenantJob, func()) {
		tenant := next()
		tj := &v1alpha1.TenantJob{ObjectMeta: Within(tenant, name()), Spec: v1alpha1.TenantJobSpec{
			TenantRef: v1alpha1.TenantReference{Name: tenant.Name}, TemplateRef: v1alpha1.LabelReference{Name: template.Name},
		}}
		if change != nil {
			change(tj)
		}
		return tj, func() { Create(t, tj) }
	}
	path := func(tj *v1alpha1.TenantJob, rest string) string { return "/" + tj.Namespace + "/" + rest }
	tjMessage := func(tj *v1alpha1.TenantJob, conditionType string, texts ...string) func(gomega.Gomega) {
		return message(tj, func() []metav1.Condition { return tj.Status.Conditions }, conditionType, texts...)
	}
	tj, does := run(nil)
	all["a TenantJob's status"] = &refused{
		method: http.MethodPatch, path: path(tj, "tenantjobs/"+tj.Name+"/status"), does: does, says: event(tj, "StatusRefused"),
	}
	tj, does = run(nil)
	all["a Job"] = &refused{
		method: http.MethodPost, path: path(tj, "jobs"), does: does,
		says: tjMessage(tj, v1alpha1.ConditionSucceeded, "the API server refuses the Job"),
	}
	cancelled, does := run(nil)
	does()
	AwaitRunningPod(t, cancelled)
	all["the deletion of a cancelled Job"] = &refused{
		method: http.MethodDelete, path: path(cancelled, "jobs/"+cancelled.Name),
		does: func() { Patch(t, cancelled, func(o *v1alpha1.TenantJob) { o.Spec.Cancel = new(true) }) },
		says: tjMessage(cancelled, v1alpha1.ConditionReconciling, "Job "+cancelled.Name+" can't be deleted: "),
	}
	orphaned, does := run(nil)
	does()
	AwaitRunningPod(t, orphaned)
	orphan := Get(t, gomega.NewWithT(t), JobOf(orphaned))
	all["the deletion of an orphaned Job"] = &refused{
		method: http.MethodDelete, path: path(orphaned, "jobs/"+orphaned.Name),
		does: func() { Remove(t, orphaned, client.PropagationPolicy(metav1.DeletePropagationOrphan)) },
		says: event(&batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: orphan.UID}}, "DeletionRefused"),
	}
	shortLived := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.TTLSecondsAfterFinished = new(int32(0)) })
	expired, does := run(func(o *v1alpha1.TenantJob) { o.Spec.TemplateRef.Name = shortLived.Name })
	FinishAll(t, &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: expired.Spec.TenantRef.Name}})
	all["the deletion of a TenantJob after its TTL"] = &refused{
		method: http.MethodDelete, path: path(expired, "tenantjobs/"+expired.Name), does: does,
		says: tjMessage(expired, v1alpha1.ConditionReconciling, "TenantJob "+expired.Name+" can't be deleted: "),
	}

	// It has no tenant that exists, so it is over as soon as its ledger and its status are written.
	fanOut := func() (*v1alpha1.TenantFanOut, func()) {
		obj := &v1alpha1.TenantFanOut{ObjectMeta: metav1.ObjectMeta{Name: name()}, Spec: v1alpha1.TenantFanOutSpec{
			TemplateRef: v1alpha1.LabelReference{Name: template.Name}, TTLSecondsAfterFinished: new(int32(0)),
			Tenants: v1alpha1.TenantSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"nobody": "x"}}},
		}}
		return obj, func() { Create(t, obj) }
	}
	fanOutMessage := func(obj *v1alpha1.TenantFanOut, text string) func(gomega.Gomega) {
		return message(obj, func() []metav1.Condition { return obj.Status.Conditions }, v1alpha1.ConditionSucceeded, text)
	}
	tfo, does := fanOut()
	all["a plan"] = &refused{
		method: http.MethodPost, path: "/configmaps", contains: []string{tfo.Name, "-plan"}, does: does, says: fanOutMessage(tfo, "retrying: creating ConfigMap"),
	}
	tfo, does = fanOut()
	all["a ledger"] = &refused{
		method: http.MethodPost, path: "/configmaps", contains: []string{tfo.Name, "-ledger"}, does: does, says: fanOutMessage(tfo, "retrying: storing the ledger"),
	}
	tfo, does = fanOut()
	all["a fan-out's status"] = &refused{method: http.MethodPatch, path: "/tenantfanouts/" + tfo.Name + "/status", does: does, says: event(tfo, "StatusRefused")}
	tfo, does = fanOut()
	all["the deletion of a fan-out after its TTL"] = &refused{
		method: http.MethodDelete, path: "/tenantfanouts/" + tfo.Name, does: does, says: event(tfo, "DeletionRefused"),
	}

	schedule := func() (*v1alpha1.TenantSchedule, func()) {
		obj := &v1alpha1.TenantSchedule{ObjectMeta: metav1.ObjectMeta{Name: name()}, Spec: v1alpha1.TenantScheduleSpec{
			Schedule: "0 2 * * *", FanOutTemplate: v1alpha1.FanOutTemplate{Spec: NobodysFanOut},
		}}
		return obj, func() { Create(t, obj) }
	}
	ts, does := schedule()
	all["all fan-outs of a schedule"] = &refused{
		method: http.MethodPost, path: "/tenantfanouts", contains: []string{ts.Name}, does: does,
		says: message(ts, func() []metav1.Condition { return ts.Status.Conditions }, v1alpha1.ConditionReady),
	}
	other, does := schedule()
	all["a schedule's status"] = &refused{
		method: http.MethodPatch, path: "/tenantschedules/" + other.Name + "/status", does: does, says: event(other, "StatusRefused"),
	}

	q := &v1alpha1.TenantQueue{ObjectMeta: metav1.ObjectMeta{Name: name()}}
	all["a queue's status"] = &refused{
		method: http.MethodPatch, path: "/tenantqueues/" + q.Name + "/status", does: func() { Create(t, q) }, says: event(q, "StatusRefused"),
	}
	unwritten := template.DeepCopy()
	unwritten.ObjectMeta = metav1.ObjectMeta{Name: name()}
	all["a template's status"] = &refused{
		method: http.MethodPatch, path: "/tenantjobtemplates/" + unwritten.Name + "/status", does: func() { Create(t, unwritten) }, says: event(unwritten, "StatusRefused"),
	}
	untried := template.DeepCopy()
	untried.ObjectMeta = metav1.ObjectMeta{Name: name()}
	all["the dry run of a template"] = &refused{
		method: http.MethodPost, path: "/" + OperatorNamespace + "/jobs", contains: []string{untried.Name}, why: lacksRight,
		does: func() { Create(t, untried) },
		says: func(g gomega.Gomega) {
			ready := conditions.Get(Get(t, g, untried).Status.Conditions, v1alpha1.ConditionReady)
			g.Expect([]any{ready.Status, ready.Message}).To(gomega.HaveExactElements(Unknown, gomega.And(
				gomega.ContainSubstring("retrying: trying the template by dry run"), gomega.ContainSubstring(lacksRight))))
		},
	}
	return all
}

// TestRefusedWrites: whatever write the API server refuses for good costs few requests, is said to people, and holds up nobody else.
func TestRefusedWrites(t *testing.T) {
	resource := schema.GroupResource{Resource: "refused"}
	for name, tc := range map[string]struct {
		answer func(why string) *apierrors.StatusError
		// said means that a person reads of it. What passes by itself is only logged.
		said bool
	}{
		"forbidden": {func(why string) *apierrors.StatusError { return apierrors.NewForbidden(resource, "x", errors.New(why)) }, true},
		"conflict":  {func(why string) *apierrors.StatusError { return apierrors.NewConflict(resource, "x", errors.New(why)) }, false},
		"invalid": {func(why string) *apierrors.StatusError {
			return apierrors.NewInvalid(schema.GroupKind{Kind: "Refused"}, "x", field.ErrorList{field.Forbidden(field.NewPath("spec"), why)})
		}, false},
		"not found":  {func(string) *apierrors.StatusError { return apierrors.NewNotFound(resource, "x") }, false},
		"in trouble": {func(why string) *apierrors.StatusError { return apierrors.NewInternalError(errors.New(why)) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			writes := refusedWrites(t)
			template, neighbour := NewReadyTemplate(t, nil), NewReadyTenant(t, v1alpha1.TenantSpec{})
			FinishAll(t, neighbour)
			WithoutOperator(t)
			a := &OtherOperator{Through: func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
				var body []byte
				if r.Body != nil {
					var err error
					if body, err = io.ReadAll(r.Body); err != nil {
						return nil, err
					}
					r.Body = io.NopCloser(bytes.NewReader(body))
				}
				for _, w := range writes {
					if w.matches(r, string(body)) {
						w.requests.Add(1)
						why := policy
						if w.why != "" {
							why = w.why
						}
						return Answer(tc.answer(why)), nil
					}
				}
				return next.RoundTrip(r)
			}}
			a.Start(t)
			for _, w := range writes {
				w.does()
			}
			for what, w := range writes {
				Eventually(t, func(g gomega.Gomega) {
					g.Expect(w.requests.Load()).To(gomega.BeNumerically(">", 0), what)
					if tc.said {
						w.says(g)
					}
				})
			}
			for range 10 {
				AwaitOutcome(t, NewTenantJob(t, neighbour, template), v1alpha1.ReasonCompleted)
			}
			for what, w := range writes {
				// Exponential from 5 ms: 15 in two minutes, and some for each change of an object. Without a back-off there are hundreds
				// in a second.
				if n := w.requests.Load(); n > 100 {
					t.Errorf("%s: %d requests", what, n)
				} else {
					t.Logf("%s: %d requests", what, n)
				}
			}
		})
	}
}
