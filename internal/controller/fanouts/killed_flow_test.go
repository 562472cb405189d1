package fanouts_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/controller/fanouts"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// These tests stop the operator of all tests, so none of them is parallel.

// isFanOutWrite says whether a request writes something for a fan-out.
func isFanOutWrite(r *http.Request) bool {
	return r.Method != http.MethodGet && (strings.Contains(r.URL.Path, "/configmaps") || strings.Contains(r.URL.Path, "/tenantfanouts/") ||
		r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/tenantjobs"))
}

// killedAt is an operator that dies before or after its n-th write for fan-outs.
func killedAt(n int, after bool) (a *OtherOperator, killed <-chan struct{}) {
	died := make(chan struct{})
	var seen atomic.Int32
	a = &OtherOperator{}
	a.Through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		count := int(seen.Load())
		if isFanOutWrite(r) {
			if count = int(seen.Add(1)); count == n {
				if after {
					if _, err := next.RoundTrip(r); err != nil {
						return nil, err
					}
				}
				close(died)
				a.Cancel()
			}
		}
		if count >= n {
			return nil, errors.New("killed")
		}
		return next.RoundTrip(r)
	}
	return a, died
}

// TestTenantFanOutOperatorKilled kills the operator before and after each of its writes for a fan-out: nobody gets a second
// TenantJob or Job, and everybody is counted once.
func TestTenantFanOutOperatorKilled(t *testing.T) {
	tenants := NewReadyTenants(t, 3)
	FinishChildren(t, tenants)
	made := FollowChildren(t, tenants)
	template := NewReadyTemplate(t, nil)
	WithoutOperator(t)
	// The plan, the ledger, the children, the ledger, the status, and the same at the end.
	const leastWrites = 1 + 1 + 3 + 1 + 1 + 2
	for n := 1; n <= leastWrites; n++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, after it: %t", n, after), func(t *testing.T) {
				jobs := FollowJobs(t, tenants[0])
				a, killed := killedAt(n, after)
				a.Start(t)
				fanOut := NewFanOut(t, template.Name, tenants, nil)
				FollowCounters(t, fanOut)
				AwaitSignal(t, killed, "it wrote less than it should")
				a.Stop()
				(&OtherOperator{}).Start(t)
				AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "3 of 3 tenants succeeded")
				g := gomega.NewWithT(t)
				g.Expect(made.Of(fanOut, tenants)).To(gomega.HaveEach(1))
				started, _ := jobs.Made()
				g.Expect(slices.DeleteFunc(started, func(name string) bool { return name != fanOut.Name })).To(gomega.HaveLen(1))
			})
		}
	}
}

// TestTenantFanOutOperatorKilledAgainAndAgain kills the operator all the time while a fan-out goes through its waves.
func TestTenantFanOutOperatorKilledAgainAndAgain(t *testing.T) {
	tenants := NewReadyTenants(t, 12)
	FinishChildren(t, tenants)
	made := FollowChildren(t, tenants)
	template := NewReadyTemplate(t, nil)
	WithoutOperator(t)
	fanOut := NewFanOut(t, template.Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Spec.Strategy = &v1alpha1.FanOutStrategy{
			MaxConcurrent: new(intstr.FromInt32(3)),
			Waves:         []v1alpha1.Wave{{Name: "first", Size: new(intstr.FromInt32(4))}, {Name: "second", Size: new(intstr.FromInt32(4))}},
		}
	})
	FollowCounters(t, fanOut)
	for i := range 10 {
		a, killed := killedAt(i%4+1, i%3 == 0)
		a.Start(t)
		select {
		case <-killed:
		case <-time.After(5 * time.Second): // all may be over
		}
		a.Stop()
	}
	(&OtherOperator{}).Start(t)
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "12 of 12 tenants succeeded")
	gomega.NewWithT(t).Expect(made.Of(fanOut, tenants)).To(gomega.HaveEach(1))
}

// TestTenantFanOutChildIsDeletedWhileNobodyLooks deletes a child that runs while the operator is down.
func TestTenantFanOutChildIsDeletedWhileNobodyLooks(t *testing.T) {
	tenants := NewReadyTenants(t, 2)
	made := FollowChildren(t, tenants)
	template := NewReadyTemplate(t, nil)
	fanOut := NewFanOut(t, template.Name, tenants, nil)
	child, other := ChildIn(tenants[0], fanOut), ChildIn(tenants[1], fanOut)
	AwaitRunningPod(t, child)
	pod := AwaitRunningPod(t, other)
	WithoutOperator(t)
	Remove(t, child, client.PropagationPolicy(metav1.DeletePropagationBackground))
	AwaitGone(t, child)
	(&OtherOperator{}).Start(t)
	AwaitCounts(t, fanOut, v1alpha1.FanOutCounts{Total: 2, Running: 1, Failed: 1})
	EndPod(t, pod, corev1.PodSucceeded)
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsFalse, v1alpha1.ReasonSomeFailed, "1 of 2 tenants succeeded, 1 failed")
	g := gomega.NewWithT(t)
	g.Expect(Unsuccessful(fanOut)).To(gomega.Equal(map[string]string{tenants[0].Name: v1alpha1.ReasonDeleted}))
	g.Expect(made.Of(fanOut, tenants)).To(gomega.HaveEach(1))
}

// TestTenantFanOutTwoLeaders: an old leader, which sees nothing of TenantJobs for a while, and a new one act at the same
// time. Nobody gets a second TenantJob, and no counter goes back.
func TestTenantFanOutTwoLeaders(t *testing.T) {
	tenants := NewReadyTenants(t, 8)
	made := FollowChildren(t, tenants)
	template := NewReadyTemplate(t, nil)
	WithoutOperator(t)
	var blind atomic.Pointer[chan struct{}]
	var looked atomic.Int32
	old := &OtherOperator{}
	old.Through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "-ledger") || r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/tenantfanouts/") {
			looked.Add(1)
		}
		response, err := next.RoundTrip(r)
		if err == nil && r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/v1alpha1/tenantjobs") {
			response.Body = GatedBody{ReadCloser: response.Body, Gate: &blind}
		}
		return response, err
	}
	old.Start(t)
	fanOut := NewFanOut(t, template.Name, tenants, nil)
	FollowCounters(t, fanOut)
	for _, tenant := range tenants {
		AwaitRunningPod(t, ChildIn(tenant, fanOut))
	}
	gate := make(chan struct{})
	blind.Store(&gate)
	(&OtherOperator{}).Start(t)
	for _, tenant := range tenants[:3] {
		Finish(t, ChildIn(tenant, fanOut), corev1.PodSucceeded)
	}
	Finish(t, ChildIn(tenants[3], fanOut), corev1.PodFailed)
	Remove(t, ChildIn(tenants[4], fanOut))
	AwaitCounts(t, fanOut, v1alpha1.FanOutCounts{Total: 8, Running: 3, Succeeded: 3, Failed: 2})
	// The old leader looks again: with what it knew, and then with what it has missed.
	looked.Store(0)
	Patch(t, fanOut, func(o *v1alpha1.TenantFanOut) { o.Spec.TTLSecondsAfterFinished = new(int32(3600)) })
	Eventually(t, func(g gomega.Gomega) { g.Expect(looked.Load()).To(gomega.BeNumerically(">=", 2)) })
	blind.Store(nil)
	close(gate)
	for _, tenant := range tenants[5:] {
		Finish(t, ChildIn(tenant, fanOut), corev1.PodSucceeded)
	}
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsFalse, v1alpha1.ReasonSomeFailed, "6 of 8 tenants succeeded, 2 failed")
	gomega.NewWithT(t).Expect(made.Of(fanOut, tenants)).To(gomega.HaveEach(1))

	// Both from the start.
	FinishChildren(t, tenants)
	for range 3 {
		fanOut := NewFanOut(t, template.Name, tenants, nil)
		FollowCounters(t, fanOut)
		AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "8 of 8 tenants succeeded")
		gomega.NewWithT(t).Expect(made.Of(fanOut, tenants)).To(gomega.HaveEach(1))
	}
}

// TestTenantFanOutOverload: an API server that takes no more is given a rest, and no tenant is to blame.
func TestTenantFanOutOverload(t *testing.T) {
	tenants := NewReadyTenants(t, 5)
	FinishChildren(t, tenants)
	template := NewReadyTemplate(t, nil)
	WithoutOperator(t)
	var asked, refused atomic.Int32
	a := &OtherOperator{}
	a.Through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/tenantjobs") || asked.Add(1)%2 == 1 {
			return next.RoundTrip(r)
		}
		refused.Add(1)
		return &http.Response{StatusCode: http.StatusInternalServerError, Header: http.Header{}, Body: http.NoBody}, nil
	}
	a.Start(t)
	fanOut := NewFanOut(t, template.Name, tenants, nil)
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "5 of 5 tenants succeeded")
	gomega.NewWithT(t).Expect(refused.Load()).To(gomega.BeNumerically(">", 1))
}

// TestTenantFanOutRefused: a TenantJob that the API server does not accept is that tenant's failure. That the operator
// lacks rights is nobody's.
func TestTenantFanOutRefused(t *testing.T) {
	tenants := NewReadyTenants(t, 3)
	FinishChildren(t, tenants)
	template := NewReadyTemplate(t, nil)
	WithoutOperator(t)
	var lacksRights atomic.Bool
	lacksRights.Store(true)
	a := &OtherOperator{}
	a.Through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		toFirst := strings.Contains(r.URL.Path, "/"+tenants[0].NamespaceName()+"/")
		switch {
		case r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/tenantjobs"):
		case toFirst:
			return Answer(apierrors.NewBadRequest("a webhook says no")), nil
		case lacksRights.Load():
			return Answer(apierrors.NewForbidden(schema.GroupResource{Resource: "tenantjobs"}, "x", errors.New("User cannot create resource"))), nil
		}
		return next.RoundTrip(r)
	}
	a.Start(t)
	fanOut := NewFanOut(t, template.Name, tenants, nil)
	AwaitCounts(t, fanOut, v1alpha1.FanOutCounts{Total: 3, Waiting: 2, Failed: 1})
	lacksRights.Store(false)
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsFalse, v1alpha1.ReasonSomeFailed, "2 of 3 tenants succeeded, 1 failed")
	gomega.NewWithT(t).Expect(fanOut.Status.UnsuccessfulTenants).To(gomega.HaveExactElements(v1alpha1.UnsuccessfulTenant{
		Tenant: v1alpha1.TenantName(tenants[0].Name), Reason: v1alpha1.ReasonJobFailed, Message: "the API server refused the TenantJob: a webhook says no",
	}))
}

// TestTenantFanOutWritesSeldom: many small steps of the children cost few writes of the ledger and of the status.
func TestTenantFanOutWritesSeldom(t *testing.T) {
	tenants := NewReadyTenants(t, 10)
	FinishChildren(t, tenants)
	template := NewReadyTemplate(t, nil)
	WithoutOperator(t)
	var ledgers, statuses atomic.Int32
	a := &OtherOperator{}
	a.Through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		switch {
		case r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/configmaps/"):
			ledgers.Add(1)
		case r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/tenantfanouts/"):
			statuses.Add(1)
		}
		return next.RoundTrip(r)
	}
	a.Start(t)
	began := time.Now()
	fanOut := NewFanOut(t, template.Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Spec.Strategy = &v1alpha1.FanOutStrategy{MaxConcurrent: new(intstr.FromInt32(1))}
	})
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "10 of 10 tenants succeeded")
	// The end does not wait.
	allowed := fanouts.FlushBurst + int32(time.Since(began)/fanouts.FlushInterval) + 1
	gomega.NewWithT(t).Expect([]int32{ledgers.Load(), statuses.Load()}).To(gomega.HaveEach(gomega.BeNumerically("<=", allowed+1)))
}
