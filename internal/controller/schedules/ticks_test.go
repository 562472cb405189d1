package schedules_test

import (
	"testing"

	"github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// These tests stop the operator of all tests, so none of them is parallel to others.

func catchUp(limit int32) func(*v1alpha1.TenantSchedule) {
	return func(ts *v1alpha1.TenantSchedule) { ts.Spec.CatchUpLimit = &limit }
}

func in(zone string) func(*v1alpha1.TenantSchedule) {
	return func(ts *v1alpha1.TenantSchedule) { ts.Spec.TimeZone = zone }
}

func startingWithin(seconds int32) func(*v1alpha1.TenantSchedule) {
	return func(ts *v1alpha1.TenantSchedule) { ts.Spec.StartingDeadlineSeconds = &seconds }
}

func suspended(is bool) func(*v1alpha1.TenantSchedule) {
	return func(ts *v1alpha1.TenantSchedule) { ts.Spec.Suspend = &is }
}

// running has a schedule's fan-outs run a template.
func running(template *v1alpha1.TenantJobTemplate) func(*v1alpha1.TenantSchedule) {
	return func(ts *v1alpha1.TenantSchedule) { ts.Spec.FanOutTemplate.Spec.TemplateRef.Name = template.Name }
}

// TestTenantScheduleTicks turns the clock. The years 2020 and 2026 have the same calendar from March on.
func TestTenantScheduleTicks(t *testing.T) {
	type step struct {
		now  string
		edit func(*v1alpha1.TenantSchedule)
		want ran
	}
	type changes = []func(*v1alpha1.TenantSchedule)
	WithoutOperator(t)
	for name, tc := range map[string]struct {
		schedule string
		changes  changes
		since    string
		steps    []step
	}{
		"case 1, nobody there, catchUpLimit 0": {"0 8,9 * * *", changes{catchUp(0)}, "2020-08-03 08:30", []step{
			{"2020-08-03 09:00:02", nil, ran{[]string{"2020-08-03 09:00"}, "2020-08-03 09:00", "", "2020-08-04 08:00"}},
			{"2020-08-04 20:00", nil, ran{[]string{"2020-08-03 09:00"}, "2020-08-03 09:00", "2 2020-08-04 09:00 CatchUpLimitExceeded", "2020-08-05 08:00"}},
			{"2020-08-05 08:00", nil, ran{[]string{"2020-08-03 09:00", "2020-08-05 08:00"}, "2020-08-05 08:00", "2 2020-08-04 09:00 CatchUpLimitExceeded", "2020-08-05 09:00"}},
		}},
		"case 1, nobody there, catchUpLimit 1": {"0 8,9 * * *", nil, "2020-08-03 08:30", []step{
			{"2020-08-03 09:00:02", nil, ran{[]string{"2020-08-03 09:00"}, "2020-08-03 09:00", "", "2020-08-04 08:00"}},
			{"2020-08-04 20:00", nil, ran{[]string{"2020-08-03 09:00", "2020-08-04 09:00"}, "2020-08-04 09:00", "1 2020-08-04 08:00 CatchUpLimitExceeded", "2020-08-05 08:00"}},
			{"2020-08-04 20:01", nil, ran{[]string{"2020-08-03 09:00", "2020-08-04 09:00"}, "2020-08-04 09:00", "1 2020-08-04 08:00 CatchUpLimitExceeded", "2020-08-05 08:00"}},
		}},
		"case 1, nobody there, catchUpLimit 3": {"0 8,9 * * *", changes{catchUp(3)}, "2020-08-03 08:30", []step{
			{"2020-08-03 09:00:02", nil, ran{[]string{"2020-08-03 09:00"}, "2020-08-03 09:00", "", "2020-08-04 08:00"}},
			{"2020-08-04 20:00", nil, ran{[]string{"2020-08-03 09:00", "2020-08-04 08:00", "2020-08-04 09:00"}, "2020-08-04 09:00", "", "2020-08-05 08:00"}},
		}},
		"case 2, a time that the clock leaves out": {"30 2 * * *", changes{in("America/New_York")}, "2020-03-07 08:00", []step{
			{"2020-03-08 06:59:59", nil, ran{nil, "", "", "2020-03-08 07:00"}},
			{"2020-03-08 07:00", nil, ran{[]string{"2020-03-08 07:00"}, "2020-03-08 07:00", "", "2020-03-09 06:30"}},
			{"2020-03-09 06:30:01", nil, ran{[]string{"2020-03-08 07:00", "2020-03-09 06:30"}, "2020-03-09 06:30", "", "2020-03-10 06:30"}},
		}},
		"case 3, a time that the clock shows twice": {"30 1 * * *", changes{in("America/New_York")}, "2020-10-31 08:00", []step{
			{"2020-11-01 05:30", nil, ran{[]string{"2020-11-01 05:30"}, "2020-11-01 05:30", "", "2020-11-02 06:30"}},
			{"2020-11-01 06:30", nil, ran{[]string{"2020-11-01 05:30"}, "2020-11-01 05:30", "", "2020-11-02 06:30"}},
			{"2020-11-02 06:30", nil, ran{[]string{"2020-11-01 05:30", "2020-11-02 06:30"}, "2020-11-02 06:30", "", "2020-11-03 06:30"}},
		}},
		"case 3, every half hour": {"*/30 * * * *", changes{in("America/New_York")}, "2020-11-01 04:45", []step{
			{"2020-11-01 05:00", nil, ran{[]string{"2020-11-01 05:00"}, "2020-11-01 05:00", "", "2020-11-01 05:30"}},
			{"2020-11-01 05:30", nil, ran{[]string{"2020-11-01 05:00", "2020-11-01 05:30"}, "2020-11-01 05:30", "", "2020-11-01 06:00"}},
			{"2020-11-01 06:00", nil, ran{[]string{"2020-11-01 05:00", "2020-11-01 05:30", "2020-11-01 06:00"}, "2020-11-01 06:00", "", "2020-11-01 06:30"}},
		}},
		"case 4, an edit fires nothing of the past": {"0 0 * * *", nil, "2020-08-02 12:00", []step{
			{"2020-08-03 00:00", nil, ran{[]string{"2020-08-03 00:00"}, "2020-08-03 00:00", "", "2020-08-04 00:00"}},
			{"2020-08-03 15:00", func(ts *v1alpha1.TenantSchedule) { ts.Spec.Schedule = "0 10 * * *" },
				ran{[]string{"2020-08-03 00:00"}, "2020-08-03 00:00", "", "2020-08-04 10:00"}},
			{"2020-08-04 10:00", nil, ran{[]string{"2020-08-03 00:00", "2020-08-04 10:00"}, "2020-08-04 10:00", "", "2020-08-05 10:00"}},
		}},
		"an edit of the history limit while nobody is there": {"0 * * * *", changes{catchUp(2)}, "2020-08-03 09:30", []step{
			{"2020-08-03 10:00", nil, ran{[]string{"2020-08-03 10:00"}, "2020-08-03 10:00", "", "2020-08-03 11:00"}},
			{"2020-08-03 13:30", func(ts *v1alpha1.TenantSchedule) { ts.Spec.SuccessfulFanOutsHistoryLimit = new(int32(7)) },
				ran{[]string{"2020-08-03 10:00", "2020-08-03 12:00", "2020-08-03 13:00"}, "2020-08-03 13:00", "1 2020-08-03 11:00 CatchUpLimitExceeded", "2020-08-03 14:00"}},
		}},
		"an edit of the schedule while nobody is there": {"0 * * * *", nil, "2020-08-03 09:30", []step{
			{"2020-08-03 10:00", nil, ran{[]string{"2020-08-03 10:00"}, "2020-08-03 10:00", "", "2020-08-03 11:00"}},
			{"2020-08-03 13:30", func(ts *v1alpha1.TenantSchedule) { ts.Spec.Schedule = "15 * * * *" },
				ran{[]string{"2020-08-03 10:00"}, "2020-08-03 10:00", "3 2020-08-03 13:00 ScheduleEdited", "2020-08-03 14:15"}},
		}},
		"resuming fires nothing of the past": {"0 * * * *", changes{catchUp(100)}, "2020-08-03 09:30", []step{
			{"2020-08-03 10:00", nil, ran{[]string{"2020-08-03 10:00"}, "2020-08-03 10:00", "", "2020-08-03 11:00"}},
			{"2020-08-03 10:30", suspended(true), ran{[]string{"2020-08-03 10:00"}, "2020-08-03 10:00", "", "2020-08-03 11:00"}},
			{"2020-08-03 14:30", nil, ran{[]string{"2020-08-03 10:00"}, "2020-08-03 10:00", "", "2020-08-03 15:00"}},
			{"2020-08-03 15:30", suspended(false), ran{[]string{"2020-08-03 10:00"}, "2020-08-03 10:00", "", "2020-08-03 16:00"}},
			{"2020-08-03 16:00", nil, ran{[]string{"2020-08-03 10:00", "2020-08-03 16:00"}, "2020-08-03 16:00", "", "2020-08-03 17:00"}},
		}},
		"startingDeadlineSeconds": {"0 10 * * *", changes{startingWithin(3600), catchUp(10)}, "2020-08-02 12:00", []step{
			{"2020-08-03 11:00", nil, ran{[]string{"2020-08-03 10:00"}, "2020-08-03 10:00", "", "2020-08-04 10:00"}},
			{"2020-08-04 11:00:01", nil, ran{[]string{"2020-08-03 10:00"}, "2020-08-03 10:00", "1 2020-08-04 10:00 StartingDeadlineExceeded", "2020-08-05 10:00"}},
			{"2020-08-06 10:00", nil, ran{[]string{"2020-08-03 10:00", "2020-08-06 10:00"}, "2020-08-06 10:00", "2 2020-08-05 10:00 StartingDeadlineExceeded", "2020-08-07 10:00"}},
		}},
		"five years of every minute": {"* * * * *", nil, "2015-08-03 10:00", []step{
			{"2020-08-03 10:00", nil, ran{[]string{"2020-08-03 10:00"}, "2020-08-03 10:00", "2630879 2020-08-03 09:59 CatchUpLimitExceeded", "2020-08-03 10:01"}},
		}},
		"each tenant's own clock": {"0 2 * * *", changes{func(ts *v1alpha1.TenantSchedule) { ts.Spec.TimeZoneFrom = v1alpha1.TimeZoneFromTenant }}, "2020-03-07 11:00", []step{
			{"2020-03-07 11:59:59", nil, ran{nil, "", "", "2020-03-07 12:00"}},
			{"2020-03-07 12:00", nil, ran{[]string{"2020-03-07 12:00"}, "2020-03-07 12:00", "", "2020-03-08 12:00"}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts := since(t, NewSchedule(t, tc.schedule, tc.changes...), tc.since)
			s := startScheduler(t, ts, tc.since)
			for _, step := range tc.steps {
				if step.edit != nil { // Otherwise it might look once more before the edit, and by the new time.
					s.stop()
				}
				s.clock.SetTime(at(t, step.now))
				if step.edit != nil {
					Patch(t, ts, step.edit)
					s.start(t)
				}
				touch(t, ts)
				awaitRan(t, ts, step.want)
			}
			g := gomega.NewWithT(t)
			g.Expect(ts.Status.ObservedGeneration).To(gomega.Equal(ts.Generation))
			for _, fanOut := range fanOutsOf(t, g, ts) {
				g.Expect(metav1.IsControlledBy(&fanOut, ts)).To(gomega.BeTrue())
			}
		})
	}
}
