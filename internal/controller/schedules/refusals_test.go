package schedules_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/internal/controller/schedules"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/schedule"
)

// TestTenantScheduleHistoryRefused: a fan-out beyond the history limit that can't be deleted keeps no other and no tick, is tried again
// ever more seldom, and says so.
func TestTenantScheduleHistoryRefused(t *testing.T) {
	t.Parallel()
	ts := &v1alpha1.TenantSchedule{
		ObjectMeta: metav1.ObjectMeta{Name: "nightly", UID: "1", Generation: 1},
		Spec: v1alpha1.TenantScheduleSpec{
			Schedule: "0 2 * * *", TimeZone: "Etc/UTC", Suspend: new(true), SuccessfulFanOutsHistoryLimit: new(int32(0)),
			FanOutTemplate: v1alpha1.FanOutTemplate{Spec: NobodysFanOut},
		},
	}
	tick := at(t, "2020-08-03 02:00")
	template := &v1alpha1.TenantJobTemplate{ObjectMeta: metav1.ObjectMeta{Name: NobodysFanOut.TemplateRef.Name}}
	objects := []client.Object{ts, template}
	var fanOuts []*v1alpha1.TenantFanOut
	for day := range 3 {
		f := schedule.FanOut(ts, tick.AddDate(0, 0, day), schedule.Together{})
		f.Status = v1alpha1.TenantFanOutStatus{
			CompletionTime: &metav1.Time{Time: tick.AddDate(0, 0, day).Add(time.Minute)},
			Conditions:     []metav1.Condition{{Type: v1alpha1.ConditionSucceeded, Status: IsTrue, Reason: v1alpha1.ReasonCompleted}},
		}
		objects, fanOuts = append(objects, f), append(fanOuts, f)
	}
	ts.Status.LastScheduleTime = &metav1.Time{Time: tick.AddDate(0, 0, 2)}
	var deleted []string
	refused := 0
	emitted := events.NewFakeRecorder(100)
	api := fake.NewClientBuilder().WithScheme(Scheme).WithObjects(objects...).WithStatusSubresource(ts).
		WithIndex(&v1alpha1.TenantFanOut{}, "schedule", func(client.Object) []string { return []string{string(ts.UID)} }).
		WithIndex(&v1alpha1.TenantFanOut{}, "unplanned-source", func(client.Object) []string { return nil }).
		WithInterceptorFuncs(interceptor.Funcs{
			Create: func(_ context.Context, _ client.WithWatch, obj client.Object, _ ...client.CreateOption) error {
				obj.SetCreationTimestamp(metav1.Now())
				return nil
			},
			Delete: func(_ context.Context, _ client.WithWatch, obj client.Object, _ ...client.DeleteOption) error {
				if obj.GetName() == fanOuts[0].Name {
					refused++
					return apierrors.NewForbidden(schema.GroupResource{Resource: "tenantfanouts"}, obj.GetName(), errors.New("a policy forbids it"))
				}
				deleted = append(deleted, obj.GetName())
				return nil
			},
		}).Build()
	now := &ShiftedClock{}
	r := &schedules.Reconciler{Client: kube.Client{Client: api, Live: api, Events: emitted}, Clock: now}
	g := gomega.NewWithT(t)
	for range 60 {
		g.Expect(api.Get(t.Context(), kube.KeyOf(ts), ts)).To(gomega.Succeed())
		result, err := r.Reconcile(t.Context(), ts)
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(result.RequeueAfter).To(gomega.Equal(schedule.MaxRequeueAfter))
		now.Ahead.Add(int64(result.RequeueAfter))
	}
	g.Expect(deleted).To(gomega.ContainElements(fanOuts[1].Name, fanOuts[2].Name))
	g.Expect(refused).To(gomega.BeNumerically("~", 9, 3), "in an hour")
	g.Expect(emitted.Events).To(gomega.Receive(gomega.And(gomega.HavePrefix("Warning DeletionRefused"), gomega.ContainSubstring("a policy forbids it"))))
}
