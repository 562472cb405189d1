package controller_test

import (
	"context"
	"errors"
	"fmt"
	"io"
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
)

// These tests stop the operator of all tests, so none of them is parallel.

// TestTenantJobOperatorKilled kills the operator before and after each of its writes for a run: there is one Job all the
// same, and the run ends well under the next operator.
func TestTenantJobOperatorKilled(t *testing.T) {
	template := newReadyTemplate(t, nil)
	writes := []string{"label", "Job", "status Running", "status Completed"}
	var tenants []*v1alpha1.Tenant
	for range 2 * len(writes) {
		tenants = append(tenants, newReadyTenant(t, v1alpha1.TenantSpec{}))
	}
	withoutOperator(t)
	for i, write := range writes {
		for _, moment := range []string{"before", "after"} {
			t.Run(moment+" "+write, func(t *testing.T) {
				tenant := tenants[0]
				tenants = tenants[1:]
				jobs := followJobs(t, tenant)
				killed := make(chan struct{})
				var seen atomic.Int32
				a := &another{}
				a.through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
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
						a.cancel()
					}
					return nil, errors.New("killed")
				}
				a.start(t)
				tj := newTenantJob(t, tenant, template)
				if write == "status Completed" {
					awaitSaid(t, tj, unknown, v1alpha1.ReasonRunning, "")
					finish(t, tj, corev1.PodSucceeded)
				}
				select {
				case <-killed:
				case <-time.After(30 * time.Second):
					t.Fatal("it wrote less than it should")
				}
				a.stop()

				(&another{}).start(t)
				if write != "status Completed" {
					finish(t, tj, corev1.PodSucceeded)
				}
				awaitSaid(t, tj, isTrue, v1alpha1.ReasonCompleted, "")
				g := gomega.NewWithT(t)
				made, _ := jobs.made()
				g.Expect(made).To(gomega.HaveExactElements(tj.Name))
				g.Expect(tj.Status.StartTime).To(gomega.HaveValue(gomega.Equal(get(t, g, jobOf(tj)).CreationTimestamp)))
				g.Expect(tj.Status.JobRef).NotTo(gomega.BeNil())
			})
		}
	}
}

// TestTenantJobsOperatorKilledAgainAndAgain kills the operator all the time while runs take turns.
func TestTenantJobsOperatorKilledAgainAndAgain(t *testing.T) {
	tenant := newReadyTenant(t, atMost(1))
	template := newReadyTemplate(t, nil)
	jobs := followJobs(t, tenant)
	finishAll(t, tenant)
	withoutOperator(t)
	var all []*v1alpha1.TenantJob
	for range 6 {
		all = append(all, newTenantJob(t, tenant, template))
	}
	for i := range 8 {
		// It dies with its n-th write.
		var left atomic.Int32
		left.Store(int32(i%4) + 1)
		died := make(chan struct{})
		a := &another{}
		a.through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
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
				a.cancel()
				return nil, errors.New("killed")
			}
			return response, err
		}
		a.start(t)
		select {
		case <-died:
		case <-time.After(10 * time.Second): // all may be over
		}
		a.stop()
	}
	(&another{}).start(t)
	for _, tj := range all {
		awaitSaid(t, tj, isTrue, v1alpha1.ReasonCompleted, "")
	}
	made, most := jobs.made()
	g := gomega.NewWithT(t)
	g.Expect(made).To(gomega.HaveLen(len(all)))
	g.Expect(most).To(gomega.Equal(1))
}

// TestTenantJobJobIsDeletedWhileNobodyLooks deletes a Job while the operator is down.
func TestTenantJobJobIsDeletedWhileNobodyLooks(t *testing.T) {
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
	jobs := followJobs(t, tenant)
	tj := newTenantJob(t, tenant, newReadyTemplate(t, nil))
	awaitSaid(t, tj, unknown, v1alpha1.ReasonRunning, "")
	withoutOperator(t)
	remove(t, jobOf(tj), client.PropagationPolicy(metav1.DeletePropagationBackground))
	awaitGone(t, jobOf(tj))
	(&another{}).start(t)
	awaitSaid(t, tj, isFalse, v1alpha1.ReasonDeleted, "create another TenantJob")
	made, _ := jobs.made()
	gomega.NewWithT(t).Expect(made).To(gomega.HaveExactElements(tj.Name))
}

// TestTenantJobStartWithoutAnAnswer: a start whose request is on its way, while its sender was told that it failed, keeps
// its slot.
func TestTenantJobStartWithoutAnAnswer(t *testing.T) {
	for name, answer := range map[string]func() (*http.Response, error){
		"a connection that breaks": func() (*http.Response, error) { return nil, errors.New("connection reset by peer") },
		"a timeout of the API server": func() (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusGatewayTimeout, Header: http.Header{}, Body: http.NoBody}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			tenant := newReadyTenant(t, atMost(1))
			template := newReadyTemplate(t, nil)
			jobs := followJobs(t, tenant)
			withoutOperator(t)
			var late atomic.Pointer[http.Request]
			var passed atomic.Bool
			arrive := make(chan struct{})
			a := &another{}
			a.through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
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
			a.start(t)
			first := newTenantJob(t, tenant, template)
			eventually(t, func(g gomega.Gomega) { g.Expect(late.Load()).NotTo(gomega.BeNil()) })
			second := newTenantJob(t, tenant, template)
			awaitSaid(t, second, unknown, v1alpha1.ReasonQueued, "")
			close(arrive)
			awaitRunningPod(t, first)
			awaitSaid(t, second, unknown, v1alpha1.ReasonQueued, "")
			finish(t, first, corev1.PodSucceeded)
			finish(t, second, corev1.PodSucceeded)
			awaitSaid(t, first, isTrue, v1alpha1.ReasonCompleted, "")
			awaitSaid(t, second, isTrue, v1alpha1.ReasonCompleted, "")
			made, most := jobs.made()
			g := gomega.NewWithT(t)
			g.Expect(made).To(gomega.HaveExactElements(first.Name, second.Name))
			g.Expect(most).To(gomega.Equal(1))
		})
	}
}

// TestTenantJobLimitHoldsWhileTheCacheIsBlind: a limit holds while the cache is told nothing of Jobs, also for runs whose
// status says already that they were started, or that they are over.
func TestTenantJobLimitHoldsWhileTheCacheIsBlind(t *testing.T) {
	tenant := newReadyTenant(t, atMost(1))
	template := newReadyTemplate(t, nil)
	jobs := followJobs(t, tenant)
	withoutOperator(t)
	var blind atomic.Pointer[chan struct{}]
	a := &another{clock: &shiftedClock{}}
	// By this clock a run's first moments are over at once, so that its start is written down before the cache knows.
	a.clock.ahead.Store(int64(3 * time.Second))
	a.through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(r)
		if err == nil && strings.HasSuffix(r.URL.Path, "/apis/batch/v1/jobs") && r.URL.Query().Has("watch") {
			response.Body = gated{response.Body, &blind}
		}
		return response, err
	}
	a.start(t)
	for _, cancelled := range []bool{false, true} {
		t.Run(fmt.Sprintf("cancelled: %t", cancelled), func(t *testing.T) {
			gate := make(chan struct{})
			blind.Store(&gate)
			first := newTenantJob(t, tenant, template)
			eventually(t, func(g gomega.Gomega) { g.Expect(get(t, g, first).Status.JobRef).NotTo(gomega.BeNil()) })
			if cancelled {
				patch(t, first, func(o *v1alpha1.TenantJob) { o.Spec.Cancel = new(true) })
				awaitSaid(t, first, isFalse, v1alpha1.ReasonCancelled, "")
			}
			second := newTenantJob(t, tenant, template)
			if !cancelled {
				awaitSaid(t, second, unknown, v1alpha1.ReasonQueued, "")
			} else {
				// The API server is asked whether anything of the first is left.
				eventually(t, func(g gomega.Gomega) { g.Expect(get(t, g, second).Status.JobRef).NotTo(gomega.BeNil()) })
			}
			blind.Store(nil)
			close(gate)
			if !cancelled {
				finish(t, first, corev1.PodSucceeded)
			}
			finish(t, second, corev1.PodSucceeded)
			awaitSaid(t, second, isTrue, v1alpha1.ReasonCompleted, "")
		})
	}
	_, most := jobs.made()
	gomega.NewWithT(t).Expect(most).To(gomega.Equal(1))
}

// gated passes nothing on while there is a gate that is shut.
type gated struct {
	io.ReadCloser
	gate *atomic.Pointer[chan struct{}]
}

func (g gated) Read(p []byte) (int, error) {
	n, err := g.ReadCloser.Read(p)
	if gate := g.gate.Load(); gate != nil {
		<-*gate
	}
	return n, err
}

// TestTenantJobPodsRefused moves the clock forward.
func TestTenantJobPodsRefused(t *testing.T) {
	noPods := &v1alpha1.TenantQuota{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}}
	full := newReadyTenant(t, v1alpha1.TenantSpec{Quota: noPods, Jobs: &v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(1))}})
	becomesFull := newReadyTenant(t, v1alpha1.TenantSpec{})
	template := newReadyTemplate(t, nil)
	retries := newReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.JobTemplate.Spec.BackoffLimit = new(int32(3)) })
	withoutOperator(t)
	a := &another{clock: &shiftedClock{}}
	a.start(t)

	refused, retried := newTenantJob(t, full, template), newTenantJob(t, becomesFull, retries)
	pod := awaitRunningPod(t, retried)
	awaitSaid(t, refused, unknown, v1alpha1.ReasonStarting, "its pod is refused: exceeded quota")
	waits := newTenantJob(t, full, template)
	awaitSaid(t, waits, unknown, v1alpha1.ReasonQueued, "")
	awaitSaid(t, retried, unknown, v1alpha1.ReasonRunning, "")
	patch(t, becomesFull, func(o *v1alpha1.Tenant) { o.Spec.Quota = noPods })
	awaitCondition(t, becomesFull, v1alpha1.ConditionReady, isTrue, v1alpha1.ReasonReady, "")
	exitPod(t, pod, 1, "")
	awaitSaid(t, retried, unknown, v1alpha1.ReasonStarting, "its pod is refused: exceeded quota")

	a.clock.ahead.Store(int64(2 * time.Minute))
	awaitSaid(t, refused, isFalse, v1alpha1.ReasonPodsRefused, "no pod for two minutes: exceeded quota")
	awaitSaid(t, retried, isFalse, v1alpha1.ReasonPodsRefused, "no pod for two minutes: exceeded quota")
	awaitGone(t, jobOf(refused))
	awaitGone(t, jobOf(retried))
	g := gomega.NewWithT(t)
	g.Expect(conditionOf(refused.Status.Conditions, v1alpha1.ConditionStalled).Status).To(gomega.Equal(isTrue))
	// The slot is given back, and the next one tries. By this clock it has done so for two minutes at once.
	awaitSaid(t, waits, isFalse, v1alpha1.ReasonPodsRefused, "")
}

// TestTenantJobLongRun: a run that took longer than two minutes completes; that its pod has ended does not count as having
// none.
func TestTenantJobLongRun(t *testing.T) {
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
	template := newReadyTemplate(t, nil)
	withoutOperator(t)
	a := &another{clock: &shiftedClock{}}
	a.start(t)
	var all []*v1alpha1.TenantJob
	for range 10 {
		all = append(all, newTenantJob(t, tenant, template))
	}
	for _, tj := range all {
		awaitSaid(t, tj, unknown, v1alpha1.ReasonRunning, "")
	}
	a.clock.ahead.Store(int64(time.Hour))
	for i, tj := range all {
		finish(t, tj, []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed}[i%2])
	}
	for i, tj := range all {
		if i%2 == 0 {
			awaitSaid(t, tj, isTrue, v1alpha1.ReasonCompleted, "")
		} else {
			awaitSaid(t, tj, isFalse, v1alpha1.ReasonJobFailed, "")
		}
	}
}

// TestTenantJobAnEndedOneIsNeverStartedAgain restarts the operator over TenantJobs that are over.
func TestTenantJobAnEndedOneIsNeverStartedAgain(t *testing.T) {
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
	template := newReadyTemplate(t, nil)
	completes, fails := newTenantJob(t, tenant, template), newTenantJob(t, tenant, template)
	cancels := newRun(t, tenant, template, func(o *v1alpha1.TenantJob) { o.Spec.Cancel = new(true) })
	finish(t, completes, corev1.PodSucceeded)
	finish(t, fails, corev1.PodFailed)
	awaitSaid(t, completes, isTrue, v1alpha1.ReasonCompleted, "")
	awaitSaid(t, fails, isFalse, v1alpha1.ReasonJobFailed, "")
	awaitSaid(t, cancels, isFalse, v1alpha1.ReasonCancelled, "")
	withoutOperator(t)
	before := map[string]string{}
	for _, tj := range []*v1alpha1.TenantJob{completes, fails, cancels} {
		if tj != cancels {
			remove(t, jobOf(tj), client.PropagationPolicy(metav1.DeletePropagationBackground))
			awaitGone(t, jobOf(tj))
		}
		patch(t, tj, func(o *v1alpha1.TenantJob) { o.Spec.Cancel = nil })
		before[tj.Name] = fmt.Sprint(tj.Status.Conditions)
	}
	jobs := followJobs(t, tenant)
	(&another{}).start(t)
	for _, tj := range []*v1alpha1.TenantJob{completes, fails, cancels} {
		// It takes note of the changed spec, and so has looked.
		eventually(t, func(g gomega.Gomega) {
			g.Expect(get(t, g, tj).Status.ObservedGeneration).To(gomega.Equal(tj.Generation))
		})
		if tj != cancels {
			patch(t, tj, func(o *v1alpha1.TenantJob) { o.Spec.MaxWaitSeconds = new(int32(5)) })
			eventually(t, func(g gomega.Gomega) {
				g.Expect(get(t, g, tj).Status.ObservedGeneration).To(gomega.Equal(tj.Generation))
			})
		}
		gomega.NewWithT(t).Expect(fmt.Sprint(tj.Status.Conditions)).To(gomega.Equal(before[tj.Name]))
	}
	made, _ := jobs.made()
	gomega.NewWithT(t).Expect(made).To(gomega.BeEmpty())
}
