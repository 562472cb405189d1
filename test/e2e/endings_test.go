package e2e

import (
	"context"
	"strconv"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// ending is a row of "How a run can end" in docs/concepts.md, with a template that makes a run end like that.
type ending struct {
	template []edit
	given    parameters
	// waits and says are the reason before the end and how its message begins. Empty means that it is not waited for.
	waits, says string
	// because is the message of the end.
	because types.GomegaMatcher
}

const (
	// How the Job controller's messages begin.
	retried  = "Job has reached the specified backoff limit: "
	overtime = "Job was active longer than specified deadline"
	// absent is the name of whatever does not exist.
	absent   = "absent.e2e.tenantry.dev"
	noSecret = `secret "` + absent + `" not found`
)

var _ = Describe("The status of a run", func() {
	DescribeTable("says how it ended", func(ctx SpecContext, e ending) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		run := dispatch(ctx, acme, givenTemplate(ctx, "end", e.template...), "run", e.given)
		if e.waits != "" {
			expectMessage(ctx, run, e.waits, HavePrefix(e.says))
		}
		expectEnd(ctx, run, v1alpha1.ReasonJobFailed, e.because)
	},
		Entry("when its container exits with another code than 0", ending{
			template: []edit{variable("EXIT_CODE", 3)},
			because:  Equal(retried + "container hotspot exited with code 3"),
		}),
		Entry("when its container is ended by a signal", ending{
			template: []edit{variable("SIGNAL", 9), ofPod(func(pod *corev1.PodSpec) { pod.ShareProcessNamespace = new(true) })},
			because:  Equal(retried + "container hotspot exited with code 137 (SIGKILL)"),
		}),
		Entry("when its container needs more memory than its limit", ending{
			template: []edit{variable("ALLOCATE_MEBIBYTES", 64), limited(corev1.ResourceMemory, "32Mi")},
			because:  Equal(retried + "container hotspot exited with code 137 (OOMKilled)"),
		}),
		Entry("when its command does not exist", ending{
			template: []edit{ofContainer(func(c *corev1.Container) { c.Command = []string{"/" + absent} })},
			because:  Equal(retried + "container hotspot exited with code 128 (StartError)"),
		}),
		Entry("when its container is restarted, and exits again and again", ending{
			template: []edit{variable("EXIT_CODE", 3), backoffLimit(2), ofPod(func(pod *corev1.PodSpec) {
				pod.RestartPolicy = corev1.RestartPolicyOnFailure
			})},
			waits: v1alpha1.ReasonRunning, says: "container hotspot: CrashLoopBackOff: exited with code 3, restarted ",
			because: HavePrefix(retried + "container hotspot: CrashLoopBackOff: exited with code 3, restarted "),
		}),
		Entry("when its container fails, and a sidecar is stopped for it", ending{
			template: []edit{variable("EXIT_CODE", 3), withSidecar("listen")},
			because:  Equal(retried + "container hotspot exited with code 3"),
		}),
		Entry("when the pod's own activeDeadlineSeconds pass", ending{
			template: []edit{ofPod(func(pod *corev1.PodSpec) { pod.ActiveDeadlineSeconds = new(int64(4)) })}, given: endless,
			because: Equal(retried + "DeadlineExceeded: the pod ran longer than `activeDeadlineSeconds` of its own spec"),
		}),
		Entry("when its node evicts the pod, since it has written more than it may", SpecPriority(1), ending{
			template: []edit{
				variable("WRITE_MEBIBYTES", 8),
				withVolume(corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse("4Mi"))}}),
			},
			given:   endless,
			because: Equal(retried + `Evicted: Usage of EmptyDir volume "data" exceeds the limit "4Mi"`),
		}),
		Entry("when an index of an Indexed Job fails", ending{
			template: []edit{ofContainer(func(c *corev1.Container) { c.Env = append(c.Env, exitCodeOfIndex) }), func(spec *v1alpha1.TenantJobTemplateSpec) {
				job := &spec.JobTemplate.Spec
				job.CompletionMode, job.Completions, job.Parallelism = new(batchv1.IndexedCompletion), new(int32(2)), new(int32(2))
				job.BackoffLimit, job.BackoffLimitPerIndex = nil, new(int32(0))
			}},
			because: Equal("Job has failed indexes: index 1: container hotspot exited with code 1; failed indexes: 1"),
		}),
		Entry("when a rule of its podFailurePolicy applies", ending{
			template: []edit{variable("EXIT_CODE", 42), backoffLimit(3), failWhen(batchv1.PodFailurePolicyRule{
				OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: []int32{42}},
			})},
			because: Equal("Container hotspot failed with exit code 42 matching FailJob rule at index 0: container hotspot exited with code 42"),
		}),
	)

	// All in one spec, since each takes as long as the deadline.
	It("says until its deadline what keeps it from starting, and says so afterwards", SpecPriority(1), func(ctx SpecContext) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		late := map[string]ending{
			"sidecar": {
				template: []edit{withSidecar("end", corev1.EnvVar{Name: "EXIT_CODE", Value: "2"})},
				waits:    v1alpha1.ReasonStarting, says: "container proxy: CrashLoopBackOff: exited with code 2",
				because: HavePrefix(overtime + ": container proxy: CrashLoopBackOff: exited with code 2"),
			},
			"image": {
				template: []edit{ofContainer(func(c *corev1.Container) { c.Image = "registry.invalid/hotspot:dev" })},
				waits:    v1alpha1.ReasonStarting, says: "container hotspot: ImagePullBackOff: ",
				because: HavePrefix(overtime + ": container hotspot: ImagePullBackOff: "),
			},
			"variable": {
				template: []edit{ofContainer(func(c *corev1.Container) { c.Env = append(c.Env, fromSecret(absent)) })},
				waits:    v1alpha1.ReasonStarting, says: "container hotspot: CreateContainerConfigError: " + noSecret,
				because: Equal(overtime + ": container hotspot: CreateContainerConfigError: " + noSecret),
			},
			"volume": {
				template: []edit{withVolume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: absent}})},
				waits:    v1alpha1.ReasonStarting, says: "volume data: FailedMount: " + noSecret,
				because: Equal(overtime + ": volume data: FailedMount: " + noSecret),
			},
			"room": {
				template: []edit{limited(corev1.ResourceName(absent+"/seat"), "1")},
				waits:    v1alpha1.ReasonStarting, says: "Unschedulable: 0/",
				because: And(HavePrefix(overtime+": Unschedulable: 0/"), ContainSubstring("Insufficient "+absent+"/seat"), Not(ContainSubstring("preemption"))),
			},
			"nothing": {given: endless, waits: v1alpha1.ReasonRunning, because: Equal(overtime)},
		}
		dispatched := map[string]*v1alpha1.TenantJob{}
		for name, e := range late {
			dispatched[name] = dispatch(ctx, acme, givenTemplate(ctx, "end", append(e.template, deadline(60))...), name, e.given)
		}
		for name, e := range late {
			expectMessage(ctx, dispatched[name], e.waits, HavePrefix(e.says))
		}
		for name, e := range late {
			expectEnd(ctx, dispatched[name], v1alpha1.ReasonDeadlineExceeded, e.because)
		}
	})
})

// expectEnd waits until a run has ended, and checks that the status still says why when its pods are gone. The operator looks at
// the TenantJob again, since it is to be cancelled, which comes too late.
func expectEnd(ctx context.Context, tj *v1alpha1.TenantJob, reason string, message types.GomegaMatcher) {
	GinkgoHelper()
	ended := expectMessage(ctx, tj, reason, message)
	Expect(kube.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(tj.Namespace), client.MatchingLabels{batchv1.JobNameLabel: tj.Name})).To(Succeed())
	Eventually(ctx, func() []corev1.Pod { return podsOf(ctx, tj) }).Should(BeEmpty())
	change(ctx, tj, func(tj *v1alpha1.TenantJob) { tj.Spec.Cancel = new(true) })
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		g.Expect(kube.Get(ctx, client.ObjectKeyFromObject(tj), tj)).To(Succeed())
		g.Expect(tj.Status.ObservedGeneration).To(Equal(tj.Generation))
	}).Should(Succeed())
	Expect(succeeded(ctx, tj)).To(And(HaveField("Reason", reason), HaveField("Message", ended.Message)))
}

// edit changes a template.
type edit = func(*v1alpha1.TenantJobTemplateSpec)

// ofPod changes the pod of a template.
func ofPod(change func(*corev1.PodSpec)) edit {
	return func(spec *v1alpha1.TenantJobTemplateSpec) { change(&spec.JobTemplate.Spec.Template.Spec) }
}

// ofContainer changes the container of a template.
func ofContainer(change func(*corev1.Container)) edit {
	return ofPod(func(pod *corev1.PodSpec) { change(&pod.Containers[0]) })
}

// variable sets a variable for the sample application.
func variable(name string, value int) edit {
	return ofContainer(func(c *corev1.Container) {
		c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: strconv.Itoa(value)})
	})
}

// limited gives the container so much of a resource.
func limited(name corev1.ResourceName, quantity string) edit {
	return ofContainer(func(c *corev1.Container) {
		c.Resources.Requests[name] = resource.MustParse(quantity)
		c.Resources.Limits = corev1.ResourceList{name: resource.MustParse(quantity)}
	})
}

func deadline(seconds int64) edit {
	return func(spec *v1alpha1.TenantJobTemplateSpec) { spec.JobTemplate.Spec.ActiveDeadlineSeconds = &seconds }
}

func backoffLimit(n int32) edit {
	return func(spec *v1alpha1.TenantJobTemplateSpec) { spec.JobTemplate.Spec.BackoffLimit = &n }
}

// failWhen makes the Job fail for good when a rule applies to a pod that has failed.
func failWhen(rule batchv1.PodFailurePolicyRule) edit {
	rule.Action = batchv1.PodFailurePolicyActionFailJob
	return func(spec *v1alpha1.TenantJobTemplateSpec) {
		spec.JobTemplate.Spec.PodFailurePolicy = &batchv1.PodFailurePolicy{Rules: []batchv1.PodFailurePolicyRule{rule}}
	}
}

// withSidecar adds a sidecar that runs a subcommand of the sample application. The container starts when it listens.
func withSidecar(command string, env ...corev1.EnvVar) edit {
	return ofPod(func(pod *corev1.PodSpec) {
		proxy := *pod.Containers[0].DeepCopy()
		proxy.Name, proxy.Args, proxy.Env, proxy.RestartPolicy = "proxy", []string{command}, env, new(corev1.ContainerRestartPolicyAlways)
		proxy.StartupProbe = &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}}, PeriodSeconds: 1, FailureThreshold: 60,
		}
		pod.InitContainers = append(pod.InitContainers, proxy)
	})
}

// withVolume adds a volume, into which the sample application writes.
func withVolume(source corev1.VolumeSource) edit {
	const name, path = "data", "/data"
	return ofPod(func(pod *corev1.PodSpec) {
		pod.SecurityContext.FSGroup = pod.SecurityContext.RunAsGroup
		pod.Volumes = append(pod.Volumes, corev1.Volume{Name: name, VolumeSource: source})
		c := &pod.Containers[0]
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: path})
		c.Env = append(c.Env, corev1.EnvVar{Name: "WRITE_DIRECTORY", Value: path})
	})
}

func fromSecret(name string) corev1.EnvVar {
	return corev1.EnvVar{Name: "PASSWORD", ValueFrom: &corev1.EnvVarSource{
		SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: "password"},
	}}
}

// exitCodeOfIndex makes each index of an Indexed Job exit with its number.
var exitCodeOfIndex = corev1.EnvVar{Name: "EXIT_CODE", ValueFrom: &corev1.EnvVarSource{
	FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['" + batchv1.JobCompletionIndexAnnotation + "']"},
}}
