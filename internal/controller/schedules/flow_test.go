package schedules_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/internal/controller/schedules"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/schedule"
)

// awaitScheduleSays waits until a condition of a TenantSchedule speaks of its present generation and says this.
func awaitScheduleSays(t *testing.T, ts *v1alpha1.TenantSchedule, conditionType string, is metav1.ConditionStatus, reason, message string) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		Get(t, g, ts)
		c := conditions.Get(ts.Status.Conditions, conditionType)
		g.Expect([]any{c.Status, c.Reason, c.Message}).To(gomega.HaveExactElements(is, reason, gomega.ContainSubstring(message)))
		g.Expect([]int64{c.ObservedGeneration, ts.Status.ObservedGeneration}).To(gomega.HaveEach(ts.Generation))
	})
}

// TestTenantScheduleKstatus is about the real operator, whose clock is the real one.
func TestTenantScheduleKstatus(t *testing.T) {
	t.Parallel()
	g := gomega.NewWithT(t)
	judge := func(ts *v1alpha1.TenantSchedule, want status.Status) {
		t.Helper()
		g.Expect(Judged(t, ts)).To(gomega.Equal(want))
	}
	ts := NewSchedule(t, "@yearly", running(NewReadyTemplate(t, nil)))
	judge(ts, status.InProgressStatus)
	awaitScheduleSays(t, ts, v1alpha1.ConditionReady, IsTrue, v1alpha1.ReasonReady, "makes a TenantFanOut at each tick")
	judge(ts, status.CurrentStatus)
	g.Expect(ts.Status.EffectiveTime).To(gomega.HaveValue(gomega.Equal(ts.CreationTimestamp)))
	g.Expect(ts.Status.NextScheduleTimes).To(gomega.HaveLen(5))
	g.Expect(conditions.Get(ts.Status.Conditions, v1alpha1.ConditionLastRunSucceeded)).To(gomega.And(
		gomega.HaveField("Status", Unknown), gomega.HaveField("Reason", v1alpha1.ReasonNeverRun)))

	Patch(t, ts, suspended(true))
	judge(ts, status.InProgressStatus)
	awaitScheduleSays(t, ts, v1alpha1.ConditionReady, IsTrue, v1alpha1.ReasonReady, "makes no TenantFanOuts while `spec.suspend` is true")
	judge(ts, status.CurrentStatus)
	g.Expect(ts.Status.NextScheduleTimes).To(gomega.HaveLen(5))
	g.Expect(eventsOf(t, g, ts)).To(gomega.BeEmpty())
}

// TestTenantScheduleToPod follows a tick through the whole operator, by the real clock, and its result back.
func TestTenantScheduleToPod(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	template := NewReadyTemplate(t, nil)
	FinishAll(t, tenant)
	// The next tick is far, however long it takes.
	last := time.Now().UTC().Add(-time.Hour)
	ts := NewSchedule(t, fmt.Sprintf("%d %d * * *", last.Minute(), last.Hour()), func(ts *v1alpha1.TenantSchedule) {
		ts.Spec.FanOutTemplate.Spec = v1alpha1.TenantFanOutSpec{
			TemplateRef: v1alpha1.LabelReference{Name: template.Name},
			Tenants:     v1alpha1.TenantSelection{Names: []v1alpha1.TenantName{v1alpha1.TenantName(tenant.Name)}},
		}
	})
	since(t, ts, time.Now().UTC().Add(-2*time.Hour).Format(minutes))
	touch(t, ts)
	awaitScheduleSays(t, ts, v1alpha1.ConditionLastRunSucceeded, IsTrue, v1alpha1.ReasonCompleted, ts.Name+"-")
	g := gomega.NewWithT(t)
	g.Expect(ts.Status.LastSuccessfulTime).NotTo(gomega.BeNil())
	g.Expect(ts.Status.Active).To(gomega.BeEmpty())
	fanOuts := fanOutsOf(t, g, ts)
	g.Expect(fanOuts).NotTo(gomega.BeEmpty())
	tj := &v1alpha1.TenantJob{ObjectMeta: Within(tenant, fanOuts[0].Name)}
	g.Expect(Get(t, g, tj).Labels).To(gomega.HaveKeyWithValue(v1alpha1.LabelSchedule, ts.Name))
	j := Get(t, g, JobOf(tj))
	g.Expect(j.Labels).To(gomega.And(gomega.HaveKeyWithValue(v1alpha1.LabelSchedule, ts.Name), gomega.HaveKeyWithValue(v1alpha1.LabelFanOut, tj.Name)))
	g.Expect(j.Spec.Template.Spec.Containers[0].Env).To(gomega.ContainElements(
		corev1.EnvVar{Name: "TENANTRY_FAN_OUT", Value: tj.Name},
		corev1.EnvVar{Name: "TENANTRY_SCHEDULED_TIME", Value: fanOuts[0].Annotations[v1alpha1.AnnotationScheduledTime]},
	))
}

// TestTenantScheduleFanOut is about what a tick makes.
func TestTenantScheduleFanOut(t *testing.T) {
	WithoutOperator(t)
	template := NewTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.Parameters = []v1alpha1.Parameter{{Name: "days"}} })
	ts := since(t, NewSchedule(t, "0 * * * *", running(template), func(ts *v1alpha1.TenantSchedule) {
		ts.Spec.FanOutTemplate.Metadata = &v1alpha1.FanOutTemplateMetadata{
			Labels:      map[string]v1alpha1.LabelValue{"tag.tenantry.dev/what": "bills"},
			Annotations: map[string]v1alpha1.AnnotationValue{"example.com/why": "the month is over"},
		}
		ts.Spec.FanOutTemplate.Spec.Parameters = map[string]v1alpha1.ParameterValue{"days": "3"}
	}), "2020-08-03 09:30")
	s := startScheduler(t, ts, "2020-08-03 10:00")
	awaitRan(t, ts, ran{[]string{"2020-08-03 10:00"}, "2020-08-03 10:00", "", "2020-08-03 11:00"})
	g := gomega.NewWithT(t)
	fanOut := fanOutsOf(t, g, ts)[0]
	g.Expect(fanOut.Name).To(gomega.Equal(fmt.Sprintf("%s-%d", ts.Name, at(t, "2020-08-03 10:00").Unix()/60)))
	g.Expect(fanOut.Labels).To(gomega.Equal(map[string]string{"tag.tenantry.dev/what": "bills", v1alpha1.LabelSchedule: ts.Name}))
	g.Expect(fanOut.Annotations).To(gomega.Equal(map[string]string{
		"example.com/why": "the month is over", v1alpha1.AnnotationScheduledTime: "2020-08-03T10:00:00Z",
	}))
	g.Expect(fanOut.Spec).To(gomega.Equal(ts.Spec.FanOutTemplate.Spec))
	g.Expect(fanOut.OwnerReferences).To(gomega.HaveExactElements(*metav1.NewControllerRef(ts, v1alpha1.GroupVersion.WithKind("TenantSchedule"))))
	g.Expect(ts.Status.Active).To(gomega.HaveExactElements(v1alpha1.LocalReference{Name: fanOut.Name}))
	s.turn(t, "2020-08-03 11:00")
	awaitRan(t, ts, ran{[]string{"2020-08-03 10:00", "2020-08-03 11:00"}, "2020-08-03 11:00", "", "2020-08-03 12:00"})
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(eventsOf(t, g, ts)).To(gomega.ConsistOf(
			"Normal ScheduledFanOut made TenantFanOut "+fanOut.Name+" for 2020-08-03T10:00:00Z",
			gomega.HaveSuffix(" for 2020-08-03T11:00:00Z"),
		))
	})
	Remove(t, ts)
	AwaitGone(t, &fanOut)
}

// TestTenantScheduleNameConflict: a stranger on a tick's name costs that tick, and no other.
func TestTenantScheduleNameConflict(t *testing.T) {
	WithoutOperator(t)
	ts := since(t, NewSchedule(t, "0 * * * *", catchUp(10)), "2020-08-03 09:30")
	stranger := Create(t, &v1alpha1.TenantFanOut{
		ObjectMeta: metav1.ObjectMeta{Name: schedule.TickName(ts.Name, at(t, "2020-08-03 11:00"))}, Spec: NobodysFanOut,
	})
	s := startScheduler(t, ts, "2020-08-03 12:30")
	const missed = "1 2020-08-03 11:00 NameConflict"
	awaitRan(t, ts, ran{[]string{"2020-08-03 10:00", "2020-08-03 12:00"}, "2020-08-03 12:00", missed, "2020-08-03 13:00"})
	s.turn(t, "2020-08-03 13:00")
	awaitRan(t, ts, ran{[]string{"2020-08-03 10:00", "2020-08-03 12:00", "2020-08-03 13:00"}, "2020-08-03 13:00", missed, "2020-08-03 14:00"})
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(eventsOf(t, g, ts)).To(gomega.ContainElement(
			"Warning MissedTicks 1 tick did not run, that of 2020-08-03T11:00:00Z: NameConflict"))
	})
	g := gomega.NewWithT(t)
	g.Expect(Get(t, g, stranger).OwnerReferences).To(gomega.BeEmpty())

	// The newest of all, too, so that nothing later is written down that would hide it.
	Create(t, &v1alpha1.TenantFanOut{
		ObjectMeta: metav1.ObjectMeta{Name: schedule.TickName(ts.Name, at(t, "2020-08-03 14:00"))}, Spec: NobodysFanOut,
	})
	s.turn(t, "2020-08-03 14:00")
	want := ran{[]string{"2020-08-03 10:00", "2020-08-03 12:00", "2020-08-03 13:00"}, "2020-08-03 13:00", "2 2020-08-03 14:00 NameConflict", "2020-08-03 15:00"}
	awaitRan(t, ts, want)
	s.turn(t, "2020-08-03 15:00")
	want.FanOuts, want.Last, want.Next = append(want.FanOuts, "2020-08-03 15:00"), "2020-08-03 15:00", "2020-08-03 16:00"
	awaitRan(t, ts, want)
}

// TestTenantScheduleHistory: what has ended goes when it is too much, and its result stays.
func TestTenantScheduleHistory(t *testing.T) {
	WithoutOperator(t)
	ts := since(t, NewSchedule(t, "0 * * * *", func(ts *v1alpha1.TenantSchedule) {
		ts.Spec.SuccessfulFanOutsHistoryLimit, ts.Spec.FailedFanOutsHistoryLimit = new(int32(1)), new(int32(0))
	}), "2020-08-03 09:30")
	s := startScheduler(t, ts, "2020-08-03 10:00")
	all := func(ticks ...string) (fanOuts []string) {
		for _, tick := range ticks {
			fanOuts = append(fanOuts, "2020-08-03 "+tick)
		}
		return fanOuts
	}
	exist := func(last, next string, ticks ...string) {
		t.Helper()
		awaitRan(t, ts, ran{all(ticks...), "2020-08-03 " + last, "", "2020-08-03 " + next})
	}
	end := func(tick string, is metav1.ConditionStatus, reason string) {
		t.Helper()
		endFanOut(t, schedule.TickName(ts.Name, at(t, "2020-08-03 "+tick)), is, reason, at(t, "2020-08-03 "+tick).Add(time.Minute))
	}
	says := func(is metav1.ConditionStatus, reason, tick string) {
		t.Helper()
		message := ""
		if tick != "" {
			message = schedule.TickName(ts.Name, at(t, "2020-08-03 "+tick)) + ": 2 of 3 tenants"
		}
		awaitScheduleSays(t, ts, v1alpha1.ConditionLastRunSucceeded, is, reason, message)
	}
	exist("10:00", "11:00", "10:00")
	says(Unknown, v1alpha1.ReasonRunning, "")
	end("10:00", IsTrue, v1alpha1.ReasonCompleted)
	says(IsTrue, v1alpha1.ReasonCompleted, "10:00")
	s.turn(t, "2020-08-03 11:00")
	exist("11:00", "12:00", "10:00", "11:00")
	says(IsTrue, v1alpha1.ReasonCompleted, "10:00")

	// One that fails is not kept, and yet its result is the last.
	end("11:00", IsFalse, v1alpha1.ReasonSomeFailed)
	exist("11:00", "12:00", "10:00")
	says(IsFalse, v1alpha1.ReasonSomeFailed, "11:00")
	s.turn(t, "2020-08-03 12:00")
	exist("12:00", "13:00", "10:00", "12:00")
	s.turn(t, "2020-08-03 13:00")
	exist("13:00", "14:00", "10:00", "12:00", "13:00")
	says(IsFalse, v1alpha1.ReasonSomeFailed, "11:00")

	// The newest counts, not the one that ended last; and of two the newer stays.
	end("13:00", IsTrue, v1alpha1.ReasonCompletedWithFailures)
	exist("13:00", "14:00", "12:00", "13:00")
	says(IsTrue, v1alpha1.ReasonCompletedWithFailures, "13:00")
	g := gomega.NewWithT(t)
	g.Expect(ts.Status.Active).To(gomega.HaveExactElements(v1alpha1.LocalReference{Name: schedule.TickName(ts.Name, at(t, "2020-08-03 12:00"))}))
	end("12:00", IsTrue, v1alpha1.ReasonCompleted)
	exist("13:00", "14:00", "13:00")
	says(IsTrue, v1alpha1.ReasonCompletedWithFailures, "13:00")
	g.Expect(textOf(ts.Status.LastSuccessfulTime)).To(gomega.Equal("2020-08-03 13:01"))

	// What somebody retries is kept until it is known whom.
	s.turn(t, "2020-08-03 14:00")
	exist("14:00", "15:00", "13:00", "14:00")
	failed := schedule.TickName(ts.Name, at(t, "2020-08-03 14:00"))
	retry := Create(t, &v1alpha1.TenantFanOut{
		ObjectMeta: metav1.ObjectMeta{Name: ts.Name + "-retry"},
		Spec: v1alpha1.TenantFanOutSpec{
			TemplateRef: NobodysFanOut.TemplateRef, Tenants: v1alpha1.TenantSelection{RetryOf: &v1alpha1.RetryOf{Name: failed}},
		},
	})
	end("14:00", IsFalse, v1alpha1.ReasonTooManyFailed)
	says(IsFalse, v1alpha1.ReasonTooManyFailed, "14:00")
	s.turn(t, "2020-08-03 15:00")
	exist("15:00", "16:00", "13:00", "14:00", "15:00")
	base := retry.DeepCopy()
	conditions.Of(&retry.Status.Conditions, 1).Set(v1alpha1.ConditionPlanned, IsTrue, v1alpha1.ReasonSealed, "")
	if err := Admin.Status().Patch(t.Context(), retry, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
	Eventually(t, func(g gomega.Gomega) {
		touch(t, ts)
		g.Expect(ranOf(t, g, ts).FanOuts).To(gomega.Equal(all("13:00", "15:00")))
	})
}

// TestTenantScheduleEditedWhileNobodyLooks: the ticks since the edit are found, and none from before it.
func TestTenantScheduleEditedWhileNobodyLooks(t *testing.T) {
	WithoutOperator(t)
	for name, tc := range map[string]struct {
		before, edit func(*v1alpha1.TenantSchedule)
	}{
		"edited":  {suspended(false), func(ts *v1alpha1.TenantSchedule) { ts.Spec.Schedule = "*/1 * * * *" }},
		"resumed": {suspended(true), suspended(false)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts := since(t, NewSchedule(t, "* * * * *", tc.before, catchUp(2)), "2020-08-03 10:00")
			Patch(t, ts, tc.edit)
			var edited time.Time
			for _, entry := range ts.ManagedFields {
				if entry.Subresource == "" && entry.Time.After(edited) {
					edited = entry.Time.Time
				}
			}
			everyMinute, err := schedule.Parse("* * * * *")
			if err != nil {
				t.Fatal(err)
			}
			// The operator comes back by a clock that both agree on, an hour later.
			now := edited.Add(time.Hour)
			want := schedule.FindTicks(schedule.Input{
				Expression: everyMinute, CatchUpLimit: new(int32(2)), NotBefore: edited, Now: now,
			})
			s := &scheduler{schedule: ts, clock: clockAt(now)}
			s.served = s.clock
			died := make(chan struct{})
			s.through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
				if r.Method == http.MethodPatch {
					select {
					case <-died:
					default:
						close(died)
						s.cancel()
					}
					return nil, errors.New("killed")
				}
				return next.RoundTrip(r)
			}
			s.start(t)
			<-died
			s.stop()
			// The next one finds the same.
			s = &scheduler{schedule: ts, clock: clockAt(now), served: clockAt(now)}
			s.start(t)
			awaitRan(t, ts, ran{
				[]string{want.Due[0].Format(minutes), want.Due[1].Format(minutes)}, want.Due[1].Format(minutes),
				fmt.Sprintf("58 %s CatchUpLimitExceeded", want.Missed.Last.Format(minutes)), want.Next[0].Format(minutes),
			})
			gomega.NewWithT(t).Expect(ts.Status.EffectiveTime.Time).To(gomega.BeTemporally("==", edited))
		})
	}
}

// TestTenantScheduleClockAhead is case 12: the operator's clock is 26 hours ahead of the API server's, and then right.
func TestTenantScheduleClockAhead(t *testing.T) {
	WithoutOperator(t)
	for name, tc := range map[string]struct {
		limit int32
		edit  func(*v1alpha1.TenantSchedule)
	}{
		"catchUpLimit 1":   {1, nil},
		"catchUpLimit 0":   {0, nil},
		"catchUpLimit 100": {100, nil},
		// Nothing tells when a field was taken away, so a clock is needed.
		"resumed meanwhile": {1, func(ts *v1alpha1.TenantSchedule) { ts.Spec.Suspend = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts := since(t, NewSchedule(t, "0 * * * *", catchUp(tc.limit), suspended(false)), "2020-08-03 09:30")
			served := clockAt(at(t, "2020-08-03 10:00"))
			s := &scheduler{schedule: ts, clock: clockAt(at(t, "2020-08-03 10:00")), served: served}
			s.start(t)
			awaitRan(t, ts, ran{[]string{"2020-08-03 10:00"}, "2020-08-03 10:00", "", "2020-08-03 11:00"})

			served.SetTime(at(t, "2020-08-03 10:30"))
			s.clock.SetTime(at(t, "2020-08-04 12:30"))
			if tc.edit != nil {
				Patch(t, ts, tc.edit)
			} else {
				// To see that it has looked, it must have something to say.
				Patch(t, ts, startingWithin(1e6))
			}
			Eventually(t, func(g gomega.Gomega) {
				g.Expect(Get(t, g, ts).Status.ObservedGeneration).To(gomega.Equal(ts.Generation))
			})
			awaitRan(t, ts, ran{[]string{"2020-08-03 10:00"}, "2020-08-03 10:00", "", "2020-08-03 11:00"})
			g := gomega.NewWithT(t)
			g.Expect(ts.Status.EffectiveTime.Time).To(gomega.BeTemporally("<=", served.Now()))

			// What has come is made, also by the wrong clock.
			served.SetTime(at(t, "2020-08-03 11:00"))
			s.turn(t, "2020-08-04 13:00")
			awaitRan(t, ts, ran{[]string{"2020-08-03 10:00", "2020-08-03 11:00"}, "2020-08-03 11:00", "", "2020-08-03 12:00"})

			served.SetTime(at(t, "2020-08-03 12:00:05"))
			s.turn(t, "2020-08-03 12:00:05")
			awaitRan(t, ts, ran{[]string{"2020-08-03 10:00", "2020-08-03 11:00", "2020-08-03 12:00"}, "2020-08-03 12:00", "", "2020-08-03 13:00"})
		})
	}
}

// TestTenantScheduleClockBehind: the operator's clock goes back, or the next operator's is behind. No tick runs twice, also when
// its fan-out is gone, and those that come run on time.
func TestTenantScheduleClockBehind(t *testing.T) {
	WithoutOperator(t)
	for name, restarts := range map[string]bool{"the operator's": false, "the next operator's": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts := since(t, NewSchedule(t, "0 * * * *"), "2020-08-03 09:30")
			served := clockAt(at(t, "2020-08-03 10:00"))
			log := followFanOuts(t, ts)
			s := &scheduler{schedule: ts, clock: clockAt(at(t, "2020-08-03 10:00")), served: served}
			s.start(t)
			awaitRan(t, ts, ran{[]string{"2020-08-03 10:00"}, "2020-08-03 10:00", "", "2020-08-03 11:00"})
			Remove(t, &v1alpha1.TenantFanOut{ObjectMeta: metav1.ObjectMeta{Name: schedule.TickName(ts.Name, at(t, "2020-08-03 10:00"))}})

			served.SetTime(at(t, "2020-08-03 10:30"))
			behind := clockAt(at(t, "2020-08-03 09:00:10"))
			if restarts {
				s.stop()
				s = &scheduler{schedule: ts, clock: behind, served: served}
				s.start(t)
			} else {
				s.clock.SetTime(behind.Now())
			}
			Patch(t, ts, startingWithin(1e6)) // so that it has something to say
			Eventually(t, func(g gomega.Gomega) {
				g.Expect(Get(t, g, ts).Status.ObservedGeneration).To(gomega.Equal(ts.Generation))
			})
			awaitRan(t, ts, ran{nil, "2020-08-03 10:00", "", "2020-08-03 11:00"})

			// Half an hour passes on both clocks.
			served.SetTime(at(t, "2020-08-03 11:00:01"))
			s.turn(t, "2020-08-03 09:30:12")
			awaitRan(t, ts, ran{[]string{"2020-08-03 11:00"}, "2020-08-03 11:00", "", "2020-08-03 12:00"})
			gomega.NewWithT(t).Expect(log.counts()).To(gomega.Equal(map[string]int{
				schedule.TickName(ts.Name, at(t, "2020-08-03 10:00")): 1, schedule.TickName(ts.Name, at(t, "2020-08-03 11:00")): 1,
			}))
		})
	}
}

// TestTenantScheduleSaysWhatCantRun is case 09: what is wrong is said when the schedule is written, and when its template changes.
func TestTenantScheduleSaysWhatCantRun(t *testing.T) {
	t.Parallel()
	template := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		o.Spec.Parameters = []v1alpha1.Parameter{{Name: "idleMinutes", Required: new(true)}, {Name: "batchSize", Type: v1alpha1.ParameterInteger}}
	})
	with := func(parameters map[string]v1alpha1.ParameterValue) func(*v1alpha1.TenantSchedule) {
		return func(ts *v1alpha1.TenantSchedule) { ts.Spec.FanOutTemplate.Spec.Parameters = parameters }
	}
	const field = "`spec.fanOutTemplate.spec.parameters."
	typo := NewSchedule(t, "@yearly", running(template), with(map[string]v1alpha1.ParameterValue{"idleMinutes": "30", "batchsize": "10"}))
	missing := NewSchedule(t, "@yearly", running(template))
	refused := NewSchedule(t, "@yearly", running(template), with(map[string]v1alpha1.ParameterValue{"idleMinutes": "30", "batchSize": "many"}))
	unknown := NewSchedule(t, "@yearly")
	fine := NewSchedule(t, "@yearly", running(template), with(map[string]v1alpha1.ParameterValue{"idleMinutes": "30"}))
	awaitScheduleSays(t, typo, v1alpha1.ConditionReady, IsFalse, v1alpha1.ReasonInvalidParameters, field+"batchsize` must be left out")
	awaitScheduleSays(t, missing, v1alpha1.ConditionReady, IsFalse, v1alpha1.ReasonInvalidParameters, field+"idleMinutes` must be set")
	awaitScheduleSays(t, refused, v1alpha1.ConditionReady, IsFalse, v1alpha1.ReasonInvalidParameters, field+"batchSize` must be an integer")
	awaitScheduleSays(t, unknown, v1alpha1.ConditionReady, IsFalse, v1alpha1.ReasonTemplateNotFound, "there is no TenantJobTemplate "+NobodysFanOut.TemplateRef.Name)
	awaitScheduleSays(t, fine, v1alpha1.ConditionReady, IsTrue, v1alpha1.ReasonReady, "")
	g := gomega.NewWithT(t)
	g.Expect(Judged(t, missing)).To(gomega.Equal(status.FailedStatus))
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(eventsOf(t, g, missing)).To(gomega.ConsistOf("Warning InvalidParameters " + field + "idleMinutes` must be set"))
	})

	Patch(t, template, func(o *v1alpha1.TenantJobTemplate) { o.Spec.Parameters[0].Name = "idleSeconds" })
	awaitScheduleSays(t, fine, v1alpha1.ConditionReady, IsFalse, v1alpha1.ReasonInvalidParameters, field+"idleSeconds` must be set")
	Patch(t, template, func(o *v1alpha1.TenantJobTemplate) { o.Spec.Parameters = nil })
	awaitScheduleSays(t, missing, v1alpha1.ConditionReady, IsTrue, v1alpha1.ReasonReady, "")
	Remove(t, template)
	awaitScheduleSays(t, missing, v1alpha1.ConditionReady, IsFalse, v1alpha1.ReasonTemplateNotFound, "there is no TenantJobTemplate "+template.Name)
}

// TestTenantScheduleRefusedFanOut: the API server refuses what the ticks make. They are missed, and the schedule stays alive.
func TestTenantScheduleRefusedFanOut(t *testing.T) {
	WithoutOperator(t)
	template := NewTemplate(t, nil)
	ts := since(t, NewSchedule(t, "0 * * * *", running(template)), "2020-08-03 09:30")
	s := &scheduler{schedule: ts, clock: clockAt(at(t, "2020-08-03 10:00"))}
	var refuses atomic.Bool
	refuses.Store(true)
	s.through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/tenantfanouts") || !refuses.Load() {
			return next.RoundTrip(r)
		}
		// The one that asks for the time passes.
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if !bytes.Contains(body, []byte(template.Name)) {
			return next.RoundTrip(r)
		}
		invalid := apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "post", v1alpha1.GroupVersion.WithResource("tenantfanouts").GroupResource(), "", "", 0, false)
		invalid.ErrStatus.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		invalid.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeFieldValueInvalid, Field: "spec.tenants", Message: "Invalid value"}}
		answer, _ := json.Marshal(invalid.ErrStatus)
		return &http.Response{
			StatusCode: http.StatusUnprocessableEntity, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(answer)),
		}, nil
	}
	s.start(t)
	awaitRan(t, ts, ran{nil, "", "1 2020-08-03 10:00 InvalidFanOut", "2020-08-03 11:00"})
	awaitScheduleSays(t, ts, v1alpha1.ConditionReady, IsFalse, v1alpha1.ReasonInvalidFanOut, "`spec.fanOutTemplate.spec.tenants`: Invalid value")
	g := gomega.NewWithT(t)
	g.Expect(Judged(t, ts)).To(gomega.Equal(status.FailedStatus))
	s.turn(t, "2020-08-03 11:00")
	awaitRan(t, ts, ran{nil, "", "2 2020-08-03 11:00 InvalidFanOut", "2020-08-03 12:00"})
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(eventsOf(t, g, ts)).To(gomega.ContainElement("Warning InvalidFanOut `spec.fanOutTemplate.spec.tenants`: Invalid value"))
	})
	refuses.Store(false)
	s.turn(t, "2020-08-03 12:00")
	awaitRan(t, ts, ran{[]string{"2020-08-03 12:00"}, "2020-08-03 12:00", "2 2020-08-03 11:00 InvalidFanOut", "2020-08-03 13:00"})
	awaitScheduleSays(t, ts, v1alpha1.ConditionReady, IsTrue, v1alpha1.ReasonReady, "")
	g.Expect(Judged(t, ts)).To(gomega.Equal(status.CurrentStatus))
}

// TestTenantScheduleUnreadable: what admission lets no user write may still be there, from before an upgrade.
func TestTenantScheduleUnreadable(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*v1alpha1.TenantSchedule)
		want   string
	}{
		"the zone":       {in("Europe/Nowhere"), "`spec.timeZone`: \"Europe/Nowhere\" must be an IANA time zone"},
		"the expression": {func(ts *v1alpha1.TenantSchedule) { ts.Spec.Schedule = "0 0 31 2 *" }, "`spec.schedule`: day of month \"31\" never comes"},
		"many ticks a day": {
			func(ts *v1alpha1.TenantSchedule) {
				ts.Spec.Schedule, ts.Spec.TimeZoneFrom = "0 8,9 * * *", v1alpha1.TimeZoneFromTenant
			},
			"`spec.schedule` must have at most one tick a day",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts := &v1alpha1.TenantSchedule{
				ObjectMeta: metav1.ObjectMeta{Name: "old", UID: types.UID("1"), Generation: 2},
				Spec:       v1alpha1.TenantScheduleSpec{Schedule: "0 2 * * *", TimeZone: "Etc/UTC", FanOutTemplate: v1alpha1.FanOutTemplate{Spec: NobodysFanOut}},
			}
			tc.change(ts)
			api := fake.NewClientBuilder().WithScheme(Scheme).WithObjects(ts).WithStatusSubresource(ts).
				WithIndex(&v1alpha1.TenantFanOut{}, "schedule", func(client.Object) []string { return nil }).
				WithInterceptorFuncs(interceptor.Funcs{Create: func(_ context.Context, _ client.WithWatch, obj client.Object, _ ...client.CreateOption) error {
					obj.SetCreationTimestamp(metav1.Now())
					return nil
				}}).Build()
			emitted := events.NewFakeRecorder(10)
			r := &schedules.Reconciler{Client: kube.Client{Client: api, Live: api, Events: emitted}, Clock: clockAt(time.Now())}
			g := gomega.NewWithT(t)
			for range 2 {
				g.Expect(api.Get(t.Context(), kube.KeyOf(ts), ts)).To(gomega.Succeed())
				result, err := r.Reconcile(t.Context(), ts)
				g.Expect(err).NotTo(gomega.HaveOccurred())
				g.Expect(result.RequeueAfter).To(gomega.BeZero())
				g.Expect(api.Get(t.Context(), kube.KeyOf(ts), ts)).To(gomega.Succeed())
				ready := conditions.Get(ts.Status.Conditions, v1alpha1.ConditionReady)
				g.Expect([]any{ready.Status, ready.Reason, ready.Message}).To(gomega.HaveExactElements(IsFalse, v1alpha1.ReasonInvalidSchedule, gomega.ContainSubstring(tc.want)))
				g.Expect(Judged(t, ts)).To(gomega.Equal(status.FailedStatus))
				g.Expect(ts.Status.NextScheduleTimes).To(gomega.BeEmpty())
			}
			g.Expect(emitted.Events).To(gomega.HaveLen(1), "it is emitted once")
			g.Expect(<-emitted.Events).To(gomega.ContainSubstring("Warning InvalidSchedule " + tc.want))
		})
	}
}
