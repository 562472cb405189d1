package jobs_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/internal/kube"
)

// pending keeps a template's pods from running, until runs lets one.
func pending(o *v1alpha1.TenantJobTemplate) {
	metav1.SetMetaDataAnnotation(&o.Spec.JobTemplate.Spec.Template.ObjectMeta, AnnotationPending, "true")
}

func TestTenantJobRuns(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{
		ExternalID: "9f1c0c1e", TimeZone: "America/New_York", Attributes: map[string]v1alpha1.AttributeValue{"plan": "gold"},
	})
	template := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		pending(o)
		o.Spec.Parameters = []v1alpha1.Parameter{{Name: "payment", Tag: new(true)}, {Name: "graceDays", Default: new(v1alpha1.ParameterValue("3"))}}
		o.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "LEVEL", Value: "debug"}, {Name: "TENANT_NAMES", Value: "x"}}
	})
	jobs := FollowJobs(t, tenant)
	began := time.Now().Add(-time.Second)
	tj := NewRun(t, tenant, template, func(o *v1alpha1.TenantJob) {
		o.Labels = map[string]string{"tag.tenantry.dev/ticket": "77", "team": "billing"}
		o.Spec.Parameters = map[string]v1alpha1.ParameterValue{"payment": "8231"}
	})

	AwaitStatus(t, tj, Unknown, v1alpha1.ReasonStarting, "waiting for its pod")
	g := gomega.NewWithT(t)
	j := Get(t, g, JobOf(tj))
	var pods corev1.PodList
	g.Expect(Admin.List(t.Context(), &pods, client.InNamespace(tj.Namespace))).To(gomega.Succeed())
	g.Expect(pods.Items).To(gomega.HaveLen(1))
	pod := &pods.Items[0]
	labels := map[string]string{
		"tenantry.dev/tenant": tenant.Name, "tenantry.dev/template": template.Name, "tenantry.dev/queue": "default",
		"tag.tenantry.dev/ticket": "77", "tag.tenantry.dev/payment": "8231",
	}
	ours := func(all map[string]string) map[string]string {
		kept := map[string]string{}
		for key, value := range all {
			if strings.Contains(key, "tenantry.dev/") {
				kept[key] = value
			}
		}
		return kept
	}
	type facts struct {
		TenantJob, Job, Pod map[string]string
		JobTeam             string
		Env                 []corev1.EnvVar
		ServiceAccount      string
		Token               *bool
		Deadline            *int64
		JobRef              *v1alpha1.LocalReference
		TenantUID           any
		TemplateGeneration  int64
		Controlled          bool
	}
	want := facts{
		TenantJob: labels, Job: labels, Pod: labels,
		Env: []corev1.EnvVar{
			{Name: "TENANT_ID", Value: "9f1c0c1e"}, {Name: "TENANT_NAME", Value: tenant.Name},
			{Name: "TENANTRY_NAMESPACE", Value: tenant.NamespaceName()}, {Name: "TENANTRY_TENANT_UID", Value: string(tenant.UID)},
			{Name: "TENANTRY_TIME_ZONE", Value: "America/New_York"}, {Name: "TENANTRY_JOB_NAME", Value: tj.Name},
			{Name: "TENANTRY_JOB_UID", Value: string(tj.UID)}, {Name: "TENANTRY_TEMPLATE", Value: template.Name},
			{Name: "TENANTRY_QUEUE", Value: "default"}, {Name: "TENANTRY_FAN_OUT"}, {Name: "TENANTRY_SCHEDULED_TIME"},
			{Name: "TENANTRY_ATTRIBUTE_PLAN", Value: "gold"}, {Name: "PAYMENT", Value: "8231"}, {Name: "GRACE_DAYS", Value: "3"},
			{Name: "LEVEL", Value: "debug"}, {Name: "TENANT_NAMES", Value: "x"},
		},
		ServiceAccount: "tenant-runner", Token: new(false), Deadline: new(int64(86400)), Controlled: true,
		JobRef: &v1alpha1.LocalReference{Name: tj.Name}, TenantUID: tenant.UID, TemplateGeneration: template.Generation,
	}
	got := facts{
		TenantJob: ours(tj.Labels), Job: ours(j.Labels), Pod: ours(pod.Labels), JobTeam: j.Labels["team"],
		Env: pod.Spec.Containers[0].Env, ServiceAccount: pod.Spec.ServiceAccountName, Token: pod.Spec.AutomountServiceAccountToken,
		Deadline: j.Spec.ActiveDeadlineSeconds, JobRef: tj.Status.JobRef, TenantUID: tj.Status.TenantUID,
		TemplateGeneration: tj.Status.TemplateGeneration, Controlled: metav1.IsControlledBy(j, tj),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the run (-want, +got):\n%s", diff)
	}
	g.Expect(tj.Status.StartTime.Time).To(gomega.BeTemporally("~", began, 10*time.Second))
	g.Expect(*tj.Status.StartTime).To(gomega.Equal(j.CreationTimestamp))
	g.Expect(tj.Status.CompletionTime).To(gomega.BeNil())
	g.Expect(conditions.Get(tj.Status.Conditions, v1alpha1.ConditionReconciling).Status).To(gomega.Equal(IsTrue))

	runs(t, pod)
	AwaitStatus(t, tj, Unknown, v1alpha1.ReasonRunning, "a pod is running")
	started := tj.Status.StartTime
	EndPod(t, Get(t, g, pod), corev1.PodSucceeded)
	AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "the Job completed")
	g.Expect(tj.Status.StartTime).To(gomega.Equal(started))
	g.Expect(tj.Status.CompletionTime.Time).To(gomega.BeTemporally(">=", started.Time))
	g.Expect(*tj.Status.CompletionTime).To(gomega.Equal(*Get(t, g, j).Status.CompletionTime))
	g.Expect(tj.Status.Conditions).To(gomega.HaveLen(1), "neither Reconciling nor Stalled is left")
	made, _ := jobs.Made()
	g.Expect(made).To(gomega.HaveExactElements(tj.Name))
}

// runs lets a pending pod run.
func runs(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	Patch(t, pod, func(o *corev1.Pod) { delete(o.Annotations, AnnotationPending) })
}

// TestTenantJobCosts holds what a run costs to what the design says. It is not parallel: a pod that takes longer than
// job.SettleAfter to run costs a write more, which says so.
func TestTenantJobCosts(t *testing.T) {
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	template := NewReadyTemplate(t, nil)
	const label, start, status = "PATCH /apis/tenantry.dev/v1alpha1/namespaces/NS/tenantjobs/RUN", "POST /apis/batch/v1/namespaces/NS/jobs",
		"PATCH /apis/tenantry.dev/v1alpha1/namespaces/NS/tenantjobs/RUN/status"
	labels := map[string]string{"tenantry.dev/tenant": tenant.Name, "tenantry.dev/template": template.Name, "tenantry.dev/queue": "default"}
	WithoutOperator(t)
	var sent RequestLog
	a := &OtherOperator{Clock: &ShiftedClock{}, Through: sent.Through, VerifyInterval: time.Hour}
	a.Clock.StopAt(time.Now())
	a.Start(t)
	// The verification of the tenant, which looks at its pods, too, comes once.
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(sent.All()).To(gomega.ContainElement("GET /api/v1/namespaces/" + tenant.NamespaceName() + "/pods"))
	})
	for name, given := range map[string]struct {
		labels map[string]string
		want   []string
	}{
		"made by hand":                      {nil, []string{label, start, status, status}},
		"made by a fan-out with its labels": {labels, []string{start, status, status}},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(sent.All())
			tj := NewRun(t, tenant, template, func(o *v1alpha1.TenantJob) { o.Labels = given.labels })
			// By the operator's clock the pod runs before the first moments of the run are over.
			Eventually(t, func(g gomega.Gomega) {
				seen := a.Jobs.In(tj.Namespace)
				at := slices.IndexFunc(seen, func(j *batchv1.Job) bool { return j.Name == tj.Name })
				g.Expect(at).To(gomega.BeNumerically(">=", 0))
				g.Expect(seen[at].Status.Ready).To(gomega.HaveValue(gomega.Equal(int32(1))))
			})
			a.Clock.StopAt(time.Now().Add(time.Minute))
			AwaitStatus(t, tj, Unknown, v1alpha1.ReasonRunning, "")
			Finish(t, tj, corev1.PodSucceeded)
			AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
			all := sent.All()[before:]
			g := gomega.NewWithT(t)
			g.Expect(WritesFor(tj, all)).To(gomega.HaveExactElements(given.want))
			looks := slices.DeleteFunc(all, func(r string) bool { return r != "GET /api/v1/namespaces/"+tj.Namespace+"/pods" })
			g.Expect(looks).To(gomega.BeEmpty(), "the Job says that its pod runs, and that it has completed")
			a.Clock.StopAt(time.Now())
		})
	}
	t.Run("a short one", func(t *testing.T) {
		FinishAll(t, tenant)
		before := len(sent.All())
		tj := NewRun(t, tenant, template, func(o *v1alpha1.TenantJob) { o.Labels = labels })
		AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
		gomega.NewWithT(t).Expect(WritesFor(tj, sent.All()[before:])).To(gomega.HaveExactElements(start, status))
	})
}

func TestTenantJobFails(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	t.Run("JobFailed, with the exit code and no words", func(t *testing.T) {
		t.Parallel()
		tj := NewTenantJob(t, tenant, NewTemplate(t, nil))
		ExitPod(t, AwaitRunningPod(t, tj), 3, "s3cr3t")
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonJobFailed, "backoff limit: container main exited with code 3")
		g := gomega.NewWithT(t)
		g.Expect(conditions.Get(tj.Status.Conditions, v1alpha1.ConditionStalled).Status).To(gomega.Equal(IsTrue))
		g.Expect(tj.Status.CompletionTime).NotTo(gomega.BeNil())
		Eventually(t, func(g gomega.Gomega) {
			var events eventsv1.EventList
			g.Expect(Admin.List(t.Context(), &events, client.InNamespace(tj.Namespace))).To(gomega.Succeed())
			emitted := slices.DeleteFunc(events.Items, func(e eventsv1.Event) bool { return e.Regarding.UID != tj.UID })
			g.Expect(emitted).To(gomega.HaveLen(1))
			g.Expect([]string{emitted[0].Type, emitted[0].Reason}).To(gomega.HaveExactElements(corev1.EventTypeWarning, "JobFailed"))
			g.Expect(emitted[0].Note).NotTo(gomega.ContainSubstring("s3cr3t"))
		})
	})
	t.Run("a retry that succeeds", func(t *testing.T) {
		t.Parallel()
		tj := NewTenantJob(t, tenant, NewTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.JobTemplate.Spec.BackoffLimit = new(int32(1)) }))
		first := AwaitRunningPod(t, tj)
		ExitPod(t, first, 1, "")
		Eventually(t, func(g gomega.Gomega) {
			var pods corev1.PodList
			g.Expect(Admin.List(t.Context(), &pods, client.InNamespace(tj.Namespace), client.MatchingLabels{"batch.kubernetes.io/job-name": tj.Name})).To(gomega.Succeed())
			second := slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.UID == first.UID || p.Status.Phase != corev1.PodRunning })
			g.Expect(second).To(gomega.HaveLen(1))
			EndPod(t, &second[0], corev1.PodSucceeded)
		})
		AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
	})
	t.Run("DeadlineExceeded", func(t *testing.T) {
		t.Parallel()
		tj := NewTenantJob(t, tenant, NewTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.JobTemplate.Spec.ActiveDeadlineSeconds = new(int64(1)) }))
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonDeadlineExceeded, "Job was active longer than specified deadline")
	})
	t.Run("a pod that does not start says why", func(t *testing.T) {
		t.Parallel()
		tj := NewTenantJob(t, tenant, NewTemplate(t, pending))
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonStarting, "waiting for its pod")
		var pods corev1.PodList
		g := gomega.NewWithT(t)
		g.Expect(Admin.List(t.Context(), &pods, client.InNamespace(tj.Namespace), client.MatchingLabels{"batch.kubernetes.io/job-name": tj.Name})).To(gomega.Succeed())
		pod := &pods.Items[0]
		base := pod.DeepCopy()
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: `Back-off pulling image "example.com/app"`},
		}}}
		g.Expect(Admin.Status().Patch(t.Context(), pod, client.MergeFrom(base))).To(gomega.Succeed())
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonStarting, `ImagePullBackOff: Back-off pulling image "example.com/app"`)
	})
	t.Run("a pod whose volumes are not ready says why", func(t *testing.T) {
		t.Parallel()
		tj := NewTenantJob(t, tenant, NewTemplate(t, pending))
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonStarting, "waiting for its pod")
		g := gomega.NewWithT(t)
		pod := &podsOf(t, g, tj)[0]
		g.Expect(Admin.SubResource("binding").Create(t.Context(), pod, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "node-1"}})).To(gomega.Succeed())
		g.Expect(Admin.Create(t.Context(), &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Namespace: pod.Namespace, GenerateName: pod.Name},
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
			Type:           corev1.EventTypeWarning, Reason: "FailedMount", LastTimestamp: metav1.Now(),
			Message: `MountVolume.SetUp failed for volume "db" : secret "db" not found`,
		})).To(gomega.Succeed())
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonStarting, `volume db: FailedMount: secret "db" not found`)
	})
}

func TestTenantJobCancelled(t *testing.T) {
	t.Parallel()
	cancel := func(o *v1alpha1.TenantJob) { o.Spec.Cancel = new(true) }
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	t.Run("waiting", func(t *testing.T) {
		t.Parallel()
		tj := NewRun(t, tenant, NewTemplate(t, nil), func(o *v1alpha1.TenantJob) { o.Spec.NotBeforeTime = new(metav1.NewTime(time.Now().Add(time.Hour))) })
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonNotYetDue, "")
		Patch(t, tj, cancel)
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonCancelled, "")
		g := gomega.NewWithT(t)
		g.Expect(tj.Status.Conditions).To(gomega.HaveLen(1))
		g.Expect(tj.Status.JobRef).To(gomega.BeNil())
		g.Expect(client.IgnoreNotFound(Admin.Get(t.Context(), kube.KeyOf(tj), JobOf(tj)))).To(gomega.Succeed())
	})
	t.Run("from the beginning", func(t *testing.T) {
		t.Parallel()
		jobs := FollowJobs(t, tenant)
		tj := NewRun(t, tenant, NewTemplate(t, nil), cancel)
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonCancelled, "")
		made, _ := jobs.Made()
		gomega.NewWithT(t).Expect(made).NotTo(gomega.ContainElement(tj.Name))
	})
	t.Run("running", func(t *testing.T) {
		t.Parallel()
		tj := NewTenantJob(t, tenant, NewTemplate(t, nil))
		pod := AwaitRunningPod(t, tj)
		Patch(t, tj, cancel)
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonCancelled, "")
		AwaitGone(t, pod)
		AwaitGone(t, JobOf(tj))
		g := gomega.NewWithT(t)
		g.Expect(conditions.Get(tj.Status.Conditions, v1alpha1.ConditionStalled)).To(gomega.BeZero())
		g.Expect(tj.Status.StartTime).NotTo(gomega.BeNil())
		g.Expect(tj.Status.CompletionTime).NotTo(gomega.BeNil())
	})
	t.Run("after it completed, which changes nothing but is taken note of", func(t *testing.T) {
		t.Parallel()
		tj := NewTenantJob(t, tenant, NewTemplate(t, nil))
		Finish(t, tj, corev1.PodSucceeded)
		AwaitStatus(t, tj, IsTrue, v1alpha1.ReasonCompleted, "")
		completed := tj.DeepCopy()
		Patch(t, tj, cancel)
		Eventually(t, func(g gomega.Gomega) {
			g.Expect(Get(t, g, tj).Status.ObservedGeneration).To(gomega.Equal(tj.Generation))
		})
		completed.Status.ObservedGeneration = tj.Generation
		if diff := cmp.Diff(completed.Status, tj.Status); diff != "" {
			t.Errorf("the status (-before, +after):\n%s", diff)
		}
	})
}

func TestTenantJobNotBefore(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	template := NewReadyTemplate(t, nil)
	due := metav1.NewTime(time.Now().Add(4 * time.Second).Truncate(time.Second))
	tj := NewRun(t, tenant, template, func(o *v1alpha1.TenantJob) { o.Spec.NotBeforeTime = &due })
	AwaitStatus(t, tj, Unknown, v1alpha1.ReasonRunning, "")
	gomega.NewWithT(t).Expect(tj.Status.StartTime.Time).To(gomega.BeTemporally(">=", due.Time))

	later := NewRun(t, tenant, template, func(o *v1alpha1.TenantJob) { o.Spec.NotBeforeTime = new(metav1.NewTime(time.Now().Add(time.Hour))) })
	AwaitStatus(t, later, Unknown, v1alpha1.ReasonNotYetDue, "waits for `spec.notBeforeTime`")
	Patch(t, later, func(o *v1alpha1.TenantJob) { o.Spec.NotBeforeTime = nil })
	AwaitRunningPod(t, later)
}

func TestTenantJobTTL(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	template := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.TTLSecondsAfterFinished = new(int32(5)) })
	succeeds, fails := NewTenantJob(t, tenant, template), NewTenantJob(t, tenant, template)
	// It may be gone before a test that polls has seen that it has completed.
	var last atomic.Pointer[v1alpha1.TenantJob]
	Follow(t, &v1alpha1.TenantJobList{}, tenant.NamespaceName(), func(_ context.Context, event watch.EventType, obj client.Object) {
		if obj.GetName() == succeeds.Name && event != watch.Deleted {
			last.Store(obj.(*v1alpha1.TenantJob))
		}
	})
	Finish(t, fails, corev1.PodFailed)
	AwaitStatus(t, fails, IsFalse, v1alpha1.ReasonJobFailed, "")
	Finish(t, succeeds, corev1.PodSucceeded)
	AwaitGone(t, succeeds)
	gone := time.Now()
	g := gomega.NewWithT(t)
	Eventually(t, func(g gomega.Gomega) {
		g.Expect(last.Load()).To(gomega.HaveField("Status.Conditions", gomega.ContainElement(gomega.HaveField("Reason", v1alpha1.ReasonCompleted))))
	})
	g.Expect(gone).To(gomega.BeTemporally(">=", last.Load().Status.CompletionTime.Add(5*time.Second)))
	AwaitGone(t, JobOf(succeeds))
	Get(t, g, fails)
	Get(t, g, JobOf(fails))
}

// TestTenantJobTemplateIsMissing goes through what may be wrong with the template.
func TestTenantJobTemplateIsMissing(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	t.Run("TemplateNotFound, until it comes", func(t *testing.T) {
		t.Parallel()
		later := NewTemplate(t, nil)
		Remove(t, later)
		tj := NewTenantJob(t, tenant, later)
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonTemplateNotFound, later.Name)
		gomega.NewWithT(t).Expect(conditions.Get(tj.Status.Conditions, v1alpha1.ConditionStalled).Status).To(gomega.Equal(IsTrue))
		Create(t, &v1alpha1.TenantJobTemplate{ObjectMeta: metav1.ObjectMeta{Name: later.Name}, Spec: later.Spec})
		AwaitRunningPod(t, tj)
	})
	t.Run("TemplateNotReady, until it is", func(t *testing.T) {
		t.Parallel()
		wrong := NewTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.JobTemplate.Spec.Template.Spec.NodeName = "node-1" })
		tj := NewTenantJob(t, tenant, wrong)
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonTemplateNotReady, "nodeName` must be left out")
		gomega.NewWithT(t).Expect(conditions.Get(tj.Status.Conditions, v1alpha1.ConditionStalled).Status).To(gomega.Equal(IsTrue))
		Patch(t, wrong, func(o *v1alpha1.TenantJobTemplate) { o.Spec.JobTemplate.Spec.Template.Spec.NodeName = "" })
		AwaitRunningPod(t, tj)
	})
	t.Run("InvalidParameters", func(t *testing.T) {
		t.Parallel()
		template := NewTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
			o.Spec.Parameters = []v1alpha1.Parameter{{Name: "days", Type: v1alpha1.ParameterInteger, Required: new(true)}}
		})
		tj := NewRun(t, tenant, template, func(o *v1alpha1.TenantJob) {
			o.Spec.Parameters = map[string]v1alpha1.ParameterValue{"days": "s3cr3t", "other": "s3cr3t"}
		})
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonInvalidParameters, "`parameters.days` must be an integer; `parameters.other` must be left out: the template declares days")
	})
	t.Run("InvalidParameters is not said because of the template's own fault", func(t *testing.T) {
		t.Parallel()
		template := NewTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
			o.Spec.Parameters = []v1alpha1.Parameter{{Name: "days", Pattern: "["}}
		})
		tj := NewRun(t, tenant, template, func(o *v1alpha1.TenantJob) { o.Spec.Parameters = map[string]v1alpha1.ParameterValue{"days": "3"} })
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonTemplateNotReady, "must have an RE2 expression as pattern")
		Patch(t, template, func(o *v1alpha1.TenantJobTemplate) { o.Spec.Parameters[0].Pattern = "^[0-9]$" })
		AwaitRunningPod(t, tj)
	})
	t.Run("IssuingCredentials: the tenant lacks one", func(t *testing.T) {
		t.Parallel()
		template := NewTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
			o.Spec.Credentials = []v1alpha1.TemplateCredential{{Name: "database"}}
		})
		AwaitStatus(t, NewTenantJob(t, tenant, template), Unknown, v1alpha1.ReasonIssuingCredentials, "has no credential database")
	})
}

func TestTenantJobNameConflict(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	template := NewReadyTemplate(t, nil)
	t.Run("a stranger's Job has its name", func(t *testing.T) {
		t.Parallel()
		tj := NewRun(t, tenant, template, func(o *v1alpha1.TenantJob) {
			stranger := JobOf(o)
			stranger.Spec = template.Spec.JobTemplate.Spec
			Create(t, stranger)
		})
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonNameConflict, tj.Name)
		g := gomega.NewWithT(t)
		g.Expect(Get(t, g, JobOf(tj)).OwnerReferences).To(gomega.BeEmpty(), "never adopt a stranger")
		g.Expect(Get(t, g, JobOf(tj)).DeletionTimestamp).To(gomega.BeNil())
		g.Expect(tj.Status.JobRef).To(gomega.BeNil())
	})
	t.Run("the Job of an earlier TenantJob of its name, which goes", func(t *testing.T) {
		t.Parallel()
		lingers := NewReadyTemplate(t, Lingering)
		first := NewTenantJob(t, tenant, lingers)
		pod := AwaitRunningPod(t, first)
		Remove(t, first, client.PropagationPolicy(metav1.DeletePropagationBackground))
		// Its Job is there, as long as its pod is.
		Eventually(t, func(g gomega.Gomega) { g.Expect(Get(t, g, pod).DeletionTimestamp).NotTo(gomega.BeNil()) })
		second := NewRun(t, tenant, lingers, func(o *v1alpha1.TenantJob) { o.Name = first.Name })
		LetGo(t, pod)
		Eventually(t, func(g gomega.Gomega) {
			g.Expect(metav1.IsControlledBy(Get(t, g, JobOf(second)), second)).To(gomega.BeTrue())
		})
	})
}

func TestTenantJobVanishes(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	t.Run("its Job is deleted while it runs", func(t *testing.T) {
		t.Parallel()
		jobs := FollowJobs(t, tenant)
		tj := NewTenantJob(t, tenant, NewTemplate(t, Lingering))
		pod := AwaitRunningPod(t, tj)
		Remove(t, JobOf(tj), client.PropagationPolicy(metav1.DeletePropagationForeground))
		AwaitStatus(t, tj, Unknown, v1alpha1.ReasonRunning, "the Job is being deleted")
		LetGo(t, pod)
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonDeleted, "create another TenantJob")
		made, _ := jobs.Made()
		gomega.NewWithT(t).Expect(slices.DeleteFunc(made, func(n string) bool { return n != tj.Name })).To(gomega.HaveLen(1), "it is not made again")
	})
	t.Run("its Job is deleted before anything is written down", func(t *testing.T) {
		t.Parallel()
		jobs := FollowJobs(t, tenant)
		// As soon as it is there.
		Follow(t, &corev1.PodList{}, tenant.NamespaceName(), func(ctx context.Context, _ watch.EventType, obj client.Object) {
			if obj.GetLabels()["tag.tenantry.dev/delete"] == "at-once" {
				tj := &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{Namespace: obj.GetNamespace(), Name: obj.GetLabels()["batch.kubernetes.io/job-name"]}}
				_ = Admin.Delete(ctx, JobOf(tj), client.PropagationPolicy(metav1.DeletePropagationBackground))
			}
		})
		tj := NewRun(t, tenant, NewTemplate(t, nil), func(o *v1alpha1.TenantJob) { o.Labels = map[string]string{"tag.tenantry.dev/delete": "at-once"} })
		AwaitStatus(t, tj, IsFalse, v1alpha1.ReasonDeleted, "")
		made, _ := jobs.Made()
		gomega.NewWithT(t).Expect(slices.DeleteFunc(made, func(n string) bool { return n != tj.Name })).To(gomega.HaveLen(1), "it is not made again")
	})
	t.Run("it is deleted itself, and its Job goes with it", func(t *testing.T) {
		t.Parallel()
		tj := NewTenantJob(t, tenant, NewTemplate(t, nil))
		pod := AwaitRunningPod(t, tj)
		Remove(t, tj)
		AwaitGone(t, JobOf(tj))
		AwaitGone(t, pod)
	})
}

// TestTenantJobRefused: the API server does not accept the Job itself.
func TestTenantJobRefused(t *testing.T) {
	t.Parallel()
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	quota := Create(t, &corev1.ResourceQuota{ObjectMeta: Within(tenant, "no-jobs"), Spec: corev1.ResourceQuotaSpec{
		Hard: corev1.ResourceList{"count/jobs.batch": resource.MustParse("0")},
	}})
	Eventually(t, func(g gomega.Gomega) { g.Expect(Get(t, g, quota).Status.Hard).NotTo(gomega.BeEmpty()) })
	tj := NewTenantJob(t, tenant, NewReadyTemplate(t, nil))
	AwaitStatus(t, tj, Unknown, v1alpha1.ReasonQueued, "exceeded quota: no-jobs")
	Remove(t, quota)
	AwaitRunningPod(t, tj)
}
