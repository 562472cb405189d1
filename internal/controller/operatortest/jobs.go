package operatortest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/job"
)

// NewRun makes a TenantJob with a name of its own.
func NewRun(t *testing.T, tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate, change func(*v1alpha1.TenantJob)) *v1alpha1.TenantJob {
	t.Helper()
	tj := &v1alpha1.TenantJob{
		ObjectMeta: Within(tenant, fmt.Sprintf("run-%d", Serial.Add(1))),
		Spec: v1alpha1.TenantJobSpec{
			TenantRef:   v1alpha1.TenantReference{Name: tenant.Name},
			TemplateRef: v1alpha1.LabelReference{Name: template.Name},
		},
	}
	change(tj)
	return Create(t, tj)
}

// NewReadyTemplate makes a TenantJobTemplate and waits until it can run.
func NewReadyTemplate(t *testing.T, change func(*v1alpha1.TenantJobTemplate)) *v1alpha1.TenantJobTemplate {
	t.Helper()
	template := NewTemplate(t, change)
	AwaitReadiness(t, template, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	return template
}

// AwaitReadiness waits until a template's condition Ready speaks of its present generation and says this.
func AwaitReadiness(t *testing.T, template *v1alpha1.TenantJobTemplate, status metav1.ConditionStatus, reason, message string) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		Get(t, g, template)
		ready := conditions.Get(template.Status.Conditions, v1alpha1.ConditionReady)
		g.Expect([]any{ready.Status, ready.Reason, ready.Message}).To(gomega.HaveExactElements(status, reason, gomega.ContainSubstring(message)))
		g.Expect([]int64{ready.ObservedGeneration, template.Status.ObservedGeneration}).To(gomega.HaveEach(template.Generation))
	})
}

// AwaitStatus waits until a TenantJob's condition Succeeded speaks of its present generation and says this.
func AwaitStatus(t *testing.T, tj *v1alpha1.TenantJob, status metav1.ConditionStatus, reason, message string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			logAll(t, tj.Namespace)
		}
	}()
	Eventually(t, func(g gomega.Gomega) {
		Get(t, g, tj)
		c := conditions.Get(tj.Status.Conditions, v1alpha1.ConditionSucceeded)
		g.Expect([]any{c.Status, c.Reason, c.Message}).To(gomega.HaveExactElements(status, reason, gomega.ContainSubstring(message)))
		g.Expect([]int64{c.ObservedGeneration, tj.Status.ObservedGeneration}).To(gomega.HaveEach(tj.Generation))
	})
}

// JobOf names the Job of a TenantJob, to be read.
func JobOf(tj *v1alpha1.TenantJob) *batchv1.Job {
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: tj.Namespace, Name: tj.Name}}
}

// Finish ends the run of a TenantJob.
func Finish(t *testing.T, tj *v1alpha1.TenantJob, phase corev1.PodPhase) {
	t.Helper()
	EndPod(t, AwaitRunningPod(t, tj), phase)
}

// AwaitPodCreated waits for the Job controller's event about the pod that it has created for a TenantJob, and for the next second: what
// is created from then on is certainly younger.
func AwaitPodCreated(t *testing.T, tj *v1alpha1.TenantJob) {
	t.Helper()
	Eventually(t, func(g gomega.Gomega) {
		var events corev1.EventList
		about := client.MatchingFields{"involvedObject.name": tj.Name, "reason": "SuccessfulCreate"}
		g.Expect(Admin.List(t.Context(), &events, client.InNamespace(tj.Namespace), about)).To(gomega.Succeed())
		g.Expect(events.Items).NotTo(gomega.BeEmpty())
		for _, e := range events.Items {
			g.Expect(time.Since(e.CreationTimestamp.Time)).To(gomega.BeNumerically(">", time.Second))
		}
	})
}

// ExitPod ends a pod as its container would that exits with a code and last words.
func ExitPod(t *testing.T, pod *corev1.Pod, code int32, words string) {
	t.Helper()
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: "Error", Message: words, FinishedAt: metav1.Now()},
	}}}
	if err := setExit(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

func setExit(ctx context.Context, pod *corev1.Pod) error {
	base := pod.DeepCopy()
	base.Status.ContainerStatuses = nil
	pod.Status.Phase = corev1.PodFailed
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}
	return Admin.Status().Patch(ctx, pod, client.MergeFrom(base))
}

// FinishAll ends each pod of a tenant well as soon as it runs, for as long as the test goes on.
func FinishAll(t *testing.T, tenant *v1alpha1.Tenant) {
	t.Helper()
	Follow(t, &corev1.PodList{}, tenant.NamespaceName(), func(ctx context.Context, _ watch.EventType, obj client.Object) {
		if pod := obj.(*corev1.Pod); pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil {
			_ = SetPhase(ctx, pod, corev1.PodSucceeded, corev1.ConditionFalse)
		}
	})
}

// Follow calls back with everything that happens to the objects of a namespace from now on.
func Follow(t *testing.T, list client.ObjectList, namespace string, each func(context.Context, watch.EventType, client.Object)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w, err := Admin.Watch(ctx, list, client.InNamespace(namespace))
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		w.Stop()
		<-done
	})
	go func() {
		defer close(done)
		for e := range w.ResultChan() {
			if obj, ok := e.Object.(client.Object); ok {
				each(ctx, e.Type, obj)
			}
		}
	}()
}

// JobLog is what has become of a namespace's Jobs, in the order of the API server.
type JobLog struct {
	mu sync.Mutex
	// order is the names of the Jobs as they were made. One that was made twice is in it twice.
	order []string
	Live  map[types.UID]bool
	// most is how many lived at once.
	most int
}

// FollowJobs keeps the log of a tenant's Jobs from now on.
func FollowJobs(t *testing.T, tenant *v1alpha1.Tenant) *JobLog {
	t.Helper()
	l := &JobLog{Live: map[types.UID]bool{}}
	Follow(t, &batchv1.JobList{}, tenant.NamespaceName(), func(_ context.Context, event watch.EventType, obj client.Object) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if event == watch.Added {
			l.order = append(l.order, obj.GetName())
		}
		if event != watch.Deleted && job.IsLive(obj.(*batchv1.Job)) {
			l.Live[obj.GetUID()] = true
		} else {
			delete(l.Live, obj.GetUID())
		}
		l.most = max(l.most, len(l.Live))
	})
	return l
}

// logAll logs what is in a namespace, for whoever has to find out why a test failed.
func logAll(t *testing.T, namespace string) {
	t.Helper()
	for _, list := range []client.ObjectList{&v1alpha1.TenantJobList{}, &batchv1.JobList{}, &corev1.PodList{}} {
		if err := Admin.List(context.Background(), list, client.InNamespace(namespace)); err != nil {
			t.Log(err)
		}
		_ = meta.EachListItem(list, func(obj runtime.Object) error {
			o := obj.(client.Object)
			fields, _ := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
			status, _ := json.Marshal(fields["status"])
			t.Logf("%T %s made %s, going: %t, %s", o, o.GetName(), o.GetCreationTimestamp().Format(time.TimeOnly), o.GetDeletionTimestamp() != nil, status)
			return nil
		})
	}
}

// Made returns the names of the Jobs that there have ever been, and how many there were at most at once.
func (l *JobLog) Made() (names []string, most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string{}, l.order...), l.most
}

// WritesFor are the writes for a TenantJob and its Job among some requests.
func WritesFor(tj *v1alpha1.TenantJob, requests []string) []string {
	var writes []string
	for _, r := range requests {
		method, path, _ := strings.Cut(r, " ")
		if method != http.MethodGet && (strings.Contains(path, tj.Namespace+"/tenantjobs/"+tj.Name) || strings.HasSuffix(path, tj.Namespace+"/jobs") ||
			strings.Contains(path, tj.Namespace+"/jobs/"+tj.Name)) {
			writes = append(writes, strings.NewReplacer(tj.Namespace, "NS", tj.Name, "RUN").Replace(r))
		}
	}
	return writes
}
