package job

import (
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// now is the time of the decisions.
var now = time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

func agoPtr(d time.Duration) *metav1.Time { return new(ago(d)) }

func newTemplate(change ...func(*v1alpha1.TenantJobTemplate)) *v1alpha1.TenantJobTemplate {
	t := &v1alpha1.TenantJobTemplate{
		ObjectMeta: metav1.ObjectMeta{
			Name: "report", Generation: 4, CreationTimestamp: ago(24 * time.Hour),
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl", Time: agoPtr(0)}, {Manager: "tenantry", Subresource: "status", Time: agoPtr(time.Hour)}},
		},
		Spec: v1alpha1.TenantJobTemplateSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{
			Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{Name: "main", Image: "example.com/report"}}},
		}}}},
		Status: v1alpha1.TenantJobTemplateStatus{Conditions: []metav1.Condition{
			{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, ObservedGeneration: 4},
		}},
	}
	for _, c := range change {
		c(t)
	}
	return t
}

func newTenant() *v1alpha1.Tenant {
	return &v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Name: "acme", UID: "tenant-uid"},
		Status: v1alpha1.TenantStatus{
			Namespace:  &v1alpha1.TenantNamespaceStatus{Name: "tenant-acme", UID: "namespace-uid"},
			Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}},
		},
	}
}

func newTenantJob() *v1alpha1.TenantJob {
	return &v1alpha1.TenantJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "tenant-acme", Name: "report-8231", UID: "run-uid", Generation: 1, CreationTimestamp: ago(10 * time.Minute)},
		Spec:       v1alpha1.TenantJobSpec{TenantRef: v1alpha1.TenantReference{Name: "acme"}, TemplateRef: v1alpha1.LabelReference{Name: "report"}},
	}
}

// newObserved returns a TenantJob that may start.
func newObserved() Observed {
	return Observed{
		TenantJob: newTenantJob(),
		Namespace: &Namespace{UID: "namespace-uid", Tenant: "acme", TenantUID: "tenant-uid", State: v1alpha1.StateActive},
		Tenant:    newTenant(),
		Template:  newTemplate(),
	}
}

// newJob returns a Job that was created a minute ago, and whose pod the Job controller has created.
func newJob() *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: "tenant-acme", Name: "report-8231", CreationTimestamp: ago(time.Minute)},
		Status:     batchv1.JobStatus{StartTime: agoPtr(time.Minute), Active: 1, Ready: new(int32(0))},
	}
}

func outcome(tj *v1alpha1.TenantJob, status metav1.ConditionStatus, reason, message string) {
	tj.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionSucceeded, Status: status, Reason: reason, Message: message}}
}

func final(j *batchv1.Job, conditionType batchv1.JobConditionType, reason, message string) {
	j.Status.Active = 0
	j.Status.Conditions = append(j.Status.Conditions, batchv1.JobCondition{
		Type: conditionType, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastTransitionTime: ago(time.Second),
	})
}
