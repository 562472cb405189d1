package fanouts_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// firstAlone puts the tenants with a label into a wave before the others.
func firstAlone(label map[string]string) func(*v1alpha1.TenantFanOut) {
	return func(o *v1alpha1.TenantFanOut) {
		o.Spec.Strategy = &v1alpha1.FanOutStrategy{Waves: []v1alpha1.Wave{{Name: "first", Selector: &metav1.LabelSelector{MatchLabels: label}}}}
	}
}

// again creates another TenantJob like a child, with the same owner and other parameters, as a member can.
func again(t *testing.T, child *v1alpha1.TenantJob) *v1alpha1.TenantJob {
	t.Helper()
	impostor := &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{
		Namespace: child.Namespace, Name: child.Name, Labels: child.Labels, OwnerReferences: child.OwnerReferences,
	}, Spec: *child.Spec.DeepCopy()}
	impostor.Spec.Parameters = map[string]v1alpha1.ParameterValue{"days": "9"}
	return Create(t, impostor)
}

// TestTenantFanOutHostileMember: whatever the member of one tenant does to its own child, that is this tenant's outcome. What runs
// is stopped, nothing runs twice, and the later wave opens for the others.
func TestTenantFanOutHostileMember(t *testing.T) {
	t.Parallel()
	remove := client.PropagationPolicy(metav1.DeletePropagationBackground)
	for name, tc := range map[string]struct {
		// waits says that a suspended queue holds the child. Otherwise it runs.
		waits  bool
		do     func(t *testing.T, child *v1alpha1.TenantJob)
		reason string
	}{
		"puts it off for ever": {
			waits: true, reason: v1alpha1.ReasonCancelled,
			do: func(t *testing.T, child *v1alpha1.TenantJob) {
				t.Helper()
				Patch(t, child, func(o *v1alpha1.TenantJob) {
					o.Spec.NotBeforeTime = &metav1.Time{Time: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)}
				})
				AwaitOutcome(t, child, v1alpha1.ReasonCancelled)
			},
		},
		"takes it from the fan-out": {
			waits: true, reason: v1alpha1.ReasonDeleted,
			do: func(t *testing.T, child *v1alpha1.TenantJob) {
				t.Helper()
				Patch(t, child, func(o *v1alpha1.TenantJob) { o.OwnerReferences, o.Labels = nil, nil })
				AwaitOutcome(t, child, v1alpha1.ReasonDeleted)
			},
		},
		"takes it from the fan-out while it runs": {
			reason: v1alpha1.ReasonDeleted,
			do: func(t *testing.T, child *v1alpha1.TenantJob) {
				t.Helper()
				Patch(t, child, func(o *v1alpha1.TenantJob) { o.OwnerReferences = nil })
				AwaitOutcome(t, child, v1alpha1.ReasonDeleted)
				AwaitGone(t, JobOf(child))
			},
		},
		"deletes it, and a finalizer keeps it": {
			reason: v1alpha1.ReasonDeleted,
			do: func(t *testing.T, child *v1alpha1.TenantJob) {
				t.Helper()
				Patch(t, child, func(o *v1alpha1.TenantJob) { o.Finalizers = []string{"test.example.com/hold"} })
				t.Cleanup(func() {
					_ = Admin.Patch(context.Background(), child, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))
				})
				Remove(t, child, remove)
				AwaitGone(t, JobOf(child))
			},
		},
		"deletes it and creates another one": {
			reason: v1alpha1.ReasonDeleted,
			do: func(t *testing.T, child *v1alpha1.TenantJob) {
				t.Helper()
				first := child.DeepCopy()
				Remove(t, child, remove)
				AwaitGone(t, child)
				AwaitOutcome(t, again(t, first), v1alpha1.ReasonDeleted)
			},
		},
		"deletes it while it waits and creates another one": {
			waits: true, reason: v1alpha1.ReasonDeleted,
			do: func(t *testing.T, child *v1alpha1.TenantJob) {
				t.Helper()
				first := child.DeepCopy()
				Remove(t, child, remove)
				AwaitGone(t, child)
				AwaitOutcome(t, again(t, first), v1alpha1.ReasonDeleted)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			label := map[string]string{"case": fmt.Sprintf("hostile-%d", Serial.Add(1))}
			tenants := NewLabelledTenants(t, label, nil, nil)
			queue := Create(t, &v1alpha1.TenantQueue{
				ObjectMeta: metav1.ObjectMeta{Name: label["case"]}, Spec: v1alpha1.TenantQueueSpec{Suspend: &tc.waits},
			})
			template := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
				o.Spec.QueueRef = &v1alpha1.LabelReference{Name: queue.Name}
				o.Spec.Parameters = []v1alpha1.Parameter{{Name: "days", Default: new(v1alpha1.ParameterValue("3"))}}
			})
			jobs := FollowJobs(t, tenants[0])
			fanOut := NewFanOut(t, template.Name, tenants, firstAlone(label))
			AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, Unknown, v1alpha1.ReasonRunning, "wave first may start")
			child := ChildIn(tenants[0], fanOut)
			if tc.waits {
				AwaitStatus(t, child, Unknown, v1alpha1.ReasonQueued, "is suspended")
			} else {
				AwaitRunningPod(t, child)
				Get(t, gomega.NewWithT(t), child)
			}
			AwaitLedger(t, fanOut, "+")
			tc.do(t, child)
			Patch(t, queue, func(o *v1alpha1.TenantQueue) { o.Spec.Suspend = nil })
			FinishChildren(t, tenants[1:])
			Eventually(t, func(g gomega.Gomega) {
				g.Expect(Get(t, g, fanOut).Status.CompletionTime).NotTo(gomega.BeNil(), "%+v", fanOut.Status)
			})
			g := gomega.NewWithT(t)
			g.Expect(fanOut.Status.Counts.Succeeded).To(gomega.Equal(int32(2)))
			g.Expect(Unsuccessful(fanOut)).To(gomega.Equal(map[string]string{tenants[0].Name: tc.reason}))
			made, _ := jobs.Made()
			if tc.waits {
				g.Expect(made).To(gomega.BeEmpty())
			} else {
				g.Expect(made).To(gomega.HaveLen(1))
			}
		})
	}
}

// TestTenantFanOutChildIsReplacedWhileNobodyLooks: a member deletes a child that runs, and creates another one, while the operator
// is down.
func TestTenantFanOutChildIsReplacedWhileNobodyLooks(t *testing.T) {
	tenants := NewReadyTenants(t, 2)
	template := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		o.Spec.Parameters = []v1alpha1.Parameter{{Name: "days", Default: new(v1alpha1.ParameterValue("3"))}}
	})
	jobs := FollowJobs(t, tenants[0])
	fanOut := NewFanOut(t, template.Name, tenants, nil)
	child := ChildIn(tenants[0], fanOut)
	AwaitRunningPod(t, child)
	AwaitRunningPod(t, ChildIn(tenants[1], fanOut))
	first := Get(t, gomega.NewWithT(t), child).DeepCopy()
	WithoutOperator(t)
	Remove(t, child, client.PropagationPolicy(metav1.DeletePropagationBackground))
	AwaitGone(t, child)
	impostor := again(t, first)
	AwaitGone(t, JobOf(first))
	(&OtherOperator{}).Start(t)
	AwaitCounts(t, fanOut, v1alpha1.FanOutCounts{Total: 2, Running: 1, Failed: 1})
	AwaitOutcome(t, impostor, v1alpha1.ReasonDeleted)
	gomega.NewWithT(t).Expect(Unsuccessful(fanOut)).To(gomega.Equal(map[string]string{tenants[0].Name: v1alpha1.ReasonDeleted}))
	made, _ := jobs.Made()
	gomega.NewWithT(t).Expect(made).To(gomega.HaveLen(1))
}

// TestTenantFanOutOrphansItsChildren: a fan-out that is deleted without its children leaves alone what runs. What waits does not
// start without the limits that it was planned with.
func TestTenantFanOutOrphansItsChildren(t *testing.T) {
	t.Parallel()
	tenants := NewReadyTenants(t, 2)
	fanOut := NewFanOut(t, NewReadyTemplate(t, nil).Name, tenants, func(o *v1alpha1.TenantFanOut) {
		o.Spec.Strategy = &v1alpha1.FanOutStrategy{MaxConcurrent: new(intstr.FromInt32(1))}
	})
	AwaitCounts(t, fanOut, v1alpha1.FanOutCounts{Total: 2, Waiting: 1, Running: 1})
	runs, waits := ChildIn(tenants[0], fanOut), ChildIn(tenants[1], fanOut)
	if apierrors.IsNotFound(Read(t.Context(), JobOf(runs))) {
		runs, waits = waits, runs
	}
	pod := AwaitRunningPod(t, runs)
	Remove(t, fanOut, client.PropagationPolicy(metav1.DeletePropagationOrphan))
	AwaitGone(t, fanOut)
	AwaitOutcome(t, waits, v1alpha1.ReasonCancelled)
	AwaitGone(t, LedgerOf(fanOut))
	EndPod(t, pod, corev1.PodSucceeded)
	AwaitOutcome(t, runs, v1alpha1.ReasonCompleted)
}

// asTimePasses waits until a fan-out is complete, while the operator's clock goes on: half a minute each time that its children
// and the fan-out itself are looked at.
func asTimePasses(t *testing.T, clock *ShiftedClock, fanOut *v1alpha1.TenantFanOut, child *v1alpha1.TenantJob) {
	t.Helper()
	n := 0
	Eventually(t, func(g gomega.Gomega) {
		clock.Ahead.Add(int64(30 * time.Second))
		n++
		annotation := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{"test.example.com/look":"%d"}}}`, n))
		_ = Admin.Patch(t.Context(), child, annotation) // there may be none
		_ = Admin.Patch(t.Context(), fanOut, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"ttlSecondsAfterFinished":%d}}`, 1_000_000+n)))
		g.Expect(Get(t, g, fanOut).Status.CompletionTime).NotTo(gomega.BeNil(), "%+v", fanOut.Status)
	})
}

// TestTenantFanOutTenantInTrouble: a tenant for which nothing can start, for a reason of its own, ends with that reason after a
// while, and the later wave opens for the others.
func TestTenantFanOutTenantInTrouble(t *testing.T) {
	hard := func(name, most string) func(*v1alpha1.Tenant) {
		return func(o *v1alpha1.Tenant) {
			o.Spec.Quota = &v1alpha1.TenantQuota{Hard: corev1.ResourceList{corev1.ResourceName(name): resource.MustParse(most)}}
		}
	}
	for name, tc := range map[string]struct {
		change  func(*v1alpha1.Tenant)
		ready   string
		reason  string
		message string
		// refused is what the API server refuses for that. Nil means nothing.
		refused func(tenant *v1alpha1.Tenant) client.Object
	}{
		"an invalid spec": {
			change: hard("requests.bananas", "1"), ready: v1alpha1.ReasonInvalidSpec,
			reason: v1alpha1.ReasonTenantNotReady, message: "change `spec.quota.hard`",
		},
		"a full quota of Jobs": {
			change: hard("count/jobs.batch", "0"), ready: v1alpha1.ReasonReady,
			reason: v1alpha1.ReasonPodsRefused, message: "exceeded quota: tenant-quota",
			refused: func(tenant *v1alpha1.Tenant) client.Object {
				probe := &batchv1.Job{ObjectMeta: Within(tenant, fmt.Sprintf("probe-%d", Serial.Add(1)))}
				probe.Spec.Template.Spec = corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: "x"}}}
				return probe
			},
		},
		"a full quota of TenantJobs": {
			change: hard("count/tenantjobs.tenantry.dev", "0"), ready: v1alpha1.ReasonReady,
			reason: v1alpha1.ReasonPodsRefused, message: "exceeded quota: tenant-quota",
			refused: func(tenant *v1alpha1.Tenant) client.Object {
				probe := &v1alpha1.TenantJob{ObjectMeta: Within(tenant, fmt.Sprintf("probe-%d", Serial.Add(1)))}
				probe.Spec = v1alpha1.TenantJobSpec{TenantRef: v1alpha1.TenantReference{Name: tenant.Name}, TemplateRef: v1alpha1.LabelReference{Name: "nowhere"}}
				return probe
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			label := map[string]string{"case": fmt.Sprintf("trouble-%d", Serial.Add(1))}
			tenants := NewLabelledTenants(t, label, nil, nil)
			template := NewReadyTemplate(t, nil)
			Patch(t, tenants[0], tc.change)
			Eventually(t, func(g gomega.Gomega) {
				Get(t, g, tenants[0])
				c := tenants[0].Status.Conditions
				g.Expect(c).To(gomega.ContainElement(gomega.HaveField("Reason", tc.ready)))
				g.Expect(tenants[0].Status.ObservedGeneration).To(gomega.Equal(tenants[0].Generation))
			})
			if tc.refused != nil { // until the quota is in force
				Eventually(t, func(g gomega.Gomega) {
					g.Expect(Admin.Create(t.Context(), tc.refused(tenants[0]), client.DryRunAll)).To(gomega.MatchError(gomega.ContainSubstring("exceeded quota")))
				})
			}
			WithoutOperator(t)
			clock := &ShiftedClock{}
			(&OtherOperator{Clock: clock}).Start(t)
			FinishChildren(t, tenants)
			fanOut := NewFanOut(t, template.Name, tenants, firstAlone(label))
			AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, Unknown, v1alpha1.ReasonRunning, "wave first may start")
			asTimePasses(t, clock, fanOut, ChildIn(tenants[0], fanOut))
			g := gomega.NewWithT(t)
			g.Expect(fanOut.Status.Counts.Succeeded).To(gomega.Equal(int32(2)))
			g.Expect(fanOut.Status.UnsuccessfulTenants).To(gomega.HaveLen(1))
			unsuccessful := fanOut.Status.UnsuccessfulTenants[0]
			g.Expect([]string{string(unsuccessful.Tenant), unsuccessful.Reason}).To(gomega.Equal([]string{tenants[0].Name, tc.reason}))
			g.Expect(unsuccessful.Message).To(gomega.And(gomega.HavePrefix("did not start for two minutes: "), gomega.ContainSubstring(tc.message)))
		})
	}
}

// TestTenantFanOutBrokenNamespace: the API server can't create TenantJobs for one tenant, since a webhook on its namespace has no
// server, or one that hangs. The others do not wait, and the tenant ends after a while.
func TestTenantFanOutBrokenNamespace(t *testing.T) {
	hangs := func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	for name, tc := range map[string]struct {
		broken int
		answer func(*http.Request) (*http.Response, error)
		after  string
	}{
		"has no server":      {1, noServer, "two minutes"},
		"hangs":              {1, hangs, "two minutes"},
		"of three tenants":   {3, noServer, "ten minutes"},
		"of three, it hangs": {3, hangs, "ten minutes"},
	} {
		t.Run(name, func(t *testing.T) {
			tenants := NewReadyTenants(t, 6)
			broken := tenants[:tc.broken]
			FinishChildren(t, tenants)
			template := NewReadyTemplate(t, nil)
			WithoutOperator(t)
			var attempts atomic.Int32
			var repaired atomic.Bool
			a := &OtherOperator{Clock: &ShiftedClock{}}
			a.Through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
				isBroken := slices.ContainsFunc(broken, func(o *v1alpha1.Tenant) bool {
					return strings.Contains(r.URL.Path, "/"+o.NamespaceName()+"/tenantjobs")
				})
				if !isBroken || r.Method != http.MethodPost || repaired.Load() {
					return next.RoundTrip(r)
				}
				attempts.Add(1)
				return tc.answer(r)
			}
			a.Start(t)
			fanOut := NewFanOut(t, template.Name, tenants, nil)
			began := time.Now()
			waiting := v1alpha1.FanOutCounts{Total: 6, Waiting: int32(tc.broken), Succeeded: int32(6 - tc.broken)}
			AwaitCounts(t, fanOut, waiting)
			t.Logf("the others had succeeded after %v and %d attempts", time.Since(began), attempts.Load())
			// The next one goes on when the webhook is repaired.
			AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, Unknown, v1alpha1.ReasonRunning, "the TenantJob of tenant "+tenants[0].Name+" can't be made yet")
			repaired.Store(true)
			AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, IsTrue, v1alpha1.ReasonCompleted, "6 of 6")

			repaired.Store(false)
			fanOut = NewFanOut(t, template.Name, tenants, nil)
			AwaitCounts(t, fanOut, waiting)
			asTimePasses(t, a.Clock, fanOut, ChildIn(tenants[0], fanOut))
			g := gomega.NewWithT(t)
			g.Expect(fanOut.Status.Counts).To(gomega.HaveValue(gomega.Equal(Counts(int32(6-tc.broken), int32(tc.broken), 0))))
			for _, u := range fanOut.Status.UnsuccessfulTenants {
				g.Expect([]string{u.Reason, u.Message}).To(gomega.HaveExactElements(v1alpha1.ReasonPodsRefused, gomega.HavePrefix("did not start for "+tc.after+": ")))
			}
		})
	}
}

// noServer is the answer of the API server when a webhook that must answer has no server.
func noServer(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusInternalServerError, Header: http.Header{}, Body: http.NoBody}, nil
}

// TestTenantFanOutStatusRefused: the API server refuses to write the outcome into the status of one tenant's child. It counts after
// a while, and the later wave opens for the others.
func TestTenantFanOutStatusRefused(t *testing.T) {
	label := map[string]string{"case": fmt.Sprintf("refused-%d", Serial.Add(1))}
	tenants := NewLabelledTenants(t, label, nil, nil)
	template := NewReadyTemplate(t, nil)
	WithoutOperator(t)
	a := &OtherOperator{Clock: &ShiftedClock{}}
	a.Through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPatch && strings.Contains(r.URL.Path, "/"+tenants[0].NamespaceName()+"/tenantjobs/") {
			return noServer(r)
		}
		return next.RoundTrip(r)
	}
	a.Start(t)
	FinishChildren(t, tenants)
	fanOut := NewFanOut(t, template.Name, tenants, firstAlone(label))
	AwaitFanOut(t, fanOut, v1alpha1.ConditionSucceeded, Unknown, v1alpha1.ReasonRunning, "wave first may start")
	asTimePasses(t, a.Clock, fanOut, ChildIn(tenants[0], fanOut))
	gomega.NewWithT(t).Expect(fanOut.Status.Counts).To(gomega.HaveValue(gomega.Equal(Counts(3, 0, 0))))
}
