package dispatch

import (
	"strconv"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/fanout"
	"github.com/tenantry/tenantry/internal/queue"
	"github.com/tenantry/tenantry/internal/schedule"
)

var tick = time.Date(2026, 11, 24, 1, 0, 0, 0, time.UTC)

// childAt is the run of acme of a tick of the schedule nightly.
func (d *fixture) childAt(tick time.Time) queue.Job {
	name := schedule.TickName("nightly", tick)
	return ofFanOut(ofSchedule(d.run("acme/"+name), v1alpha1.ConcurrencyForbid), name)
}

// setFanOutAt sets the fan-out of a tick of the schedule nightly, whose plan has a template.
func (d *fixture) setFanOutAt(tick time.Time, together schedule.Together, template v1alpha1.TenantJobTemplateSpec, generation int64) {
	d.t.Helper()
	ts := &v1alpha1.TenantSchedule{ObjectMeta: metav1.ObjectMeta{Name: "nightly", UID: "nightly"}}
	f := schedule.FanOut(ts, tick, together)
	f.Spec.TemplateRef.Name = "report"
	plan := &fanout.Plan{FanOut: f.UID, TemplateGeneration: generation, Template: template, Entries: []fanout.Entry{{Tenant: "acme"}}}
	cm := fanout.NewLedger(plan).ConfigMap(f, "tenantry-system")
	cm.Data["outcomes"] = "+"
	l, err := fanout.DecodeLedger(cm, plan)
	if err != nil {
		d.t.Fatal(err)
	}
	d.SetFanOut(f, l, l, "")
}

// TestDispatcherCaughtUp: the runs of ticks that were caught up on together wait for each other, also after a restart, when only a
// Job tells of the first. A run of another tick is skipped.
func TestDispatcherCaughtUp(t *testing.T) {
	t.Parallel()
	for name, restarts := range map[string]bool{"at once": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			second, third := tick.Add(time.Hour), tick.Add(2*time.Hour)
			together := schedule.Together{From: tick, To: second}
			d := newSyncedFixture(t)
			d.setFanOutAt(tick, together, v1alpha1.TenantJobTemplateSpec{}, 1)
			first := d.childAt(tick)
			made := d.starts(first)
			if restarts {
				d = newSyncedFixture(t)
				d.jobChanged(made)
			}
			d.setFanOutAt(second, together, v1alpha1.TenantJobTemplateSpec{}, 1)
			d.setFanOutAt(third, schedule.Together{From: third, To: third}, v1alpha1.TenantJobTemplateSpec{}, 1)
			d.waitsFor(d.childAt(second), "another late tick of schedule nightly still runs, and they run one after the other")
			d.expectEnd(d.childAt(third), v1alpha1.ReasonOverlapped, "TenantJob "+first.Key.Name+", an earlier run of schedule nightly")
			d.jobChanged(ended(made, batchv1.JobComplete))
			d.Report(Report{UID: first.UID, Over: true})
			d.starts(d.childAt(second))
		})
	}
}

// TestDispatcherOverlapOfOneThatNeverBegan: the run that holds the others is named, with what it waits for. It gives way to a run of
// a newer template where nothing of it can have run.
func TestDispatcherOverlapOfOneThatNeverBegan(t *testing.T) {
	t.Parallel()
	pulls := metav1.Condition{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonStarting, Message: "ImagePullBackOff: Back-off pulling image"}
	for name, tc := range map[string]struct {
		starting   metav1.Condition
		status     batchv1.JobStatus
		pod        func(*corev1.PodSpec)
		generation int64
		gives      bool
		message    string
	}{
		"the template is the same":     {pulls, batchv1.JobStatus{}, nil, 1, false, "has not begun: set its `spec.cancel` to end it; ImagePullBackOff: Back-off pulling image"},
		"the template was edited":      {pulls, batchv1.JobStatus{Active: 1, Ready: new(int32(0))}, nil, 2, true, ""},
		"a pod of it has failed":       {pulls, batchv1.JobStatus{Failed: 1}, nil, 2, false, "has not begun"},
		"a pod of it is ready":         {pulls, batchv1.JobStatus{Ready: new(int32(1))}, nil, 2, false, "has not begun"},
		"another container may run":    {pulls, batchv1.JobStatus{}, func(p *corev1.PodSpec) { p.Containers = append(p.Containers, corev1.Container{Name: "two"}) }, 2, false, "has not begun"},
		"it may have run and restart":  {pulls, batchv1.JobStatus{}, func(p *corev1.PodSpec) { p.RestartPolicy = corev1.RestartPolicyOnFailure }, 2, false, "has not begun"},
		"it waits for a node":          {metav1.Condition{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonStarting, Message: "Unschedulable"}, batchv1.JobStatus{}, nil, 2, false, "Unschedulable"},
		"it runs":                      {metav1.Condition{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonRunning}, batchv1.JobStatus{}, nil, 2, false, "for tenant acme, still runs"},
		"nothing is said of it so far": {metav1.Condition{}, batchv1.JobStatus{}, nil, 2, false, "for tenant acme, still runs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			template := v1alpha1.TenantJobTemplateSpec{}
			pod := &template.JobTemplate.Spec.Template.Spec
			pod.RestartPolicy, pod.Containers = corev1.RestartPolicyNever, []corev1.Container{{Name: "one"}}
			if tc.pod != nil {
				tc.pod(pod)
			}
			d, next := newSyncedFixture(t), tick.Add(time.Hour)
			d.setFanOutAt(tick, schedule.Together{}, template, 1)
			first := d.childAt(tick)
			made := d.starts(first)
			made.Annotations, made.Status = map[string]string{v1alpha1.AnnotationTemplateGeneration: strconv.Itoa(1)}, tc.status
			d.caches(made)
			tc.starting.Type = v1alpha1.ConditionSucceeded
			if err := d.tenantJobStore.Add(&v1alpha1.TenantJob{
				ObjectMeta: metav1.ObjectMeta{Namespace: first.Key.Namespace, Name: first.Key.Name, UID: first.UID},
				Status:     v1alpha1.TenantJobStatus{Conditions: []metav1.Condition{tc.starting}},
			}); err != nil {
				t.Fatal(err)
			}
			d.setFanOutAt(next, schedule.Together{}, template, tc.generation)
			second := d.childAt(next)
			if !tc.gives {
				d.expectEnd(second, v1alpha1.ReasonOverlapped, tc.message)
				return
			}
			d.waits(second)
			if v := d.standing(first).Replaced; v == nil || v.Reason != v1alpha1.ReasonReplaced {
				t.Fatalf("the earlier run is not to be stopped: %v", v)
			}
			d.jobChanged(ended(made, batchv1.JobFailed))
			d.Report(Report{UID: first.UID, Over: true})
			d.starts(second)
		})
	}
}
