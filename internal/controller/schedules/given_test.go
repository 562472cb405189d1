package schedules_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onsi/gomega"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	ctrlcontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/internal/controller/schedules"
	"github.com/tenantry/tenantry/internal/kube"
)

// minutes is how these tests write times, in UTC.
const minutes = "2006-01-02 15:04"

// at reads a time. Seconds may follow the minutes.
func at(t *testing.T, text string) time.Time {
	t.Helper()
	layout := minutes
	if len(text) > len(minutes) {
		layout += ":05"
	}
	read, err := time.Parse(layout, text)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// since has a schedule look as an operator left it that saw it at a time, and since then nothing happened: so its ticks may
// lie in the past of the API server, which never is asked to wait for one.
func since(t *testing.T, ts *v1alpha1.TenantSchedule, seen string) *v1alpha1.TenantSchedule {
	t.Helper()
	return patchedStatus(t, ts, func(status *v1alpha1.TenantScheduleStatus) {
		status.ObservedGeneration = ts.Generation
		status.EffectiveTime = new(metav1.NewTime(at(t, seen)))
	})
}

func patchedStatus(t *testing.T, ts *v1alpha1.TenantSchedule, change func(*v1alpha1.TenantScheduleStatus)) *v1alpha1.TenantSchedule {
	t.Helper()
	base := ts.DeepCopy()
	change(&ts.Status)
	if err := Admin.Status().Patch(t.Context(), ts, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
	return ts
}

// scheduler is an operator that cares for one TenantSchedule and for nothing else, by a clock that the test turns. It has
// the rights of the real one.
type scheduler struct {
	schedule *v1alpha1.TenantSchedule
	clock    *clocktesting.FakeClock
	// served is the API server's clock, as far as the scheduler can see it. Nil means that it shows what clock shows.
	served clock.PassiveClock
	// through is asked instead of the API server. It may pass the request on.
	through func(next http.RoundTripper, r *http.Request) (*http.Response, error)

	cancel context.CancelFunc
	done   chan struct{}
	once   sync.Once
}

func clockAt(now time.Time) *clocktesting.FakeClock { return clocktesting.NewFakeClock(now) }

// startScheduler starts one whose clock shows a time.
func startScheduler(t *testing.T, ts *v1alpha1.TenantSchedule, now string) *scheduler {
	t.Helper()
	s := &scheduler{schedule: ts, clock: clockAt(at(t, now))}
	s.start(t)
	return s
}

func (s *scheduler) start(t *testing.T) {
	t.Helper()
	t.Cleanup(s.stop)
	if s.served == nil {
		s.served = s.clock
	}
	cfg := rest.CopyConfig(RestConfig)
	cfg.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + OperatorNamespace + ":tenantry",
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + OperatorNamespace, "system:authenticated"},
	}
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		next = dated{next, s.served}
		return RoundTripper(func(r *http.Request) (*http.Response, error) {
			if s.through == nil {
				return next.RoundTrip(r)
			}
			return s.through(next, r)
		})
	})
	cached := kube.CacheOptions()
	cached.ByObject[&v1alpha1.TenantSchedule{}] = cache.ByObject{Field: fields.OneTermEqualSelector("metadata.name", s.schedule.Name)}
	mgr, err := ctrl.NewManager(cfg, manager.Options{
		Scheme: Scheme, Cache: cached, Client: kube.ClientOptions(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: new(true)}, GracefulShutdownTimeout: new(10 * time.Second),
	})
	if err != nil {
		t.Fatal(err)
	}
	reconciler := &schedules.Reconciler{Client: kube.NewClient(mgr), Clock: s.clock}
	if err := errors.Join(kube.IndexFanOuts(mgr.GetFieldIndexer()), reconciler.SetupWithManager(mgr, ctrlcontroller.Options{MaxConcurrentReconciles: 8})); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.done, s.once = cancel, make(chan struct{}), sync.Once{}
	go func() {
		defer close(s.done)
		_ = mgr.Start(ctx) // it may have been killed
	}()
	if !mgr.GetCache().WaitForCacheSync(ctx) && ctx.Err() == nil {
		t.Fatal("the cache did not sync")
	}
}

// stop returns when it no longer runs.
func (s *scheduler) stop() {
	s.once.Do(func() {
		s.cancel()
		<-s.done
	})
}

// turn sets the clock, and has the schedule looked at: that it is to be looked at later is meant by the real clock.
func (s *scheduler) turn(t *testing.T, now string) {
	t.Helper()
	s.clock.SetTime(at(t, now))
	touch(t, s.schedule)
}

// touch has a schedule looked at.
func touch(t *testing.T, ts *v1alpha1.TenantSchedule) {
	t.Helper()
	Patch(t, ts, func(o *v1alpha1.TenantSchedule) {
		metav1.SetMetaDataAnnotation(&o.ObjectMeta, "test.example.com/look", fmt.Sprint(Serial.Add(1)))
	})
}

// dated puts the time of another clock on what the API server answers to a dry run.
type dated struct {
	http.RoundTripper
	clock clock.PassiveClock
}

func (d dated) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := d.RoundTripper.RoundTrip(r)
	if err != nil || !isDryRun(r) || response.StatusCode != http.StatusCreated {
		return response, err
	}
	defer func() { _ = response.Body.Close() }()
	var obj map[string]any
	if err := json.NewDecoder(response.Body).Decode(&obj); err != nil {
		return nil, err
	}
	obj["metadata"].(map[string]any)["creationTimestamp"] = d.clock.Now().UTC().Format(time.RFC3339)
	body, err := json.Marshal(obj)
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return response, err
}

func isDryRun(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("dryRun")
}

// ran is what a schedule has come to.
type ran struct {
	// FanOuts are the ticks of those that exist.
	FanOuts []string
	Last    string
	Missed  string
	Next    string
}

// ranOf reads it anew.
func ranOf(t *testing.T, g gomega.Gomega, ts *v1alpha1.TenantSchedule) ran {
	t.Helper()
	Get(t, g, ts)
	r := ran{Last: textOf(ts.Status.LastScheduleTime)}
	for _, fanOut := range fanOutsOf(t, g, ts) {
		tick, err := time.Parse(time.RFC3339, fanOut.Annotations[v1alpha1.AnnotationScheduledTime])
		g.Expect(err).NotTo(gomega.HaveOccurred())
		r.FanOuts = append(r.FanOuts, tick.UTC().Format(minutes))
	}
	if missed := ts.Status.Missed; missed != nil {
		r.Missed = fmt.Sprintf("%d %s %s", missed.Count, textOf(missed.LastTime), missed.LastReason)
	}
	if next := ts.Status.NextScheduleTimes; len(next) > 0 {
		r.Next = textOf(&next[0])
	}
	return r
}

// fanOutsOf returns the fan-outs that a schedule made, by name.
func fanOutsOf(t *testing.T, g gomega.Gomega, ts *v1alpha1.TenantSchedule) []v1alpha1.TenantFanOut {
	t.Helper()
	var all v1alpha1.TenantFanOutList
	g.Expect(Admin.List(t.Context(), &all, client.MatchingLabels{v1alpha1.LabelSchedule: ts.Name})).To(gomega.Succeed())
	slices.SortFunc(all.Items, func(a, b v1alpha1.TenantFanOut) int { return cmp.Compare(a.Name, b.Name) })
	return all.Items
}

func textOf(t *metav1.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(minutes)
}

// awaitRan waits until a schedule has come to this, as its spec is by now.
func awaitRan(t *testing.T, ts *v1alpha1.TenantSchedule, want ran) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(ranOf(t, g, ts)).To(gomega.Equal(want))
		g.Expect(ts.Status.ObservedGeneration).To(gomega.Equal(ts.Generation))
	})
}

// endFanOut ends a fan-out, as its controller would.
func endFanOut(t *testing.T, name string, status metav1.ConditionStatus, reason string, completed time.Time) {
	t.Helper()
	fanOut := &v1alpha1.TenantFanOut{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := Read(t.Context(), fanOut); err != nil {
		t.Fatal(err)
	}
	base := fanOut.DeepCopy()
	fanOut.Status.CompletionTime = new(metav1.NewTime(completed))
	conditions.Of(&fanOut.Status.Conditions, fanOut.Generation).Set(v1alpha1.ConditionSucceeded, status, reason, "2 of 3 tenants")
	if err := Admin.Status().Patch(t.Context(), fanOut, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
}

// eventsOf returns what events have emitted of an object.
func eventsOf(t *testing.T, g gomega.Gomega, obj client.Object) []string {
	t.Helper()
	var all eventsv1.EventList
	g.Expect(Admin.List(t.Context(), &all)).To(gomega.Succeed())
	var emitted []string
	for _, e := range all.Items {
		if e.Regarding.UID == obj.GetUID() {
			emitted = append(emitted, strings.Join([]string{e.Type, e.Reason, e.Note}, " "))
		}
	}
	return emitted
}
