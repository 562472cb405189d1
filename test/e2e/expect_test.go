package e2e

import (
	"context"
	"fmt"
	"io"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

var (
	isNotFound  = apierrors.IsNotFound
	isForbidden = apierrors.IsForbidden
)

// succeeded returns the condition Succeeded of a TenantJob as it is now. If it is not set yet, it is Unknown and without a
// reason.
func succeeded(ctx context.Context, tj *v1alpha1.TenantJob) (metav1.Condition, error) {
	if err := kube.Get(ctx, client.ObjectKeyFromObject(tj), tj); err != nil {
		return metav1.Condition{}, err
	}
	if found := meta.FindStatusCondition(tj.Status.Conditions, v1alpha1.ConditionSucceeded); found != nil {
		return *found, nil
	}
	return metav1.Condition{Status: metav1.ConditionUnknown}, nil
}

// expectReason waits until the condition Succeeded of a TenantJob has a reason, and returns the condition. It fails at once
// if the TenantJob has ended with another reason.
func expectReason(ctx context.Context, tj *v1alpha1.TenantJob, reason string) metav1.Condition {
	GinkgoHelper()
	return expectMessage(ctx, tj, reason, BeAssignableToTypeOf(""))
}

// expectMessage waits for the message too.
func expectMessage(ctx context.Context, tj *v1alpha1.TenantJob, reason string, message OmegaMatcher) metav1.Condition {
	GinkgoHelper()
	var now metav1.Condition
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		var err error
		now, err = succeeded(ctx, tj)
		g.Expect(err).NotTo(HaveOccurred())
		if now.Status != metav1.ConditionUnknown && now.Reason != reason {
			StopTrying(fmt.Sprintf("it ended as %s: %s", now.Reason, now.Message)).Now()
		}
		g.Expect(now.Reason).To(Equal(reason), now.Message)
		g.Expect(now.Message).To(message)
	}).Should(Succeed(), "TenantJob %s/%s should come to %s", tj.Namespace, tj.Name, reason)
	return now
}

// tenantCondition returns a condition of a Tenant as it is now.
func tenantCondition(ctx context.Context, tenant *v1alpha1.Tenant, conditionType string) (metav1.Condition, error) {
	if err := kube.Get(ctx, client.ObjectKeyFromObject(tenant), tenant); err != nil {
		return metav1.Condition{}, err
	}
	if found := meta.FindStatusCondition(tenant.Status.Conditions, conditionType); found != nil {
		return *found, nil
	}
	return metav1.Condition{}, nil
}

// expectSuspended waits until the condition Suspended of a Tenant has a status, and returns the condition.
func expectSuspended(ctx context.Context, tenant *v1alpha1.Tenant, status metav1.ConditionStatus) metav1.Condition {
	GinkgoHelper()
	var now metav1.Condition
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		var err error
		now, err = tenantCondition(ctx, tenant, v1alpha1.ConditionSuspended)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(now.Status).To(Equal(status), now.Message)
	}).Should(Succeed(), "Suspended of Tenant %s should become %s", tenant.Name, status)
	return now
}

// podsOf returns the pods of a TenantJob.
func podsOf(ctx context.Context, tj *v1alpha1.TenantJob) []corev1.Pod {
	GinkgoHelper()
	var pods corev1.PodList
	Expect(kube.List(ctx, &pods, client.InNamespace(tj.Namespace), client.MatchingLabels{batchv1.JobNameLabel: tj.Name})).To(Succeed())
	return pods.Items
}

// podOf returns the one pod of a TenantJob.
func podOf(ctx context.Context, tj *v1alpha1.TenantJob) corev1.Pod {
	GinkgoHelper()
	pods := podsOf(ctx, tj)
	Expect(pods).To(HaveLen(1), "TenantJob %s should have one pod", tj.Name)
	return pods[0]
}

// livePods returns the names of a namespace's pods that have not ended.
func livePods(ctx context.Context, namespace string) []string {
	GinkgoHelper()
	var pods corev1.PodList
	Expect(kube.List(ctx, &pods, client.InNamespace(namespace))).To(Succeed())
	var names []string
	for i := range pods.Items {
		if phase := pods.Items[i].Status.Phase; phase != corev1.PodSucceeded && phase != corev1.PodFailed {
			names = append(names, pods.Items[i].Name)
		}
	}
	return names
}

// jobsIn returns the names of a namespace's Jobs.
func jobsIn(ctx context.Context, namespace string) []string {
	GinkgoHelper()
	var jobs batchv1.JobList
	Expect(kube.List(ctx, &jobs, client.InNamespace(namespace))).To(Succeed())
	var names []string
	for i := range jobs.Items {
		names = append(names, jobs.Items[i].Name)
	}
	return names
}

// runs waits until the TenantJob's one pod runs, and returns it.
func runs(ctx context.Context, tj *v1alpha1.TenantJob) corev1.Pod {
	GinkgoHelper()
	expectReason(ctx, tj, v1alpha1.ReasonRunning)
	return podOf(ctx, tj)
}

// logOf returns what a pod has written.
func logOf(ctx context.Context, pod *corev1.Pod) string {
	GinkgoHelper()
	stream, err := clientset.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).Stream(ctx)
	Expect(err).NotTo(HaveOccurred(), "reading the log of pod %s/%s", pod.Namespace, pod.Name)
	defer stream.Close()
	text, err := io.ReadAll(stream)
	Expect(err).NotTo(HaveOccurred(), "reading the log of pod %s/%s", pod.Namespace, pod.Name)
	return string(text)
}

// deferred describes an object as it is when its String method is called.
func deferred(ctx context.Context, obj client.Object) fmt.Stringer { return description{ctx, obj} }

type description struct {
	ctx context.Context
	obj client.Object
}

func (d description) String() string {
	fresh := d.obj.DeepCopyObject().(client.Object)
	if err := kube.Get(d.ctx, client.ObjectKeyFromObject(d.obj), fresh); err != nil {
		return err.Error()
	}
	return asYAML(fresh)
}

func asYAML(obj client.Object) string {
	obj.SetManagedFields(nil)
	text, err := yaml.Marshal(obj)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// reportOperator adds the operator's last log lines to the report of a spec that failed.
func reportOperator(ctx context.Context) {
	var pods corev1.PodList
	if err := kube.List(ctx, &pods, client.InNamespace(operatorNamespace), operatorPods); err != nil {
		AddReportEntry("the operator", err.Error())
		return
	}
	for _, pod := range pods.Items {
		options := &corev1.PodLogOptions{TailLines: new(int64(50))}
		text, err := clientset.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).DoRaw(ctx)
		if err != nil {
			text = []byte(err.Error())
		}
		AddReportEntry(fmt.Sprintf("operator %s, %s", pod.Name, pod.Status.Phase), string(text))
	}
}

// reportTenant adds the objects of a tenant to the report of a spec that failed.
func reportTenant(ctx context.Context, tenant *v1alpha1.Tenant) {
	AddReportEntry("Tenant "+tenant.Name, deferred(ctx, tenant).String())
	var tenantJobs v1alpha1.TenantJobList
	var jobs batchv1.JobList
	var pods corev1.PodList
	var events corev1.EventList
	for _, list := range []client.ObjectList{&tenantJobs, &jobs, &pods, &events} {
		if err := kube.List(ctx, list, client.InNamespace(tenant.NamespaceName())); err != nil {
			AddReportEntry("listing", err.Error())
		}
	}
	var lines []string
	for _, tj := range tenantJobs.Items {
		for _, c := range tj.Status.Conditions {
			lines = append(lines, fmt.Sprintf("TenantJob %s: %s=%s %s: %s", tj.Name, c.Type, c.Status, c.Reason, c.Message))
		}
	}
	for _, job := range jobs.Items {
		lines = append(lines, fmt.Sprintf("Job %s: active %d, failed %d, succeeded %d, deletion %v, finalizers %v",
			job.Name, job.Status.Active, job.Status.Failed, job.Status.Succeeded, job.DeletionTimestamp, job.Finalizers))
	}
	for _, pod := range pods.Items {
		lines = append(lines, fmt.Sprintf("pod %s: %s, deletion %v, finalizers %v", pod.Name, pod.Status.Phase, pod.DeletionTimestamp, pod.Finalizers))
	}
	for _, event := range events.Items {
		lines = append(lines, fmt.Sprintf("event on %s %s: %s: %s", event.InvolvedObject.Kind, event.InvolvedObject.Name, event.Reason, event.Message))
	}
	AddReportEntry("in namespace "+tenant.NamespaceName(), strings.Join(lines, "\n"))
}
