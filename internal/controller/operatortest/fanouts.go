package operatortest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/fanout"
)

// NewFanOut makes a TenantFanOut with a name of its own, for some tenants.
func NewFanOut(t *testing.T, template string, tenants []*v1alpha1.Tenant, change func(*v1alpha1.TenantFanOut)) *v1alpha1.TenantFanOut {
	t.Helper()
	fanOut := &v1alpha1.TenantFanOut{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("fan-out-%d", Serial.Add(1))},
		Spec:       v1alpha1.TenantFanOutSpec{TemplateRef: v1alpha1.LabelReference{Name: template}},
	}
	for _, tenant := range tenants {
		fanOut.Spec.Tenants.Names = append(fanOut.Spec.Tenants.Names, v1alpha1.TenantName(tenant.Name))
	}
	if change != nil {
		change(fanOut)
	}
	return Create(t, fanOut)
}

// NewReadyTenants makes some Tenants and waits until they are Ready.
func NewReadyTenants(t *testing.T, n int) []*v1alpha1.Tenant {
	t.Helper()
	return NewLabelledTenants(t, make([]map[string]string, n)...)
}

// NewLabelledTenants makes a Tenant with each set of labels, and waits until all are Ready.
func NewLabelledTenants(t *testing.T, labels ...map[string]string) []*v1alpha1.Tenant {
	t.Helper()
	tenants := make([]*v1alpha1.Tenant, len(labels))
	for i := range tenants {
		tenants[i] = Create(t, &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("t%d", Serial.Add(1)), Labels: labels[i]}})
	}
	for _, tenant := range tenants {
		AwaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	}
	return tenants
}

// ChildIn names the TenantJob of a fan-out for a tenant, to be read.
func ChildIn(tenant *v1alpha1.Tenant, fanOut *v1alpha1.TenantFanOut) *v1alpha1.TenantJob {
	return &v1alpha1.TenantJob{ObjectMeta: Within(tenant, fanOut.Name)}
}

// FinishChildren ends the pods of all the tenants well, for as long as the test goes on.
func FinishChildren(t *testing.T, tenants []*v1alpha1.Tenant) {
	t.Helper()
	for _, tenant := range tenants {
		FinishAll(t, tenant)
	}
}

// AwaitFanOut waits until a condition of a fan-out speaks of its present generation and says this.
func AwaitFanOut(t *testing.T, fanOut *v1alpha1.TenantFanOut, conditionType string, status metav1.ConditionStatus, reason, message string) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		Get(t, g, fanOut)
		c := conditions.Get(fanOut.Status.Conditions, conditionType)
		g.Expect([]any{c.Status, c.Reason, c.Message}).To(gomega.HaveExactElements(status, reason, gomega.ContainSubstring(message)), "%+v", fanOut.Status)
		g.Expect([]int64{c.ObservedGeneration, fanOut.Status.ObservedGeneration}).To(gomega.HaveEach(fanOut.Generation))
	})
}

// AwaitCounts waits until a fan-out has these counters.
func AwaitCounts(t *testing.T, fanOut *v1alpha1.TenantFanOut, counts v1alpha1.FanOutCounts) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(Get(t, g, fanOut).Status.Counts).To(gomega.HaveValue(gomega.Equal(counts)), "%+v", fanOut.Status)
	})
}

// Unsuccessful are the tenants that the status of a fan-out lists, with their reasons.
func Unsuccessful(fanOut *v1alpha1.TenantFanOut) map[string]string {
	all := map[string]string{}
	for _, u := range fanOut.Status.UnsuccessfulTenants {
		all[string(u.Tenant)] = u.Reason
	}
	return all
}

// LedgerOf names the ConfigMap of a fan-out's ledger, to be read.
func LedgerOf(fanOut *v1alpha1.TenantFanOut) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: OperatorNamespace, Name: fanout.LedgerName(fanOut.UID)}}
}

// PlanOf reads the plan of a fan-out.
func PlanOf(t *testing.T, fanOut *v1alpha1.TenantFanOut) *fanout.Plan {
	t.Helper()
	head := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: OperatorNamespace, Name: fanout.PlanName(fanOut.UID)}}
	var plan *fanout.Plan
	Eventually(t, func(g gomega.Gomega) {
		var err error
		plan, err = fanout.DecodePlan(Get(t, g, head))
		g.Expect(err).NotTo(gomega.HaveOccurred())
	})
	return plan
}

// EventReasons are the types and reasons of the events about an object, each once.
func EventReasons(t *testing.T, g gomega.Gomega, uid types.UID) []string {
	t.Helper()
	var all eventsv1.EventList
	g.Expect(Admin.List(t.Context(), &all)).To(gomega.Succeed())
	var emitted []string
	for _, e := range all.Items {
		if e.Regarding.UID == uid {
			emitted = append(emitted, e.Type+" "+e.Reason)
		}
	}
	return emitted
}

// ChildLog counts how often a fan-out's child was made in each namespace.
type ChildLog struct {
	mu   sync.Mutex
	Made map[string]int
}

// FollowChildren counts the TenantJobs named like a fan-out from now on.
func FollowChildren(t *testing.T, tenants []*v1alpha1.Tenant) *ChildLog {
	t.Helper()
	l := &ChildLog{Made: map[string]int{}}
	for _, tenant := range tenants {
		Follow(t, &v1alpha1.TenantJobList{}, tenant.NamespaceName(), func(_ context.Context, event watch.EventType, obj client.Object) {
			if event == watch.Added {
				l.mu.Lock()
				l.Made[obj.GetNamespace()+"/"+obj.GetName()]++
				l.mu.Unlock()
			}
		})
	}
	return l
}

// Of returns how often the children of a fan-out were made, by tenant.
func (l *ChildLog) Of(fanOut *v1alpha1.TenantFanOut, tenants []*v1alpha1.Tenant) []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	made := make([]int, len(tenants))
	for i, tenant := range tenants {
		made[i] = l.Made[tenant.NamespaceName()+"/"+fanOut.Name]
	}
	return made
}

// FollowCounters fails the test when a counter of a fan-out's outcomes goes back, or the counters don't sum up.
func FollowCounters(t *testing.T, fanOut *v1alpha1.TenantFanOut) {
	t.Helper()
	var last v1alpha1.FanOutCounts
	uid := fanOut.UID
	Follow(t, &v1alpha1.TenantFanOutList{}, "", func(_ context.Context, _ watch.EventType, obj client.Object) {
		f := obj.(*v1alpha1.TenantFanOut)
		if f.UID != uid || f.Status.Counts == nil {
			return
		}
		c := *f.Status.Counts
		if c.Succeeded < last.Succeeded || c.Failed < last.Failed || c.Skipped < last.Skipped || last.Total > 0 && c.Total != last.Total {
			t.Errorf("the counters went from %+v to %+v", last, c)
		}
		if c.Waiting+c.Running+c.Succeeded+c.Failed+c.Skipped != c.Total || min(c.Waiting, c.Running) < 0 {
			t.Errorf("the counters don't sum up: %+v", c)
		}
		last = c
	})
}

// Counts are the counters of a fan-out that is complete.
func Counts(succeeded, failed, skipped int32) v1alpha1.FanOutCounts {
	return v1alpha1.FanOutCounts{Total: succeeded + failed + skipped, Succeeded: succeeded, Failed: failed, Skipped: skipped}
}

// InAWhile is a time in whole seconds, as the API server keeps it.
func InAWhile(d time.Duration) time.Time { return time.Now().Add(d).UTC().Truncate(time.Second) }

// AwaitLedger waits until the stored ledger of a fan-out has this mark for a tenant.
func AwaitLedger(t *testing.T, fanOut *v1alpha1.TenantFanOut, mark string) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(Get(t, g, LedgerOf(fanOut)).Data["outcomes"]).To(gomega.ContainSubstring(mark))
	})
}
