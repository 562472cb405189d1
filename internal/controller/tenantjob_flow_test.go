package controller_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/kube"
)

const (
	isTrue  = metav1.ConditionTrue
	isFalse = metav1.ConditionFalse
	unknown = metav1.ConditionUnknown
)

// pending keeps a template's pods from running, until runs lets one.
func pending(o *v1alpha1.TenantJobTemplate) {
	metav1.SetMetaDataAnnotation(&o.Spec.JobTemplate.Spec.Template.ObjectMeta, annotationPending, "true")
}

func TestTenantJobRuns(t *testing.T) {
	t.Parallel()
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{
		ExternalID: "9f1c0c1e", TimeZone: "America/New_York", Attributes: map[string]v1alpha1.AttributeValue{"plan": "gold"},
	})
	template := newReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
		pending(o)
		o.Spec.Parameters = []v1alpha1.Parameter{{Name: "payment", Tag: new(true)}, {Name: "graceDays", Default: new(v1alpha1.ParameterValue("3"))}}
		o.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "LEVEL", Value: "debug"}, {Name: "TENANT_NAMES", Value: "x"}}
	})
	jobs := followJobs(t, tenant)
	began := time.Now().Add(-time.Second)
	tj := newRun(t, tenant, template, func(o *v1alpha1.TenantJob) {
		o.Labels = map[string]string{"tag.tenantry.dev/ticket": "77", "team": "billing"}
		o.Spec.Parameters = map[string]v1alpha1.ParameterValue{"payment": "8231"}
	})

	awaitSaid(t, tj, unknown, v1alpha1.ReasonStarting, "waiting for its pod")
	g := gomega.NewWithT(t)
	j := get(t, g, jobOf(tj))
	var pods corev1.PodList
	g.Expect(admin.List(t.Context(), &pods, client.InNamespace(tj.Namespace))).To(gomega.Succeed())
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
	g.Expect(conditionOf(tj.Status.Conditions, v1alpha1.ConditionReconciling).Status).To(gomega.Equal(isTrue))

	runs(t, pod)
	awaitSaid(t, tj, unknown, v1alpha1.ReasonRunning, "a pod is running")
	started := tj.Status.StartTime
	endPod(t, get(t, g, pod), corev1.PodSucceeded)
	awaitSaid(t, tj, isTrue, v1alpha1.ReasonCompleted, "the Job completed")
	g.Expect(tj.Status.StartTime).To(gomega.Equal(started))
	g.Expect(tj.Status.CompletionTime.Time).To(gomega.BeTemporally(">=", started.Time))
	g.Expect(*tj.Status.CompletionTime).To(gomega.Equal(*get(t, g, j).Status.CompletionTime))
	g.Expect(tj.Status.Conditions).To(gomega.HaveLen(1), "neither Reconciling nor Stalled is left")
	made, _ := jobs.made()
	g.Expect(made).To(gomega.HaveExactElements(tj.Name))
}

// runs lets a pending pod run.
func runs(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	patch(t, pod, func(o *corev1.Pod) { delete(o.Annotations, annotationPending) })
}

// TestTenantJobCosts holds what a run costs to what the design says. It is not parallel: a pod that takes longer than
// job.SettleAfter to run costs a write more, which says so.
func TestTenantJobCosts(t *testing.T) {
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
	template := newReadyTemplate(t, nil)
	const label, start, status = "PATCH /apis/tenantry.dev/v1alpha1/namespaces/NS/tenantjobs/RUN", "POST /apis/batch/v1/namespaces/NS/jobs",
		"PATCH /apis/tenantry.dev/v1alpha1/namespaces/NS/tenantjobs/RUN/status"
	labels := map[string]string{"tenantry.dev/tenant": tenant.Name, "tenantry.dev/template": template.Name, "tenantry.dev/queue": "default"}
	for name, given := range map[string]struct {
		labels map[string]string
		want   []string
	}{
		"made by hand":                      {nil, []string{label, start, status, status}},
		"made by a fan-out with its labels": {labels, []string{start, status, status}},
	} {
		t.Run(name, func(t *testing.T) {
			slow := false
			follow(t, &v1alpha1.TenantJobList{}, tenant.NamespaceName(), func(_ context.Context, _ watch.EventType, obj client.Object) {
				if conditionOf(obj.(*v1alpha1.TenantJob).Status.Conditions, v1alpha1.ConditionSucceeded).Reason == v1alpha1.ReasonStarting {
					slow = true
				}
			})
			before := len(operator.requests())
			tj := newRun(t, tenant, template, func(o *v1alpha1.TenantJob) { o.Labels = given.labels })
			awaitSaid(t, tj, unknown, v1alpha1.ReasonRunning, "")
			finish(t, tj, corev1.PodSucceeded)
			awaitSaid(t, tj, isTrue, v1alpha1.ReasonCompleted, "")
			if slow {
				t.Skip("this machine is too busy to run a pod within two seconds")
			}
			all := operator.requests()[before:]
			g := gomega.NewWithT(t)
			g.Expect(writesFor(tj, all)).To(gomega.HaveExactElements(given.want))
			looks := slices.DeleteFunc(all, func(r string) bool { return r != "GET /api/v1/namespaces/"+tj.Namespace+"/pods" })
			g.Expect(len(looks)).To(gomega.BeNumerically("<=", 2), "its pods are looked at once its first moments are over, not when it ends")
		})
	}
	t.Run("a short one", func(t *testing.T) {
		finishAll(t, tenant)
		before := len(operator.requests())
		tj := newRun(t, tenant, template, func(o *v1alpha1.TenantJob) { o.Labels = labels })
		awaitSaid(t, tj, isTrue, v1alpha1.ReasonCompleted, "")
		gomega.NewWithT(t).Expect(len(writesFor(tj, operator.requests()[before:]))).To(gomega.BeNumerically("<=", 3))
	})
}

func TestTenantJobFails(t *testing.T) {
	t.Parallel()
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
	t.Run("JobFailed, with the exit code and no words", func(t *testing.T) {
		t.Parallel()
		tj := newTenantJob(t, tenant, newTemplate(t, nil))
		exitPod(t, awaitRunningPod(t, tj), 3, "s3cr3t")
		awaitSaid(t, tj, isFalse, v1alpha1.ReasonJobFailed, "backoff limit: container main exited with code 3")
		g := gomega.NewWithT(t)
		g.Expect(conditionOf(tj.Status.Conditions, v1alpha1.ConditionStalled).Status).To(gomega.Equal(isTrue))
		g.Expect(tj.Status.CompletionTime).NotTo(gomega.BeNil())
		eventually(t, func(g gomega.Gomega) {
			var events eventsv1.EventList
			g.Expect(admin.List(t.Context(), &events, client.InNamespace(tj.Namespace))).To(gomega.Succeed())
			told := slices.DeleteFunc(events.Items, func(e eventsv1.Event) bool { return e.Regarding.UID != tj.UID })
			g.Expect(told).To(gomega.HaveLen(1))
			g.Expect([]string{told[0].Type, told[0].Reason}).To(gomega.HaveExactElements(corev1.EventTypeWarning, "JobFailed"))
			g.Expect(told[0].Note).NotTo(gomega.ContainSubstring("s3cr3t"))
		})
	})
	t.Run("a retry that succeeds", func(t *testing.T) {
		t.Parallel()
		tj := newTenantJob(t, tenant, newTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.JobTemplate.Spec.BackoffLimit = new(int32(1)) }))
		first := awaitRunningPod(t, tj)
		exitPod(t, first, 1, "")
		eventually(t, func(g gomega.Gomega) {
			var pods corev1.PodList
			g.Expect(admin.List(t.Context(), &pods, client.InNamespace(tj.Namespace), client.MatchingLabels{"batch.kubernetes.io/job-name": tj.Name})).To(gomega.Succeed())
			second := slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.UID == first.UID || p.Status.Phase != corev1.PodRunning })
			g.Expect(second).To(gomega.HaveLen(1))
			endPod(t, &second[0], corev1.PodSucceeded)
		})
		awaitSaid(t, tj, isTrue, v1alpha1.ReasonCompleted, "")
	})
	t.Run("DeadlineExceeded", func(t *testing.T) {
		t.Parallel()
		tj := newTenantJob(t, tenant, newTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.JobTemplate.Spec.ActiveDeadlineSeconds = new(int64(1)) }))
		awaitSaid(t, tj, isFalse, v1alpha1.ReasonDeadlineExceeded, "Job was active longer than specified deadline")
	})
	t.Run("a pod that does not start says why", func(t *testing.T) {
		t.Parallel()
		tj := newTenantJob(t, tenant, newTemplate(t, pending))
		awaitSaid(t, tj, unknown, v1alpha1.ReasonStarting, "waiting for its pod")
		var pods corev1.PodList
		g := gomega.NewWithT(t)
		g.Expect(admin.List(t.Context(), &pods, client.InNamespace(tj.Namespace), client.MatchingLabels{"batch.kubernetes.io/job-name": tj.Name})).To(gomega.Succeed())
		pod := &pods.Items[0]
		base := pod.DeepCopy()
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", State: corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: `Back-off pulling image "example.com/app"`},
		}}}
		g.Expect(admin.Status().Patch(t.Context(), pod, client.MergeFrom(base))).To(gomega.Succeed())
		awaitSaid(t, tj, unknown, v1alpha1.ReasonStarting, `ImagePullBackOff: Back-off pulling image "example.com/app"`)
	})
}

func TestTenantJobCancelled(t *testing.T) {
	t.Parallel()
	cancel := func(o *v1alpha1.TenantJob) { o.Spec.Cancel = new(true) }
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
	t.Run("waiting", func(t *testing.T) {
		t.Parallel()
		tj := newRun(t, tenant, newTemplate(t, nil), func(o *v1alpha1.TenantJob) { o.Spec.NotBeforeTime = new(metav1.NewTime(time.Now().Add(time.Hour))) })
		awaitSaid(t, tj, unknown, v1alpha1.ReasonNotYetDue, "")
		patch(t, tj, cancel)
		awaitSaid(t, tj, isFalse, v1alpha1.ReasonCancelled, "")
		g := gomega.NewWithT(t)
		g.Expect(tj.Status.Conditions).To(gomega.HaveLen(1))
		g.Expect(tj.Status.JobRef).To(gomega.BeNil())
		g.Expect(client.IgnoreNotFound(admin.Get(t.Context(), kube.KeyOf(tj), jobOf(tj)))).To(gomega.Succeed())
	})
	t.Run("from the beginning", func(t *testing.T) {
		t.Parallel()
		jobs := followJobs(t, tenant)
		tj := newRun(t, tenant, newTemplate(t, nil), cancel)
		awaitSaid(t, tj, isFalse, v1alpha1.ReasonCancelled, "")
		made, _ := jobs.made()
		gomega.NewWithT(t).Expect(made).NotTo(gomega.ContainElement(tj.Name))
	})
	t.Run("running", func(t *testing.T) {
		t.Parallel()
		tj := newTenantJob(t, tenant, newTemplate(t, nil))
		pod := awaitRunningPod(t, tj)
		patch(t, tj, cancel)
		awaitSaid(t, tj, isFalse, v1alpha1.ReasonCancelled, "")
		awaitGone(t, pod)
		awaitGone(t, jobOf(tj))
		g := gomega.NewWithT(t)
		g.Expect(conditionOf(tj.Status.Conditions, v1alpha1.ConditionStalled)).To(gomega.BeZero())
		g.Expect(tj.Status.StartTime).NotTo(gomega.BeNil())
		g.Expect(tj.Status.CompletionTime).NotTo(gomega.BeNil())
	})
	t.Run("after it completed, which changes nothing but is taken note of", func(t *testing.T) {
		t.Parallel()
		tj := newTenantJob(t, tenant, newTemplate(t, nil))
		finish(t, tj, corev1.PodSucceeded)
		awaitSaid(t, tj, isTrue, v1alpha1.ReasonCompleted, "")
		completed := tj.DeepCopy()
		patch(t, tj, cancel)
		eventually(t, func(g gomega.Gomega) {
			g.Expect(get(t, g, tj).Status.ObservedGeneration).To(gomega.Equal(tj.Generation))
		})
		completed.Status.ObservedGeneration = tj.Generation
		if diff := cmp.Diff(completed.Status, tj.Status); diff != "" {
			t.Errorf("the status (-before, +after):\n%s", diff)
		}
	})
}

func TestTenantJobNotBefore(t *testing.T) {
	t.Parallel()
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
	due := metav1.NewTime(time.Now().Add(4 * time.Second).Truncate(time.Second))
	tj := newRun(t, tenant, newReadyTemplate(t, nil), func(o *v1alpha1.TenantJob) { o.Spec.NotBeforeTime = &due })
	awaitSaid(t, tj, unknown, v1alpha1.ReasonNotYetDue, "waits for `spec.notBeforeTime`")
	awaitSaid(t, tj, unknown, v1alpha1.ReasonRunning, "")
	gomega.NewWithT(t).Expect(tj.Status.StartTime.Time).To(gomega.BeTemporally(">=", due.Time))

	later := newRun(t, tenant, newReadyTemplate(t, nil), func(o *v1alpha1.TenantJob) { o.Spec.NotBeforeTime = new(metav1.NewTime(time.Now().Add(time.Hour))) })
	awaitSaid(t, later, unknown, v1alpha1.ReasonNotYetDue, "")
	patch(t, later, func(o *v1alpha1.TenantJob) { o.Spec.NotBeforeTime = nil })
	awaitRunningPod(t, later)
}

func TestTenantJobTTL(t *testing.T) {
	t.Parallel()
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
	template := newReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.TTLSecondsAfterFinished = new(int32(5)) })
	succeeds, fails := newTenantJob(t, tenant, template), newTenantJob(t, tenant, template)
	finish(t, fails, corev1.PodFailed)
	awaitSaid(t, fails, isFalse, v1alpha1.ReasonJobFailed, "")
	finish(t, succeeds, corev1.PodSucceeded)
	awaitSaid(t, succeeds, isTrue, v1alpha1.ReasonCompleted, "")
	completed := succeeds.Status.CompletionTime.Time
	awaitGone(t, succeeds)
	g := gomega.NewWithT(t)
	g.Expect(time.Now()).To(gomega.BeTemporally(">=", completed.Add(5*time.Second)))
	awaitGone(t, jobOf(succeeds))
	get(t, g, fails)
	get(t, g, jobOf(fails))
}

// TestTenantJobTemplateIsMissing goes through what may be wrong with the template.
func TestTenantJobTemplateIsMissing(t *testing.T) {
	t.Parallel()
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
	t.Run("TemplateNotFound, until it comes", func(t *testing.T) {
		t.Parallel()
		later := newTemplate(t, nil)
		remove(t, later)
		tj := newTenantJob(t, tenant, later)
		awaitSaid(t, tj, unknown, v1alpha1.ReasonTemplateNotFound, later.Name)
		gomega.NewWithT(t).Expect(conditionOf(tj.Status.Conditions, v1alpha1.ConditionStalled).Status).To(gomega.Equal(isTrue))
		create(t, &v1alpha1.TenantJobTemplate{ObjectMeta: metav1.ObjectMeta{Name: later.Name}, Spec: later.Spec})
		awaitRunningPod(t, tj)
	})
	t.Run("TemplateNotReady, until it is", func(t *testing.T) {
		t.Parallel()
		wrong := newTemplate(t, func(o *v1alpha1.TenantJobTemplate) { o.Spec.JobTemplate.Spec.Template.Spec.NodeName = "node-1" })
		tj := newTenantJob(t, tenant, wrong)
		awaitSaid(t, tj, unknown, v1alpha1.ReasonTemplateNotReady, "nodeName` must be left out")
		gomega.NewWithT(t).Expect(conditionOf(tj.Status.Conditions, v1alpha1.ConditionStalled).Status).To(gomega.Equal(isTrue))
		patch(t, wrong, func(o *v1alpha1.TenantJobTemplate) { o.Spec.JobTemplate.Spec.Template.Spec.NodeName = "" })
		awaitRunningPod(t, tj)
	})
	t.Run("InvalidParameters", func(t *testing.T) {
		t.Parallel()
		template := newTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
			o.Spec.Parameters = []v1alpha1.Parameter{{Name: "days", Type: v1alpha1.ParameterInteger, Required: new(true)}}
		})
		tj := newRun(t, tenant, template, func(o *v1alpha1.TenantJob) {
			o.Spec.Parameters = map[string]v1alpha1.ParameterValue{"days": "s3cr3t", "other": "s3cr3t"}
		})
		awaitSaid(t, tj, isFalse, v1alpha1.ReasonInvalidParameters, "`parameters.days` must be an integer; `parameters.other` must be left out: the template declares days")
	})
	t.Run("InvalidParameters is not said because of the template's own fault", func(t *testing.T) {
		t.Parallel()
		template := newTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
			o.Spec.Parameters = []v1alpha1.Parameter{{Name: "days", Pattern: "["}}
		})
		tj := newRun(t, tenant, template, func(o *v1alpha1.TenantJob) { o.Spec.Parameters = map[string]v1alpha1.ParameterValue{"days": "3"} })
		awaitSaid(t, tj, unknown, v1alpha1.ReasonTemplateNotReady, "must have an RE2 expression as pattern")
		patch(t, template, func(o *v1alpha1.TenantJobTemplate) { o.Spec.Parameters[0].Pattern = "^[0-9]$" })
		awaitRunningPod(t, tj)
	})
	t.Run("CredentialsFailed", func(t *testing.T) {
		t.Parallel()
		template := newTemplate(t, func(o *v1alpha1.TenantJobTemplate) {
			o.Spec.Credentials = []v1alpha1.TemplateCredential{{Name: "database"}}
		})
		awaitSaid(t, newTenantJob(t, tenant, template), isFalse, v1alpha1.ReasonCredentialsFailed, "`spec.credentials`")
	})
}

func TestTenantJobNameConflict(t *testing.T) {
	t.Parallel()
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
	template := newReadyTemplate(t, nil)
	t.Run("a stranger's Job has its name", func(t *testing.T) {
		t.Parallel()
		tj := newRun(t, tenant, template, func(o *v1alpha1.TenantJob) {
			stranger := jobOf(o)
			stranger.Spec = template.Spec.JobTemplate.Spec
			create(t, stranger)
		})
		awaitSaid(t, tj, isFalse, v1alpha1.ReasonNameConflict, tj.Name)
		g := gomega.NewWithT(t)
		g.Expect(get(t, g, jobOf(tj)).OwnerReferences).To(gomega.BeEmpty(), "never adopt a stranger")
		g.Expect(get(t, g, jobOf(tj)).DeletionTimestamp).To(gomega.BeNil())
		g.Expect(tj.Status.JobRef).To(gomega.BeNil())
	})
	t.Run("the Job of an earlier TenantJob of its name, which goes", func(t *testing.T) {
		t.Parallel()
		lingers := newReadyTemplate(t, lingering)
		first := newTenantJob(t, tenant, lingers)
		pod := awaitRunningPod(t, first)
		remove(t, first, client.PropagationPolicy(metav1.DeletePropagationBackground))
		// Its Job is there, as long as its pod is.
		eventually(t, func(g gomega.Gomega) { g.Expect(get(t, g, pod).DeletionTimestamp).NotTo(gomega.BeNil()) })
		second := newRun(t, tenant, lingers, func(o *v1alpha1.TenantJob) { o.Name = first.Name })
		letGo(t, pod)
		eventually(t, func(g gomega.Gomega) {
			g.Expect(metav1.IsControlledBy(get(t, g, jobOf(second)), second)).To(gomega.BeTrue())
		})
	})
}

func TestTenantJobVanishes(t *testing.T) {
	t.Parallel()
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
	t.Run("its Job is deleted while it runs", func(t *testing.T) {
		t.Parallel()
		jobs := followJobs(t, tenant)
		tj := newTenantJob(t, tenant, newTemplate(t, lingering))
		pod := awaitRunningPod(t, tj)
		remove(t, jobOf(tj), client.PropagationPolicy(metav1.DeletePropagationForeground))
		awaitSaid(t, tj, unknown, v1alpha1.ReasonRunning, "the Job is being deleted")
		letGo(t, pod)
		awaitSaid(t, tj, isFalse, v1alpha1.ReasonDeleted, "create another TenantJob")
		made, _ := jobs.made()
		gomega.NewWithT(t).Expect(slices.DeleteFunc(made, func(n string) bool { return n != tj.Name })).To(gomega.HaveLen(1), "it is not made again")
	})
	t.Run("its Job is deleted before anything is written down", func(t *testing.T) {
		t.Parallel()
		jobs := followJobs(t, tenant)
		// As soon as it is there.
		follow(t, &corev1.PodList{}, tenant.NamespaceName(), func(ctx context.Context, _ watch.EventType, obj client.Object) {
			if obj.GetLabels()["tag.tenantry.dev/delete"] == "at-once" {
				tj := &v1alpha1.TenantJob{ObjectMeta: metav1.ObjectMeta{Namespace: obj.GetNamespace(), Name: obj.GetLabels()["batch.kubernetes.io/job-name"]}}
				_ = admin.Delete(ctx, jobOf(tj), client.PropagationPolicy(metav1.DeletePropagationBackground))
			}
		})
		tj := newRun(t, tenant, newTemplate(t, nil), func(o *v1alpha1.TenantJob) { o.Labels = map[string]string{"tag.tenantry.dev/delete": "at-once"} })
		awaitSaid(t, tj, isFalse, v1alpha1.ReasonDeleted, "")
		made, _ := jobs.made()
		gomega.NewWithT(t).Expect(slices.DeleteFunc(made, func(n string) bool { return n != tj.Name })).To(gomega.HaveLen(1), "it is not made again")
	})
	t.Run("it is deleted itself, and its Job goes with it", func(t *testing.T) {
		t.Parallel()
		tj := newTenantJob(t, tenant, newTemplate(t, nil))
		pod := awaitRunningPod(t, tj)
		remove(t, tj)
		awaitGone(t, jobOf(tj))
		awaitGone(t, pod)
	})
}

// TestTenantJobRefused: the API server does not accept the Job itself.
func TestTenantJobRefused(t *testing.T) {
	t.Parallel()
	tenant := newReadyTenant(t, v1alpha1.TenantSpec{})
	quota := create(t, &corev1.ResourceQuota{ObjectMeta: within(tenant, "no-jobs"), Spec: corev1.ResourceQuotaSpec{
		Hard: corev1.ResourceList{"count/jobs.batch": resource.MustParse("0")},
	}})
	eventually(t, func(g gomega.Gomega) { g.Expect(get(t, g, quota).Status.Hard).NotTo(gomega.BeEmpty()) })
	tj := newTenantJob(t, tenant, newReadyTemplate(t, nil))
	awaitSaid(t, tj, unknown, v1alpha1.ReasonQueued, "exceeded quota: no-jobs")
	remove(t, quota)
	awaitRunningPod(t, tj)
}
