package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// These tests stop the operator of all tests, so none of them is parallel.

// TestTenantJobOperatorKilled kills the operator before and after each of its writes for a run: there is one Job all the
// same, and the run ends well under the next operator.
func TestTenantJobOperatorKilled(t *testing.T) {
	template := NewReadyTemplate(t, nil)
	writes := []string{"label", "Job", "status Running", "status Completed"}
	var tenants []*v1alpha1.Tenant
	for range 2 * len(writes) {
		tenants = append(tenants, NewReadyTenant(t, v1alpha1.TenantSpec{}))
	}
	WithoutOperator(t)
	for i, write := range writes {
		for _, moment := range []string{"before", "after"} {
			t.Run(moment+" "+write, func(t *testing.T) {
				tenant := tenants[0]
				tenants = tenants[1:]
				jobs := FollowJobs(t, tenant)
				killed := make(chan struct{})
				var seen atomic.Int32
				a := &OtherOperator{}
				a.Through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
					n := seen.Load()
					if r.Method != http.MethodGet && strings.Contains(r.URL.Path, tenant.NamespaceName()+"/") && strings.Contains(r.URL.Path, "jobs") {
						n = seen.Add(1)
					}
					if int(n) <= i {
						return next.RoundTrip(r)
					}
					if int(n) == i+1 && r.Method != http.MethodGet {
						if moment == "after" {
							if _, err := next.RoundTrip(r); err != nil {
								return nil, err
							}
						}
						close(killed)
						a.Cancel()
					}
					return nil, errors.New("killed")
				}
				a.Start(t)
				tj := NewTenantJob(t, tenant, template)
				if write == "status Completed" {
					AwaitStatus(t, tj, Unknown, v1alpha1.ReasonRunning, "")
					Finish(t, tj, corev1.PodSucceeded)
				}
				AwaitSignal(t, killed, "it wrote less than it should")
				a.Stop()

				(&OtherOperator{}).Start(t)
				if write != "status Completed" {
					Finish(t, tj, corev1.PodSucceeded)
				}
				AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
				g := gomega.NewWithT(t)
				made, _ := jobs.Made()
				g.Expect(made).To(gomega.HaveExactElements(tj.Name))
				g.Expect(tj.Status.StartTime).To(gomega.HaveValue(gomega.Equal(Get(t, g, JobOf(tj)).CreationTimestamp)))
				g.Expect(tj.Status.JobRef).NotTo(gomega.BeNil())
			})
		}
	}
}

// TestTenantJobsOperatorKilledAgainAndAgain kills the operator all the time while runs take turns.
func TestTenantJobsOperatorKilledAgainAndAgain(t *testing.T) {
	tenant := NewReadyTenant(t, AtMost(1))
	template := NewReadyTemplate(t, nil)
	jobs := FollowJobs(t, tenant)
	FinishAll(t, tenant)
	WithoutOperator(t)
	var all []*v1alpha1.TenantJob
	for range 6 {
		all = append(all, NewTenantJob(t, tenant, template))
	}
	for i := range 8 {
		// It dies with its n-th write.
		var left atomic.Int32
		left.Store(int32(i%4) + 1)
		died := make(chan struct{})
		a := &OtherOperator{}
		a.Through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodGet || !strings.Contains(r.URL.Path, tenant.NamespaceName()+"/") {
				return next.RoundTrip(r)
			}
			n := left.Add(-1)
			if n < 0 {
				return nil, errors.New("killed")
			}
			response, err := next.RoundTrip(r)
			if n == 0 {
				close(died)
				a.Cancel()
				return nil, errors.New("killed")
			}
			return response, err
		}
		a.Start(t)
		select {
		case <-died:
		case <-time.After(10 * time.Second): // all may be over
		}
		a.Stop()
	}
	(&OtherOperator{}).Start(t)
	for _, tj := range all {
		AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
	}
	made, most := jobs.Made()
	g := gomega.NewWithT(t)
	g.Expect(made).To(gomega.HaveLen(len(all)))
	g.Expect(most).To(gomega.Equal(1))
}

// TestTenantJobJobIsDeletedWhileNobodyLooks deletes a Job while the operator is down.
func TestTenantJobJobIsDeletedWhileNobodyLooks(t *testing.T) {
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	jobs := FollowJobs(t, tenant)
	tj := NewTenantJob(t, tenant, NewReadyTemplate(t, nil))
	AwaitStatus(t, tj, Unknown, v1alpha1.ReasonRunning, "")
	WithoutOperator(t)
	Remove(t, JobOf(tj), client.PropagationPolicy(metav1.DeletePropagationBackground))
	AwaitGone(t, JobOf(tj))
	(&OtherOperator{}).Start(t)
	AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonDeleted, "create another TenantJob")
	made, _ := jobs.Made()
	gomega.NewWithT(t).Expect(made).To(gomega.HaveExactElements(tj.Name))
}

// TestTenantJobJobIsDeletedBeforeItIsRecorded kills the operator after it has made a Job and before the status says so, and deletes the
// Job. The next operator does not make it again.
func TestTenantJobJobIsDeletedBeforeItIsRecorded(t *testing.T) {
	template := NewReadyTemplate(t, nil)
	tenants := []*v1alpha1.Tenant{NewReadyTenant(t, v1alpha1.TenantSpec{}), NewReadyTenant(t, v1alpha1.TenantSpec{})}
	WithoutOperator(t)
	for i, name := range []string{"made by hand", "made by a fan-out with its labels"} {
		t.Run(name, func(t *testing.T) {
			tenant := tenants[i]
			var labels map[string]string
			if i > 0 {
				labels = map[string]string{
					v1alpha1.LabelTenant: tenant.Name, v1alpha1.LabelTemplate: template.Name, v1alpha1.LabelQueue: v1alpha1.DefaultQueue,
				}
			}
			jobs := FollowJobs(t, tenant)
			killed := make(chan struct{})
			var dead atomic.Bool
			a := &OtherOperator{}
			a.Through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
				if dead.Load() {
					return nil, errors.New("killed")
				}
				if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, tenant.NamespaceName()+"/jobs") || !dead.CompareAndSwap(false, true) {
					return next.RoundTrip(r)
				}
				response, err := next.RoundTrip(r)
				close(killed)
				a.Cancel()
				return response, err
			}
			a.Start(t)
			tj := NewRun(t, tenant, template, func(o *v1alpha1.TenantJob) { o.Labels = labels })
			select {
			case <-killed:
			case <-time.After(30 * time.Second):
				t.Fatal("it made no Job")
			}
			a.Stop()
			AwaitRunningPod(t, tj)
			AwaitPodCreated(t, tj)
			Remove(t, JobOf(tj), client.PropagationPolicy(metav1.DeletePropagationBackground))
			AwaitGone(t, JobOf(tj))

			b := &OtherOperator{}
			b.Start(t)
			AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonDeleted, "create another TenantJob")
			made, _ := jobs.Made()
			g := gomega.NewWithT(t)
			g.Expect(made).To(gomega.HaveExactElements(tj.Name))
			g.Expect(tj.Status.JobRef).NotTo(gomega.BeNil())

			// Another one of its name is another run, also when an operator finds it that did not see the first.
			Remove(t, tj)
			AwaitGone(t, tj)
			b.Stop()
			another := NewRun(t, tenant, template, func(o *v1alpha1.TenantJob) { o.Name, o.GenerateName, o.Labels = tj.Name, "", labels })
			(&OtherOperator{}).Start(t)
			Finish(t, another, corev1.PodSucceeded)
			AwaitStatus(t, another, IsTrue, v1alpha1.ReasonCompleted, "")
		})
	}
}

// TestTenantJobStartWithoutAnAnswer: a start whose request is on its way, while its sender was emitted that it failed, keeps
// its slot.
func TestTenantJobStartWithoutAnAnswer(t *testing.T) {
	for name, answer := range map[string]func() (*http.Response, error){
		"a connection that breaks": func() (*http.Response, error) { return nil, errors.New("connection reset by peer") },
		"a timeout of the API server": func() (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusGatewayTimeout, Header: http.Header{}, Body: http.NoBody}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			tenant := NewReadyTenant(t, AtMost(1))
			template := NewReadyTemplate(t, nil)
			jobs := FollowJobs(t, tenant)
			WithoutOperator(t)
			var late atomic.Pointer[http.Request]
			var passed atomic.Bool
			arrive := make(chan struct{})
			a := &OtherOperator{}
			a.Through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
				if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, tenant.NamespaceName()+"/jobs") || passed.Load() {
					return next.RoundTrip(r)
				}
				// The first one's request is on its way, and so are its retries.
				if body, err := r.GetBody(); err == nil && late.Load() == nil {
					request := r.Clone(context.Background())
					request.Body = body
					if late.CompareAndSwap(nil, request) {
						go func() {
							<-arrive
							if response, err := next.RoundTrip(request); err == nil {
								_ = response.Body.Close()
							}
							passed.Store(true)
						}()
					}
				}
				return answer()
			}
			a.Start(t)
			first := NewTenantJob(t, tenant, template)
			Eventually(t, func(g gomega.Gomega) { g.Expect(late.Load()).NotTo(gomega.BeNil()) })
			second := NewTenantJob(t, tenant, template)
			AwaitStatus(t, second, Unknown, v1alpha1.ReasonQueued, "")
			close(arrive)
			AwaitRunningPod(t, first)
			AwaitStatus(t, second, Unknown, v1alpha1.ReasonQueued, "")
			Finish(t, first, corev1.PodSucceeded)
			Finish(t, second, corev1.PodSucceeded)
			AwaitStatus(t, first, IsTrue, v1alpha1.ReasonCompleted, "")
			AwaitStatus(t, second, IsTrue, v1alpha1.ReasonCompleted, "")
			made, most := jobs.Made()
			g := gomega.NewWithT(t)
			g.Expect(made).To(gomega.HaveExactElements(first.Name, second.Name))
			g.Expect(most).To(gomega.Equal(1))
		})
	}
}

// TestTenantJobLimitHoldsWhileTheCacheIsBlind: a limit holds while the cache is emitted nothing of Jobs, also for runs whose
// status says already that they were started, or that they are over.
func TestTenantJobLimitHoldsWhileTheCacheIsBlind(t *testing.T) {
	tenant := NewReadyTenant(t, AtMost(1))
	template := NewReadyTemplate(t, nil)
	jobs := FollowJobs(t, tenant)
	WithoutOperator(t)
	var blind atomic.Pointer[chan struct{}]
	a := &OtherOperator{Clock: &ShiftedClock{}}
	// By this clock a run's first moments are over at once, so that its start is written down before the cache knows.
	a.Clock.Ahead.Store(int64(3 * time.Second))
	a.Through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(r)
		if err == nil && strings.HasSuffix(r.URL.Path, "/apis/batch/v1/jobs") && r.URL.Query().Has("watch") {
			response.Body = GatedBody{ReadCloser: response.Body, Gate: &blind}
		}
		return response, err
	}
	a.Start(t)
	for _, cancelled := range []bool{false, true} {
		t.Run(fmt.Sprintf("cancelled: %t", cancelled), func(t *testing.T) {
			gate := make(chan struct{})
			blind.Store(&gate)
			first := NewTenantJob(t, tenant, template)
			Eventually(t, func(g gomega.Gomega) { g.Expect(Get(t, g, first).Status.JobRef).NotTo(gomega.BeNil()) })
			if cancelled {
				Patch(t, first, func(o *v1alpha1.TenantJob) { o.Spec.Cancel = new(true) })
				AwaitStatus(t, first, IsFalse, v1alpha1.ReasonCancelled, "")
			}
			second := NewTenantJob(t, tenant, template)
			if !cancelled {
				AwaitStatus(t, second, Unknown, v1alpha1.ReasonQueued, "")
			} else {
				// The API server is asked whether anything of the first is left.
				Eventually(t, func(g gomega.Gomega) { g.Expect(Get(t, g, second).Status.JobRef).NotTo(gomega.BeNil()) })
			}
			blind.Store(nil)
			close(gate)
			if !cancelled {
				Finish(t, first, corev1.PodSucceeded)
			}
			Finish(t, second, corev1.PodSucceeded)
			AwaitStatus(t, second, IsTrue, v1alpha1.ReasonCompleted, "")
		})
	}
	_, most := jobs.Made()
	gomega.NewWithT(t).Expect(most).To(gomega.Equal(1))
}

// TestTenantJobPodsRefused moves the clock forward.
func TestTenantJobPodsRefused(t *testing.T) {
	noPods := &v1alpha1.TenantQuota{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}}
	full := NewReadyTenant(t, v1alpha1.TenantSpec{Quota: noPods, Jobs: &v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(1))}})
	becomesFull := NewReadyTenant(t, v1alpha1.TenantSpec{})
	template := NewReadyTemplate(t, nil)
	retries := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.JobTemplate.Spec.BackoffLimit = new(int32(3)) })
	WithoutOperator(t)
	a := &OtherOperator{Clock: &ShiftedClock{}}
	a.Clock.StopAt(time.Now())
	a.Start(t)

	refused, retried := NewTenantJob(t, full, template), NewTenantJob(t, becomesFull, retries)
	pod := AwaitRunningPod(t, retried)
	Eventually(t, func(g gomega.Gomega) { Get(t, g, JobOf(refused)) })
	// The first moments of both are over, and two minutes are far, however long it takes.
	newest := Get(t, gomega.NewWithT(t), JobOf(refused)).CreationTimestamp.Time
	if other := Get(t, gomega.NewWithT(t), JobOf(retried)).CreationTimestamp.Time; other.After(newest) {
		newest = other
	}
	a.Clock.StopAt(newest.Add(10 * time.Second))
	a.Clock.GoSlowly()
	AwaitStatus(t, refused, Unknown, v1alpha1.ReasonStarting, "its pod is refused: exceeded quota")
	waits := NewTenantJob(t, full, template)
	AwaitStatus(t, waits, Unknown, v1alpha1.ReasonQueued, "")
	AwaitStatus(t, retried, Unknown, v1alpha1.ReasonRunning, "")
	Patch(t, becomesFull, func(o *v1alpha1.Tenant) { o.Spec.Quota = noPods })
	AwaitCondition(t, becomesFull, v1alpha1.ConditionReady, IsTrue, v1alpha1.ReasonReady, "")
	ExitPod(t, pod, 1, "")
	AwaitStatus(t, retried, Unknown, v1alpha1.ReasonStarting, "its pod is refused: exceeded quota")

	a.Clock.StopAt(time.Now().Add(time.Hour))
	a.Clock.GoOn()
	AwaitStatus(t, refused, IsFalse, v1alpha1.ReasonPodsRefused, "no pod for two minutes: exceeded quota")
	AwaitStatus(t, retried, IsFalse, v1alpha1.ReasonPodsRefused, "no pod for two minutes: exceeded quota")
	AwaitGone(t, JobOf(refused))
	AwaitGone(t, JobOf(retried))
	g := gomega.NewWithT(t)
	g.Expect(conditions.Get(refused.Status.Conditions, v1alpha1.ConditionStalled).Status).To(gomega.Equal(IsTrue))
	// The slot is given back, and the next one tries. By this clock it has done so for two minutes at once.
	AwaitStatus(t, waits, IsFalse, v1alpha1.ReasonPodsRefused, "")
}

// TestTenantJobLongRun: a run that took longer than two minutes completes; that its pod has ended does not count as having
// none.
func TestTenantJobLongRun(t *testing.T) {
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	template := NewReadyTemplate(t, nil)
	WithoutOperator(t)
	a := &OtherOperator{Clock: &ShiftedClock{}}
	a.Start(t)
	var all []*v1alpha1.TenantJob
	for range 10 {
		all = append(all, NewTenantJob(t, tenant, template))
	}
	for _, tj := range all {
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonRunning, "")
	}
	a.Clock.Ahead.Store(int64(time.Hour))
	for i, tj := range all {
		Finish(t, tj, []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed}[i%2])
	}
	for i, tj := range all {
		if i%2 == 0 {
			AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
		} else {
			AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonJobFailed, "")
		}
	}
}

// TestTenantJobAnEndedOneIsNeverStartedAgain restarts the operator over TenantJobs that are over.
func TestTenantJobAnEndedOneIsNeverStartedAgain(t *testing.T) {
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	template := NewReadyTemplate(t, nil)
	completes, fails := NewTenantJob(t, tenant, template), NewTenantJob(t, tenant, template)
	cancels := NewRun(t, tenant, template, func(o *v1alpha1.TenantJob) { o.Spec.Cancel = new(true) })
	Finish(t, completes, corev1.PodSucceeded)
	Finish(t, fails, corev1.PodFailed)
	AwaitStatus(t, completes, IsTrue, v1alpha1.ReasonCompleted, "")
	AwaitStatus(t, fails, IsFalse, v1alpha1.ReasonJobFailed, "")
	AwaitStatus(t, cancels, IsFalse, v1alpha1.ReasonCancelled, "")
	WithoutOperator(t)
	before := map[string]string{}
	for _, tj := range []*v1alpha1.TenantJob{completes, fails, cancels} {
		if tj != cancels {
			Remove(t, JobOf(tj), client.PropagationPolicy(metav1.DeletePropagationBackground))
			AwaitGone(t, JobOf(tj))
		}
		Patch(t, tj, func(o *v1alpha1.TenantJob) { o.Spec.Cancel = nil })
		before[tj.Name] = fmt.Sprint(tj.Status.Conditions)
	}
	jobs := FollowJobs(t, tenant)
	(&OtherOperator{}).Start(t)
	for _, tj := range []*v1alpha1.TenantJob{completes, fails, cancels} {
		// It takes note of the changed spec, and so has looked.
		Eventually(t, func(g gomega.Gomega) {
			g.Expect(Get(t, g, tj).Status.ObservedGeneration).To(gomega.Equal(tj.Generation))
		})
		if tj != cancels {
			Patch(t, tj, func(o *v1alpha1.TenantJob) { o.Spec.MaxWaitSeconds = new(int32(5)) })
			Eventually(t, func(g gomega.Gomega) {
				g.Expect(Get(t, g, tj).Status.ObservedGeneration).To(gomega.Equal(tj.Generation))
			})
		}
		gomega.NewWithT(t).Expect(fmt.Sprint(tj.Status.Conditions)).To(gomega.Equal(before[tj.Name]))
	}
	made, _ := jobs.Made()
	gomega.NewWithT(t).Expect(made).To(gomega.BeEmpty())
}
