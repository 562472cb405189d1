package e2e

import (
	"context"
	"fmt"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Serial, since the other specs need a running operator.
var _ = Describe("The operator", Serial, func() {
	It("makes exactly one Job of each TenantJob and exceeds no limit, whenever it is killed", func(ctx SpecContext) {
		const limit = 3
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{Jobs: &v1alpha1.TenantJobLimits{MaxConcurrent: new(int32(limit))}})
		template := givenTemplate(ctx, "check-expired-sessions")
		made := watchJobs(ctx, acme.NamespaceName())

		const before, after = 3, 2 // how many TenantJobs exist when it is killed, and how many are created while it ends
		var all []*v1alpha1.TenantJob
		start := func(round int, when string, n int) (names []string) {
			for i := range n {
				tj := dispatch(ctx, acme, template, fmt.Sprintf("round-%d-%s-%d", round, when, i), none)
				all, names = append(all, tj), append(names, tj.Name)
			}
			return names
		}
		for round, kill := range []struct {
			moment string
			// How many of the first Jobs are created, and how many of them have ended.
			made, over int
			// The kubelet gives it at least two seconds. With 0 the next operator may start before this one has ended.
			grace int64
		}{
			{"as soon as the TenantJobs are there", 0, 0, 0},
			{"when the first Job is there", 1, 0, 1},
			{"when the second Job is there", 2, 0, 0},
			{"when all Jobs are there", before, 0, 1},
			{"when the first Job is over", before, 1, 0},
			{"when all Jobs are over", before, before, 1},
		} {
			By("killing it " + kill.moment)
			names := start(round, "before", before)
			Eventually(ctx, func() int { return made.seen(names) }).Should(BeNumerically(">=", kill.made))
			Eventually(ctx, overIn).WithArguments(acme.NamespaceName(), names).Should(BeNumerically(">=", kill.over))
			killed := killOperator(ctx, kill.grace)
			start(round, "after", after)
			expectLeader(ctx, killed)
		}

		By("looking at what came of it")
		for _, tj := range all {
			expectReason(ctx, tj, v1alpha1.ReasonCompleted)
			Expect(made.uids(tj.Name)).To(HaveLen(1), "TenantJob %s should have had one Job", tj.Name)
			pod := podOf(ctx, tj)
			Expect(pod.Status.Phase).To(Equal(corev1.PodSucceeded))
		}
		Expect(made.failure()).NotTo(HaveOccurred(), "the watch should have seen everything")
		Expect(made.peak()).To(Equal(limit), "so many should run at once, and no more")
	})

	It("catches up after it was away", func(ctx SpecContext) {
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		globex := givenTenant(ctx, "globex", v1alpha1.TenantSpec{})
		template := givenTemplate(ctx, "check-expired-sessions")
		finishing := dispatch(ctx, acme, template, "finishing", none)
		stopped := dispatch(ctx, globex, template, "stopped", endless)
		runs(ctx, stopped)
		expectReason(ctx, finishing, v1alpha1.ReasonCompleted)

		scaleOperator(ctx, 0)
		DeferCleanup(func(ctx SpecContext) { scaleOperator(ctx, 1) })
		created := dispatch(ctx, acme, template, "created", none)
		change(ctx, globex, suspend)
		Expect(kube.Delete(ctx, finishing)).To(Succeed())

		scaleOperator(ctx, 1)
		expectReason(ctx, created, v1alpha1.ReasonCompleted)
		expectSuspended(ctx, globex, metav1.ConditionTrue)
		expectReason(ctx, stopped, v1alpha1.ReasonStoppedBySuspension)
	})
})

// killOperator kills the operator's pod and returns which one that was.
func killOperator(ctx context.Context, grace int64) types.UID {
	GinkgoHelper()
	pod := operatorPod(ctx)
	Expect(kube.Delete(ctx, &pod, client.GracePeriodSeconds(grace))).To(Succeed())
	return pod.UID
}

// expectLeader waits until another operator is the leader.
func expectLeader(ctx context.Context, before types.UID) {
	GinkgoHelper()
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		var pods corev1.PodList
		g.Expect(kube.List(ctx, &pods, client.InNamespace(operatorNamespace), operatorPods)).To(Succeed())
		g.Expect(pods.Items).To(HaveLen(1))
		g.Expect(pods.Items[0].UID).NotTo(Equal(before))
		g.Expect(leader(ctx, g)).To(HavePrefix(pods.Items[0].Name + "_"))
	}).Should(Succeed())
}

// leader returns the holder of the operator's lease: a pod's name and a random suffix.
func leader(ctx context.Context, g Gomega) string {
	var lease coordinationv1.Lease
	g.Expect(kube.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: "tenantry.dev"}, &lease)).To(Succeed())
	return ptr.Deref(lease.Spec.HolderIdentity, "")
}

func operatorPod(ctx context.Context) corev1.Pod {
	GinkgoHelper()
	var pods corev1.PodList
	Expect(kube.List(ctx, &pods, client.InNamespace(operatorNamespace), operatorPods)).To(Succeed())
	Expect(pods.Items).To(HaveLen(1))
	return pods.Items[0]
}

// scaleOperator starts the operator, or stops it and waits until it is gone.
func scaleOperator(ctx context.Context, replicas int32) {
	GinkgoHelper()
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: operatorDeployment}}
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	Expect(kube.Patch(ctx, deployment, client.RawPatch(types.MergePatchType, patch))).To(Succeed())
	if replicas > 0 {
		expectLeader(ctx, "")
		return
	}
	Eventually(ctx, func() []string { return livePods(ctx, operatorNamespace) }).Should(BeEmpty())
}

// overIn counts the Jobs of these names in a namespace that are complete.
func overIn(ctx context.Context, namespace string, names []string) int {
	GinkgoHelper()
	over := 0
	for _, name := range names {
		var job batchv1.Job
		err := kube.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &job)
		Expect(client.IgnoreNotFound(err)).To(Succeed())
		if job.Status.Succeeded > 0 {
			over++
		}
	}
	return over
}

// madeJobs are all Jobs that were ever created in a namespace.
type madeJobs struct {
	mu     sync.Mutex
	byName map[string]map[types.UID]bool
	live   map[types.UID]bool
	most   int // how many were live at once, at most
	err    error
}

// watchJobs watches a namespace's Jobs until the spec ends.
func watchJobs(ctx context.Context, namespace string) *madeJobs {
	GinkgoHelper()
	watcher, err := clientset.BatchV1().Jobs(namespace).Watch(ctx, metav1.ListOptions{})
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(watcher.Stop)
	made := &madeJobs{byName: map[string]map[types.UID]bool{}, live: map[types.UID]bool{}}
	go func() {
		for event := range watcher.ResultChan() {
			made.add(event)
		}
		made.add(watch.Event{})
	}()
	return made
}

// add handles an event of the watch. An event without a Job is the end of the watch.
func (m *madeJobs) add(event watch.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	job, ok := event.Object.(*batchv1.Job)
	if !ok {
		m.err = fmt.Errorf("the watch ended: %v", event)
		return
	}
	if m.byName[job.Name] == nil {
		m.byName[job.Name] = map[types.UID]bool{}
	}
	m.byName[job.Name][job.UID] = true
	if event.Type == watch.Deleted || job.Status.CompletionTime != nil {
		delete(m.live, job.UID)
	} else {
		m.live[job.UID] = true
	}
	m.most = max(m.most, len(m.live))
}

// peak returns how many Jobs were live at once, at most.
func (m *madeJobs) peak() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.most
}

// seen counts how many of the names have had a Job.
func (m *madeJobs) seen(names []string) int {
	n := 0
	for _, name := range names {
		if len(m.uids(name)) > 0 {
			n++
		}
	}
	return n
}

// uids returns the UIDs of all Jobs of a name.
func (m *madeJobs) uids(name string) []types.UID {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []types.UID
	for uid := range m.byName[name] {
		all = append(all, uid)
	}
	return all
}

func (m *madeJobs) failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}
