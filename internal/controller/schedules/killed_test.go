package schedules_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/internal/controller/schedules"
	"github.com/tenantry/tenantry/internal/kube"
	"github.com/tenantry/tenantry/internal/schedule"
)

// These tests stop the operator of all tests, so none of them is parallel to others.

// fanOutLog counts how often each fan-out of a schedule was made.
type fanOutLog struct {
	mu   sync.Mutex
	made map[string]int
}

// followFanOuts keeps the log from now on.
func followFanOuts(t *testing.T, ts *v1alpha1.TenantSchedule) *fanOutLog {
	t.Helper()
	name := ts.Name // the test reads ts anew all the time
	l := &fanOutLog{made: map[string]int{}}
	Follow(t, &v1alpha1.TenantFanOutList{}, "", func(_ context.Context, event watch.EventType, obj client.Object) {
		if event == watch.Added && obj.GetLabels()[v1alpha1.LabelSchedule] == name {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.made[obj.GetName()]++
		}
	})
	return l
}

func (l *fanOutLog) counts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.made)
}

// writes passes the requests of a scheduler that write something for its schedule: it has no other.
func writes(r *http.Request) bool {
	return r.Method != http.MethodGet && !isDryRun(r) &&
		(strings.Contains(r.URL.Path, "/tenantfanouts") || strings.Contains(r.URL.Path, "/tenantschedules/"))
}

// TestTenantScheduleOperatorKilled kills the operator before and after each of its writes: each tick has one fan-out all the
// same, and what is missed is counted once.
func TestTenantScheduleOperatorKilled(t *testing.T) {
	WithoutOperator(t)
	for i, write := range []string{"fan-out of 12:00", "fan-out of 13:00", "status", "deletion of the surplus"} {
		for _, moment := range []string{"before", "after"} {
			t.Run(moment+" "+write, func(t *testing.T) {
				t.Parallel()
				ts := since(t, NewSchedule(t, "0 * * * *", catchUp(2), func(ts *v1alpha1.TenantSchedule) {
					ts.Spec.SuccessfulFanOutsHistoryLimit = new(int32(0))
				}), "2020-08-03 09:30")
				log := followFanOuts(t, ts)
				startScheduler(t, ts, "2020-08-03 10:00").awaitAndStop(t, ran{[]string{"2020-08-03 10:00"}, "2020-08-03 10:00", "", "2020-08-03 11:00"})
				endFanOut(t, schedule.TickName(ts.Name, at(t, "2020-08-03 10:00")), IsTrue, v1alpha1.ReasonCompleted, at(t, "2020-08-03 10:05"))

				killed := make(chan struct{})
				var seen atomic.Int32
				s := &scheduler{schedule: ts, clock: clockAt(at(t, "2020-08-03 13:30"))}
				s.through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
					n := seen.Load()
					if writes(r) {
						n = seen.Add(1)
					}
					if int(n) <= i {
						return next.RoundTrip(r)
					}
					if int(n) == i+1 && writes(r) {
						if moment == "after" {
							if _, err := next.RoundTrip(r); err != nil {
								return nil, err
							}
						}
						close(killed)
						s.cancel()
					}
					return nil, errors.New("killed")
				}
				s.start(t)
				AwaitSignal(t, killed, "it wrote less than it should")
				s.stop()

				startScheduler(t, ts, "2020-08-03 13:30").awaitAndStop(t, ran{
					[]string{"2020-08-03 12:00", "2020-08-03 13:00"}, "2020-08-03 13:00", "1 2020-08-03 11:00 CatchUpLimitExceeded", "2020-08-03 14:00",
				})
				gomega.NewWithT(t).Expect(log.counts()).To(gomega.Equal(map[string]int{
					schedule.TickName(ts.Name, at(t, "2020-08-03 10:00")): 1,
					schedule.TickName(ts.Name, at(t, "2020-08-03 12:00")): 1,
					schedule.TickName(ts.Name, at(t, "2020-08-03 13:00")): 1,
				}))
			})
		}
	}
}

// awaitAndStop waits until the schedule has come to this.
func (s *scheduler) awaitAndStop(t *testing.T, want ran) {
	t.Helper()
	awaitRan(t, s.schedule, want)
	s.stop()
}

// TestTenantScheduleOperatorKilledAgainAndAgain kills the operator all the time while ticks come, some of them too many for
// the limit: each runs once or is counted once.
func TestTenantScheduleOperatorKilledAgainAndAgain(t *testing.T) {
	WithoutOperator(t)
	ts := since(t, NewSchedule(t, "0 * * * *", catchUp(2)), "2020-08-03 00:30")
	log := followFanOuts(t, ts)
	now := at(t, "2020-08-03 00:30")
	for i := range 12 {
		now = now.Add(time.Duration(i%4+1) * time.Hour)
		// It dies with its n-th write.
		var left atomic.Int32
		left.Store(int32(i%3) + 1)
		died := make(chan struct{})
		s := &scheduler{schedule: ts, clock: clockAt(now)}
		s.through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
			if !writes(r) {
				return next.RoundTrip(r)
			}
			n := left.Add(-1)
			if n < 0 || n == 0 && i%2 == 0 {
				if n == 0 {
					close(died)
					s.cancel()
				}
				return nil, errors.New("killed")
			}
			response, err := next.RoundTrip(r)
			if n == 0 {
				close(died)
				s.cancel()
				return nil, errors.New("killed")
			}
			return response, err
		}
		s.start(t)
		select {
		case <-died:
		case <-time.After(5 * time.Second): // there may have been less to write
		}
		s.stop()
	}
	expression, err := schedule.Parse(ts.Spec.Schedule)
	if err != nil {
		t.Fatal(err)
	}
	want := int64(now.Sub(at(t, "2020-08-03 00:30")) / time.Hour) // one tick in each hour
	s := &scheduler{schedule: ts, clock: clockAt(now)}
	s.start(t)
	Eventually(t, func(g gomega.Gomega) {
		Get(t, g, ts)
		g.Expect(ts.Status.NextScheduleTimes).NotTo(gomega.BeEmpty())
		g.Expect(ts.Status.NextScheduleTimes[0].Time).To(gomega.BeTemporally("==", expression.Next(now, time.UTC)))
		counts := log.counts()
		g.Expect(counts).To(gomega.HaveEach(1))
		g.Expect(ts.Status.Missed).NotTo(gomega.BeNil())
		g.Expect(int64(len(counts))+ts.Status.Missed.Count).To(gomega.Equal(want), fmt.Sprint(counts, ts.Status.Missed))
	})
}

// TestTenantScheduleStaleCache: an operator whose cache does not know yet that a tick has had its fan-out, and that it is
// gone again, makes none.
func TestTenantScheduleStaleCache(t *testing.T) {
	WithoutOperator(t)
	ts := since(t, NewSchedule(t, "0 * * * *", catchUp(0)), "2020-08-03 08:30")
	stale := ts.DeepCopy()
	log := followFanOuts(t, ts)
	const missed = "1 2020-08-03 09:00 CatchUpLimitExceeded"
	startScheduler(t, ts, "2020-08-03 10:00").awaitAndStop(t, ran{[]string{"2020-08-03 10:00"}, "2020-08-03 10:00", missed, "2020-08-03 11:00"})
	fanOut := fanOutsOf(t, gomega.NewWithT(t), ts)[0]
	Remove(t, &fanOut)
	AwaitGone(t, &fanOut)

	cached := interceptor.NewClient(Admin, interceptor.Funcs{
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return nil },
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			err := c.Create(ctx, obj, opts...)
			obj.SetCreationTimestamp(metav1.NewTime(at(t, "2020-08-03 10:00:30")))
			return err
		},
	})
	r := &schedules.Reconciler{
		Client: kube.Client{Client: cached, Live: Admin, Events: events.NewFakeRecorder(10)}, Clock: clockAt(at(t, "2020-08-03 10:00:30")),
	}
	g := gomega.NewWithT(t)
	_, err := r.Reconcile(t.Context(), stale)
	g.Expect(err).NotTo(gomega.HaveOccurred())
	g.Expect(ranOf(t, g, ts)).To(gomega.Equal(ran{nil, "2020-08-03 10:00", missed, "2020-08-03 11:00"}))
	g.Expect(log.counts()).To(gomega.HaveEach(1))
}

// TestTenantScheduleApiServerBusy: a fan-out that can't be made now keeps the later ones waiting, and what ran before it is
// written down.
func TestTenantScheduleApiServerBusy(t *testing.T) {
	WithoutOperator(t)
	ts := since(t, NewSchedule(t, "0 * * * *", catchUp(3)), "2020-08-03 09:30")
	log := followFanOuts(t, ts)
	var made, busy atomic.Int32
	busy.Store(1)
	s := &scheduler{schedule: ts, clock: clockAt(at(t, "2020-08-03 12:30"))}
	s.through = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/tenantfanouts") && !isDryRun(r) && made.Add(1) > 1 && busy.Load() == 1 {
			return &http.Response{StatusCode: http.StatusInternalServerError, Header: http.Header{}, Body: http.NoBody}, nil
		}
		return next.RoundTrip(r)
	}
	s.start(t)
	awaitRan(t, ts, ran{[]string{"2020-08-03 10:00"}, "2020-08-03 10:00", "", "2020-08-03 13:00"})
	busy.Store(0)
	awaitRan(t, ts, ran{[]string{"2020-08-03 10:00", "2020-08-03 11:00", "2020-08-03 12:00"}, "2020-08-03 12:00", "", "2020-08-03 13:00"})
	gomega.NewWithT(t).Expect(log.counts()).To(gomega.HaveEach(1))
}
