package e2e

import (
	"context"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

var _ = Describe("The status of a run", func() {
	// A pod may be gone before anybody has seen why it is deleted. These take some seconds to end, but for one.
	DescribeTable("says what somebody has done to it",
		func(ctx SpecContext, act func(context.Context, *corev1.Pod) error, reason string, message types.GomegaMatcher, edits ...edit) {
			acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
			run := dispatch(ctx, acme, givenTemplate(ctx, "end", edits...), "run", endless)
			pod := runs(ctx, run)
			Expect(act(ctx, &pod)).To(Succeed())
			expectEnd(ctx, run, reason, message)
		},
		Entry("when its pod is evicted", evict, v1alpha1.ReasonJobFailed, Equal(retried+evicted), toEndSlowly),
		Entry("when its pod is evicted, and its podFailurePolicy has a rule for that", evict, v1alpha1.ReasonJobFailed,
			Equal("Pod has condition DisruptionTarget matching FailJob rule at index 0: "+evicted), toEndSlowly, failWhen(batchv1.PodFailurePolicyRule{
				OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{{Type: corev1.DisruptionTarget}},
			})),
		Entry("when its pod is deleted", deletePod, v1alpha1.ReasonJobFailed, Equal(retried+"its pod was deleted"), toEndSlowly),
		// The pod may be gone before it was read, and its Job may have failed before somebody could see that it has none.
		Entry("when its pod is deleted, and ends at once", deletePod, v1alpha1.ReasonJobFailed,
			Or(Equal(retried+"its pod was deleted"), Equal(strings.TrimSuffix(retried, ": ")))),
		Entry("when its Job is deleted", deleteJob, v1alpha1.ReasonDeleted,
			Equal("the Job was deleted before it finished; create another TenantJob to run it again")),
	)

	It("says that a pod of higher priority has taken its pod's place", func(ctx SpecContext) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		seat := givenSeat(ctx)
		low, high := givenPriority(ctx, 1), givenPriority(ctx, 2)
		of := func(class string) edit { return ofPod(func(pod *corev1.PodSpec) { pod.PriorityClassName = class }) }
		displaced := dispatch(ctx, acme, givenTemplate(ctx, "end", limited(seat, "1"), of(low), toEndSlowly), "displaced", endless)
		runs(ctx, displaced)

		urgent := dispatch(ctx, acme, givenTemplate(ctx, "end", limited(seat, "1"), of(high)), "urgent", none)
		expectEnd(ctx, displaced, v1alpha1.ReasonJobFailed, Equal(retried+"PreemptionByScheduler: a pod of higher priority took its place"))
		expectReason(ctx, urgent, v1alpha1.ReasonCompleted)
	})

	It("says that its node was lost, while it waits for Kubernetes to say that the pod has ended", SpecPriority(1), func(ctx SpecContext) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		node := givenNode(ctx)
		run := dispatch(ctx, acme, givenTemplate(ctx, "end", on(node)), "run", endless)
		runsOn(ctx, node, run)

		taint(ctx, node, "e2e.tenantry.dev/lost")
		const lost = "DeletionByTaintManager: its node has a taint that it does not tolerate, for example because the node is lost"
		expectMessage(ctx, run, v1alpha1.ReasonStarting, Equal(lost))
		setReady(ctx, node, corev1.ConditionUnknown)
		taint(ctx, node, corev1.TaintNodeOutOfService)
		expectEnd(ctx, run, v1alpha1.ReasonJobFailed, Equal(retried+lost))
	})

	It("says that its node is gone", SpecPriority(1), func(ctx SpecContext) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		node := givenNode(ctx)
		run := dispatch(ctx, acme, givenTemplate(ctx, "end", on(node)), "run", endless)
		runsOn(ctx, node, run)

		Expect(kube.Delete(ctx, node)).To(Succeed())
		// Kubernetes deletes the pod, without waiting for anything, in the moment in which it says why.
		expectEnd(ctx, run, v1alpha1.ReasonJobFailed, Or(Equal(retried+"DeletionByPodGC: its node is gone"), Equal(retried+"its pod was deleted")))
	})

	It("goes with its namespace, and the fan-out says so", func(ctx SpecContext) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		fanOut := givenFanOut(ctx, givenTemplate(ctx, "end"), v1alpha1.TenantSelection{Names: names(acme)},
			func(spec *v1alpha1.TenantFanOutSpec) { spec.Parameters = endless })
		Eventually(ctx, func() []string { return childrenOf(ctx, fanOut) }).Should(HaveLen(1))
		runs(ctx, childOf(ctx, fanOut, acme))

		Expect(asOperator().Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: acme.NamespaceName()}})).To(Succeed())
		expectFanOut(ctx, fanOut, v1alpha1.ReasonSomeFailed)
		Expect(fanOut.Status.UnsuccessfulTenants).To(HaveExactElements(And(
			HaveField("Tenant", v1alpha1.TenantName(acme.Name)),
			Or( // What Kubernetes deletes first is left to chance: the pod, the Job or the TenantJob. The pod may be gone before it was read.
				And(HaveField("Reason", v1alpha1.ReasonJobFailed), HaveField("Message", HaveSuffix("; namespace "+acme.NamespaceName()+" is being deleted"))),
				And(HaveField("Reason", v1alpha1.ReasonDeleted), HaveField("Message", "the Job was deleted before it finished, with namespace "+acme.NamespaceName())),
				And(HaveField("Reason", v1alpha1.ReasonDeleted), HaveField("Message", "its TenantJob was deleted before it had an outcome"))))))
	})
})

const evicted = "EvictionByEvictionAPI: somebody evicted it, for example to drain its node"

func evict(ctx context.Context, pod *corev1.Pod) error {
	return clientset.PolicyV1().Evictions(pod.Namespace).Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}})
}

func deletePod(ctx context.Context, pod *corev1.Pod) error { return kube.Delete(ctx, pod) }

func deleteJob(ctx context.Context, pod *corev1.Pod) error {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Labels[batchv1.JobNameLabel]}}
	return asOperator().Delete(ctx, job, client.PropagationPolicy(metav1.DeletePropagationBackground))
}

// givenPriority creates a PriorityClass, which is deleted when the spec ends, and returns its name.
func givenPriority(ctx context.Context, value int32) string {
	GinkgoHelper()
	class := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"}, Value: value}
	Expect(kube.Create(ctx, class)).To(Succeed())
	DeferCleanup(func(ctx SpecContext) { Expect(client.IgnoreNotFound(kube.Delete(ctx, class))).To(Succeed()) })
	return class.Name
}

// givenSeat adds an extended resource to a node, which has one of it, and returns its name. Only pods that ask for it compete for it.
// It is removed when the spec ends.
func givenSeat(ctx context.Context) corev1.ResourceName {
	GinkgoHelper()
	seat := corev1.ResourceName("e2e.tenantry.dev/seat-" + rand.String(5))
	node := realNode(ctx)
	changeStatus(ctx, node, func(node *corev1.Node) {
		node.Status.Capacity[seat], node.Status.Allocatable[seat] = resource.MustParse("1"), resource.MustParse("1")
	})
	DeferCleanup(func(ctx SpecContext) {
		changeStatus(ctx, node, func(node *corev1.Node) {
			delete(node.Status.Capacity, seat)
			delete(node.Status.Allocatable, seat)
		})
	})
	return seat
}

// realNode returns a node on which any pod can run.
func realNode(ctx context.Context) *corev1.Node {
	GinkgoHelper()
	var nodes corev1.NodeList
	Expect(kube.List(ctx, &nodes)).To(Succeed())
	for i := range nodes.Items {
		if len(nodes.Items[i].Spec.Taints) == 0 {
			return &nodes.Items[i]
		}
	}
	Fail("every node has a taint")
	return nil
}

// lostNode is the label, and the key of the taint, of a node that a spec creates. Only the pods of that spec run there.
const lostNode = "e2e.tenantry.dev/node"

// givenNode creates a node that has no kubelet, and whose pods therefore do nothing. It is deleted when the spec ends.
func givenNode(ctx context.Context) *corev1.Node {
	GinkgoHelper()
	name := "e2e-" + rand.String(5)
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{lostNode: name}},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: lostNode, Value: name, Effect: corev1.TaintEffectNoSchedule}}},
	}
	Expect(kube.Create(ctx, node)).To(Succeed())
	DeferCleanup(func(ctx SpecContext) { Expect(client.IgnoreNotFound(kube.Delete(ctx, node))).To(Succeed()) })
	setReady(ctx, node, corev1.ConditionTrue)
	return node
}

// setReady writes the status of a node, as its kubelet does while it lives, and the node controller when it does not.
func setReady(ctx context.Context, node *corev1.Node, status corev1.ConditionStatus) {
	GinkgoHelper()
	changeStatus(ctx, node, func(node *corev1.Node) {
		node.Status.Capacity = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourcePods: resource.MustParse("10"),
		}
		node.Status.Allocatable = node.Status.Capacity.DeepCopy()
		node.Status.Conditions = []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: status, Reason: "E2E", LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now(),
		}}
	})
}

// taint makes Kubernetes delete the pods of a node.
func taint(ctx context.Context, node *corev1.Node, key string) {
	GinkgoHelper()
	change(ctx, node, func(node *corev1.Node) {
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: key, Value: "true", Effect: corev1.TaintEffectNoExecute})
	})
}

// on binds the pods of a template to a node.
func on(node *corev1.Node) edit {
	return ofPod(func(pod *corev1.PodSpec) {
		pod.NodeSelector = map[string]string{lostNode: node.Name}
		pod.Tolerations = []corev1.Toleration{{Key: lostNode, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}
	})
}

// runsOn waits until the TenantJob's one pod is bound to a node without a kubelet, and says in the kubelet's place that it runs.
func runsOn(ctx context.Context, node *corev1.Node, tj *v1alpha1.TenantJob) {
	GinkgoHelper()
	Eventually(ctx, func() []corev1.Pod { return podsOf(ctx, tj) }).Should(HaveExactElements(HaveField("Spec.NodeName", node.Name)))
	pod := podOf(ctx, tj)
	changeStatus(ctx, &pod, func(pod *corev1.Pod) {
		pod.Status.Phase = corev1.PodRunning
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	})
	runs(ctx, tj)
}

// changeStatus patches the status of an object.
func changeStatus[T client.Object](ctx context.Context, obj T, edit func(T)) {
	GinkgoHelper()
	before := obj.DeepCopyObject().(client.Object)
	edit(obj)
	Expect(kube.Status().Patch(ctx, obj, client.MergeFrom(before))).To(Succeed())
}
