package jobs_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/internal/job"
)

// TestQuotaFullOfEndedRuns: Jobs of runs that have ended fill a tenant's quota. The one that waits says so, and names no other. An
// hour later, by the operator's clock, they make room.
func TestQuotaFullOfEndedRuns(t *testing.T) {
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{Quota: &v1alpha1.TenantQuota{
		Hard: corev1.ResourceList{"count/jobs.batch": resource.MustParse("2")},
	}})
	template := NewReadyTemplate(t, nil)
	WithoutOperator(t)
	a := &OtherOperator{Clock: &ShiftedClock{}}
	a.Start(t)
	failed := []*v1alpha1.TenantJob{NewTenantJob(t, tenant, template), NewTenantJob(t, tenant, template)}
	for _, tj := range failed {
		Finish(t, tj, corev1.PodFailed)
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonJobFailed, "")
	}
	next, another := NewTenantJob(t, tenant, template), NewTenantJob(t, tenant, template)
	for _, tj := range []*v1alpha1.TenantJob{next, another} {
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonQueued, "exceeded quota: tenant-quota")
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonQueued, "Jobs of runs that have ended count too (2)")
		Eventually(t, func(g gomega.Gomega) {
			for _, other := range []*v1alpha1.TenantJob{failed[0], failed[1], next, another} {
				g.Expect(Get(t, g, tj).Status.Conditions[0].Message).NotTo(gomega.ContainSubstring(other.Name))
			}
		})
	}
	a.Clock.Ahead.Store(int64(job.KeepJobFor))
	AwaitRunningPod(t, next)
	AwaitRunningPod(t, another)
	for _, tj := range failed {
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonJobFailed, "") // It is known what came of them.
	}
}

// TestForgedFanOut: a TenantJob that says of itself that it is the child of a fan-out, by all that who creates it may write, runs
// as what it is. Neither its environment nor its labels have what is for the children of fan-outs.
func TestForgedFanOut(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	tj := NewRun(t, tenant, NewReadyTemplate(t, nil), func(o *v1alpha1.TenantJob) {
		o.Annotations = map[string]string{v1alpha1.AnnotationScheduledTime: "2020-01-01T00:00:00Z"}
		o.Labels = map[string]string{v1alpha1.LabelSchedule: "nightly", "tag.tenantry.dev/payment": "8231"}
		// The garbage collector leaves an owner alone of whose kind it knows nothing.
		o.OwnerReferences = []metav1.OwnerReference{{APIVersion: "example.com/v1", Kind: "TenantFanOut", Name: o.Name, UID: "forged", Controller: new(true)}}
	})
	pod := AwaitRunningPod(t, tj)
	g := gomega.NewWithT(t)
	for _, labels := range []map[string]string{pod.Labels, Get(t, g, JobOf(tj)).Labels} {
		g.Expect(labels).To(gomega.HaveKeyWithValue("tag.tenantry.dev/payment", "8231"))
		g.Expect(labels).NotTo(gomega.Or(gomega.HaveKey(v1alpha1.LabelFanOut), gomega.HaveKey(v1alpha1.LabelSchedule)))
	}
	g.Expect(pod.Spec.Containers[0].Env).To(gomega.ContainElements(
		corev1.EnvVar{Name: "TENANTRY_FAN_OUT"}, corev1.EnvVar{Name: "TENANTRY_SCHEDULED_TIME"},
	))
}

// TestNamespaceThatAnswersWithErrors: the Jobs of one tenant can't be made, since a webhook on its namespace fails. It keeps no slot
// of a queue that others share, and says why it waits; when the webhook is back, its runs start.
func TestNamespaceThatAnswersWithErrors(t *testing.T) {
	broken, other := NewReadyTenant(t, v1alpha1.TenantSpec{}), NewReadyTenant(t, v1alpha1.TenantSpec{})
	queue := Create(t, &v1alpha1.TenantQueue{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "q-"}, Spec: v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(2))},
	})
	template := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.QueueRef = &v1alpha1.LabelReference{Name: queue.Name} })
	WithoutOperator(t)
	down := make(chan struct{})
	clock := &ShiftedClock{}
	a := &OtherOperator{Clock: clock, Through: func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/namespaces/"+broken.NamespaceName()+"/jobs") {
			select {
			case <-down:
			default:
				return Answer(apierrors.NewInternalError(errors.New(`failed calling webhook "w.example.com": no route to host`))), nil
			}
		}
		return next.RoundTrip(r)
	}}
	a.Start(t)
	stuck := []*v1alpha1.TenantJob{NewTenantJob(t, broken, template), NewTenantJob(t, broken, template), NewTenantJob(t, broken, template)}
	AwaitStatus(t, stuck[0], Unknown, v1alpha1.ReasonQueued, "failed calling webhook")
	for range 3 {
		runs := []*v1alpha1.TenantJob{NewTenantJob(t, other, template), NewTenantJob(t, other, template)}
		for _, tj := range runs {
			Finish(t, tj, corev1.PodSucceeded)
			AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
		}
	}
	close(down)
	clock.Ahead.Store(int64(5 * time.Minute)) // The longest that the tenant's starts may be put off.
	for _, tj := range stuck {
		Finish(t, tj, corev1.PodSucceeded)
		AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
	}
}
