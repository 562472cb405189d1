package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/job"
)

// note is a parameter that makes a TenantJob about one kB large.
var note = map[string]v1alpha1.ParameterValue{"note": v1alpha1.ParameterValue(strings.Repeat("note ", 8))}

// makeTemplate creates a TenantJobTemplate of a usual size.
func makeTemplate(b *testing.B, c client.Client, name, queue string, changes ...func(*v1alpha1.TenantJobTemplateSpec)) *v1alpha1.TenantJobTemplate {
	b.Helper()
	template := &v1alpha1.TenantJobTemplate{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.TenantJobTemplateSpec{
			QueueRef:    &v1alpha1.LabelReference{Name: queue},
			Parameters:  []v1alpha1.Parameter{{Name: "note", Env: "NOTE"}},
			JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{BackoffLimit: new(int32(2)), Template: podTemplate()}},
		},
	}
	for _, change := range changes {
		change(&template.Spec)
	}
	if err := c.Create(b.Context(), template); err != nil {
		b.Fatal(err)
	}
	return template
}

func podTemplate() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever,
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: new(true), RunAsUser: new(int64(65532)),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Containers: []corev1.Container{{
			Name: "main", Image: "example.com/main:1", Args: []string{"work"},
			SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
				Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
		}},
	}}
}

// awaitTemplate waits until a template can run.
func awaitTemplate(b *testing.B, c client.Client, template *v1alpha1.TenantJobTemplate) {
	b.Helper()
	waitFor(b, "template "+template.Name+" to be ready", func() bool {
		if err := c.Get(b.Context(), client.ObjectKeyFromObject(template), template); err != nil {
			b.Fatal(err)
		}
		return meta.IsStatusConditionTrue(template.Status.Conditions, v1alpha1.ConditionReady)
	})
}

// newTenantJob returns a TenantJob as a person would create it.
func newTenantJob(template *v1alpha1.TenantJobTemplate, tenant int, name string) *v1alpha1.TenantJob {
	return &v1alpha1.TenantJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "tenant-" + tenantName(tenant), Name: name},
		Spec: v1alpha1.TenantJobSpec{
			TenantRef:   v1alpha1.TenantReference{Name: tenantName(tenant)},
			TemplateRef: v1alpha1.LabelReference{Name: template.Name},
			Parameters:  note,
		},
	}
}

// newRun returns a TenantJob like a fan-out's child, and the values from which its Job is built.
func newRun(template *v1alpha1.TenantJobTemplate, tenant int, name string) (job.Run, job.Values, error) {
	tj := newTenantJob(template, tenant, name)
	tj.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(
		&v1alpha1.TenantFanOut{ObjectMeta: metav1.ObjectMeta{Name: name, UID: "00000000-0000-4000-8000-000000000000"}},
		v1alpha1.GroupVersion.WithKind("TenantFanOut"),
	)}
	run := job.Run{
		TenantJob: tj,
		Tenant: &v1alpha1.Tenant{
			ObjectMeta: metav1.ObjectMeta{Name: tenantName(tenant), UID: types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", tenant))},
			Spec:       v1alpha1.TenantSpec{ExternalID: fmt.Sprintf("customer-%d", tenant), Attributes: map[string]v1alpha1.AttributeValue{"plan": "gold"}},
		},
		Template: template,
		FanOut:   &job.FanOut{Name: name},
	}
	values, err := job.Resolve(template.Spec.Parameters, note)
	tj.Labels = job.Labels(run, values)
	return run, values, err
}

// arrivals are the times at which the watch showed new Jobs. Their creationTimestamp has only whole seconds.
type arrivals struct {
	mu sync.Mutex
	at map[types.NamespacedName]time.Time
	// tell is called for each Job.
	tell []func(*batchv1.Job)
}

// watchJobs records when Jobs are created, and calls made for each, until stop is called.
func watchJobs(b *testing.B, c client.WithWatch, made ...func(*batchv1.Job)) (seen *arrivals, stop func()) {
	b.Helper()
	var jobs batchv1.JobList
	if err := c.List(b.Context(), &jobs, client.Limit(1)); err != nil {
		b.Fatal(err)
	}
	seen = &arrivals{at: map[types.NamespacedName]time.Time{}, tell: made}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The API server closes the watch if its client is slow for a moment.
		for version, err := jobs.ResourceVersion, error(nil); ctx.Err() == nil; {
			if version, err = seen.watch(ctx, c, version); err != nil && ctx.Err() == nil {
				b.Errorf("watching Jobs: %v", err)
				return
			}
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	b.Cleanup(stop)
	return seen, stop
}

// watch records the events after a resource version until the watch is closed, and returns the last resource version.
func (a *arrivals) watch(ctx context.Context, c client.WithWatch, version string) (string, error) {
	w, err := c.Watch(ctx, &batchv1.JobList{}, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: version}})
	if err != nil {
		return version, err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		j, isJob := event.Object.(*batchv1.Job)
		if !isJob {
			return version, apierrors.FromObject(event.Object)
		}
		version = j.ResourceVersion
		if event.Type == watch.Added {
			a.add(j, time.Now())
		}
	}
	return version, nil
}

func (a *arrivals) add(j *batchv1.Job, at time.Time) {
	a.mu.Lock()
	a.at[client.ObjectKeyFromObject(j)] = at
	a.mu.Unlock()
	for _, tell := range a.tell {
		tell(j)
	}
}

func (a *arrivals) of(key types.NamespacedName) (at time.Time, seen bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, seen = a.at[key]
	return at, seen
}

func (a *arrivals) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.at)
}

// await waits until n Jobs were created.
func (a *arrivals) await(b *testing.B, n int) {
	b.Helper()
	waitFor(b, fmt.Sprintf("%d Jobs", n), func() bool {
		if b.Failed() {
			b.FailNow()
		}
		return a.count() >= n
	})
}

// starts are figures about the creation of a number of Jobs.
type starts struct {
	first, median, last time.Duration
	// between the first and the last, and overall, are Jobs a second.
	between, overall float64
}

// after returns the figures of all recorded Jobs, as times since the beginning.
func (a *arrivals) after(began time.Time) starts {
	a.mu.Lock()
	defer a.mu.Unlock()
	passed := make([]time.Duration, 0, len(a.at))
	for _, at := range a.at {
		passed = append(passed, at.Sub(began))
	}
	slices.Sort(passed)
	n := len(passed)
	s := starts{first: passed[0], median: passed[n/2], last: passed[n-1]}
	s.overall = float64(n) / s.last.Seconds()
	if n > 1 {
		s.between = float64(n-1) / (s.last - s.first).Seconds()
	}
	return s
}

// complete writes the status that the Job controller writes when a Job has completed.
func complete(ctx context.Context, c client.Client, key types.NamespacedName) error {
	now := metav1.Now()
	var conditions []batchv1.JobCondition
	for _, t := range []batchv1.JobConditionType{batchv1.JobSuccessCriteriaMet, batchv1.JobComplete} {
		conditions = append(conditions, batchv1.JobCondition{Type: t, Status: corev1.ConditionTrue, LastProbeTime: now, LastTransitionTime: now})
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{
		"startTime": now, "completionTime": now, "succeeded": 1, "conditions": conditions,
	}})
	if err != nil {
		return err
	}
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	if err := c.Status().Patch(ctx, j, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return fmt.Errorf("completing Job %s: %w", key, err)
	}
	return nil
}

// completeAll completes all recorded Jobs.
func (a *arrivals) completeAll(b *testing.B, c client.Client) {
	b.Helper()
	a.mu.Lock()
	keys := make([]types.NamespacedName, 0, len(a.at))
	for key := range a.at {
		keys = append(keys, key)
	}
	a.mu.Unlock()
	inParallel(b, 0, len(keys), func(i int) error { return complete(b.Context(), c, keys[i]) })
}
