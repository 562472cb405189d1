package tenant

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

func called(name string, finalizers ...string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Name: name, Finalizers: finalizers}
	if len(finalizers) > 0 {
		m.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	}
	return m
}

func TestWaitForJobs(t *testing.T) {
	job := func(name string, finalizers ...string) *batchv1.Job {
		return &batchv1.Job{ObjectMeta: called(name, finalizers...)}
	}
	cases := map[string]struct {
		jobs  []*batchv1.Job
		drain bool
		want  Wait
	}{
		"none":     {nil, false, Wait{}},
		"stopping": {[]*batchv1.Job{job("b"), job("a")}, false, Wait{"StoppingJobs", "waiting for Jobs to stop: a, b"}},
		"draining": {[]*batchv1.Job{job("a")}, true, Wait{"DrainingJobs", "waiting for running Jobs to finish: a"}},
		"many": {
			[]*batchv1.Job{job("e"), job("d"), job("c"), job("b"), job("a")}, false,
			Wait{"StoppingJobs", "waiting for Jobs to stop: a, b, c and 2 more"},
		},
		"held by Kubernetes alone": {
			[]*batchv1.Job{job("a", "foregroundDeletion", "orphan")}, false, Wait{"StoppingJobs", "waiting for Jobs to stop: a"},
		},
		"held by somebody": {
			[]*batchv1.Job{job("a", "z.example.com/hold", "a.example.com/hold")}, false,
			Wait{"StoppingJobs", "waiting for Jobs to stop: a (held by finalizer a.example.com/hold, z.example.com/hold)"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, WaitForJobs(tc.jobs, tc.drain)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestHeld(t *testing.T) {
	cases := map[string]struct {
		wait Wait
		held []metav1.ObjectMeta
		want string
	}{
		"nothing":                  {Wait{"R", "waiting for Jobs to stop: a"}, nil, "waiting for Jobs to stop: a"},
		"a pod":                    {Wait{"R", "waiting for Jobs to stop: a"}, []metav1.ObjectMeta{called("a-x", "example.com/hold")}, "waiting for Jobs to stop: a; Pod a-x (held by finalizer example.com/hold)"},
		"by Kubernetes alone":      {Wait{"R", "waiting for Jobs to stop: a"}, []metav1.ObjectMeta{called("a-x", "batch.kubernetes.io/job-tracking")}, "waiting for Jobs to stop: a"},
		"by Kubernetes and others": {Wait{"R", "m"}, []metav1.ObjectMeta{called("a-x", "foregroundDeletion", "example.com/hold")}, "m; Pod a-x (held by finalizer example.com/hold)"},
		"not being deleted":        {Wait{"R", "m"}, []metav1.ObjectMeta{{Name: "a", Finalizers: []string{"example.com/hold"}}}, "m"},
		"named already":            {Wait{"R", "waiting for pods to end: a (held by finalizer example.com/hold)"}, []metav1.ObjectMeta{called("a", "example.com/hold")}, "waiting for pods to end: a (held by finalizer example.com/hold)"},
		"many": {
			Wait{"R", "m"}, []metav1.ObjectMeta{called("d", "h.io/h"), called("c", "h.io/h"), called("b", "h.io/h"), called("a", "h.io/h")},
			"m; Pod a (held by finalizer h.io/h), Pod b (held by finalizer h.io/h), Pod c (held by finalizer h.io/h) and 1 more",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var held []HeldObject
			for i := range tc.held {
				if h, is := HeldOf("Pod", &tc.held[i]); is {
					held = append(held, h)
				}
			}
			if got := tc.wait.heldBy(held).Message; got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestHeldByAPodsFinalizer: the finalizer that Kubernetes removes from pods itself holds a TenantJob for ever, if a member writes it
// there.
func TestHeldByAPodsFinalizer(t *testing.T) {
	tj := &v1alpha1.TenantJob{ObjectMeta: called("a", "batch.kubernetes.io/job-tracking")}
	if held, is := HeldOf("TenantJob", tj); !is || held.String() != "TenantJob a (held by finalizer batch.kubernetes.io/job-tracking)" {
		t.Errorf("%v is held: %t", held, is)
	}
}

func TestWaitForPods(t *testing.T) {
	pod := func(name string, phase corev1.PodPhase) corev1.Pod {
		return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.PodStatus{Phase: phase}}
	}
	going := func(p corev1.Pod) corev1.Pod {
		p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
		return p
	}
	cases := map[string]struct {
		pods        []corev1.Pod
		drain       bool
		want        Wait
		wantDeleted []string
	}{
		"none":                  {nil, false, Wait{}, nil},
		"finished ones stay":    {[]corev1.Pod{pod("a", corev1.PodSucceeded), pod("b", corev1.PodFailed)}, false, Wait{}, nil},
		"all others must go":    {[]corev1.Pod{pod("a", corev1.PodRunning), pod("b", corev1.PodPending), pod("c", corev1.PodUnknown)}, false, Wait{"DeletingPods", "waiting for pods to end: a, b, c"}, []string{"a", "b", "c"}},
		"one goes already":      {[]corev1.Pod{going(pod("a", corev1.PodRunning))}, false, Wait{"DeletingPods", "waiting for pods to end: a"}, nil},
		"drain: running may go": {[]corev1.Pod{pod("a", corev1.PodRunning), pod("b", corev1.PodPending)}, true, Wait{"DrainingJobs", "waiting for running pods to finish: a, b"}, []string{"b"}},
		"drain: none runs":      {[]corev1.Pod{pod("b", corev1.PodPending)}, true, Wait{"DeletingPods", "waiting for pods to end: b"}, []string{"b"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			wait, toDelete := WaitForPods(tc.pods, tc.drain)
			var names []string
			for _, p := range toDelete {
				names = append(names, p.Name)
			}
			if diff := cmp.Diff(tc.want, wait); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.wantDeleted, names); diff != "" {
				t.Errorf("toDelete (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWaitForTenantJobs(t *testing.T) {
	tenantJob := func(name string, over metav1.ConditionStatus, finalizers ...string) v1alpha1.TenantJob {
		return v1alpha1.TenantJob{ObjectMeta: called(name, finalizers...), Status: v1alpha1.TenantJobStatus{
			Conditions: []metav1.Condition{{Type: v1alpha1.ConditionSucceeded, Status: over}},
		}}
	}
	at := func(second int64, tj v1alpha1.TenantJob) v1alpha1.TenantJob {
		tj.CreationTimestamp = metav1.Unix(second, 0)
		return tj
	}
	cases := map[string]struct {
		tenantJobs []v1alpha1.TenantJob
		want       Wait
		wantDelete bool
	}{
		"none": {nil, Wait{}, false},
		"one has no outcome yet": {
			[]v1alpha1.TenantJob{tenantJob("a", metav1.ConditionTrue), tenantJob("b", metav1.ConditionUnknown)},
			Wait{"StoppingJobs", "waiting for TenantJobs to stop: b"}, false,
		},
		"all are over": {
			[]v1alpha1.TenantJob{tenantJob("a", metav1.ConditionTrue), tenantJob("b", metav1.ConditionFalse)},
			Wait{"DeletingNamespace", "waiting for TenantJobs to be deleted: a, b"}, true,
		},
		"created after the Tenant was deleted": {
			[]v1alpha1.TenantJob{at(101, tenantJob("a", metav1.ConditionUnknown))}, Wait{}, true,
		},
		"created after the Tenant was deleted, and held by somebody": {
			[]v1alpha1.TenantJob{at(101, tenantJob("a", metav1.ConditionUnknown, "example.com/hold"))}, Wait{}, false,
		},
		"created in the second in which the Tenant was deleted": {
			[]v1alpha1.TenantJob{at(100, tenantJob("a", metav1.ConditionUnknown)), at(101, tenantJob("b", metav1.ConditionUnknown))},
			Wait{"StoppingJobs", "waiting for TenantJobs to stop: a"}, false,
		},
		"somebody holds one": {
			[]v1alpha1.TenantJob{tenantJob("a", metav1.ConditionUnknown, "example.com/hold")},
			Wait{"DeletingNamespace", "waiting for TenantJobs to be deleted: a (held by finalizer example.com/hold)"}, false,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			wait, toDelete := WaitForTenantJobs(tc.tenantJobs, time.Unix(100, 0))
			if diff := cmp.Diff(tc.want, wait); diff != "" || toDelete != tc.wantDelete {
				t.Errorf("delete: %v, want %v; (-want +got):\n%s", toDelete, tc.wantDelete, diff)
			}
		})
	}
}

func TestWaitForNamespace(t *testing.T) {
	condition := func(status corev1.ConditionStatus, message string) corev1.NamespaceCondition {
		return corev1.NamespaceCondition{Status: status, Message: message}
	}
	cases := map[string]struct {
		conditions []corev1.NamespaceCondition
		want       string
	}{
		"nothing holds it": {[]corev1.NamespaceCondition{condition("False", "All content deleted")}, "waiting for namespace tenant-acme to be deleted"},
		"content and finalizers": {
			[]corev1.NamespaceCondition{condition("True", "b remain"), condition("False", "c"), condition("True", "a remain")},
			"waiting for namespace tenant-acme to be deleted: a remain; b remain",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "tenant-acme"}, Status: corev1.NamespaceStatus{Conditions: tc.conditions}}
			if diff := cmp.Diff(Wait{"DeletingNamespace", tc.want}, WaitForNamespace(namespace)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
