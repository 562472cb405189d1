package job

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSuspensionOf(t *testing.T) {
	set := func(manager string, at time.Duration, fields string) func(*batchv1.Job) {
		return func(j *batchv1.Job) {
			j.ManagedFields = append(j.ManagedFields, metav1.ManagedFieldsEntry{Manager: manager, Time: agoPtr(at), FieldsV1: metav1.NewFieldsV1(fields)})
		}
	}
	const suspend = `{"f:spec":{"f:suspend":{}}}`
	const rest = ": it goes on when `spec.suspend` of Job report-8231 is false; it keeps its slot"
	cases := map[string]struct {
		given []func(*batchv1.Job)
		want  string
	}{
		"nobody knows": {nil, "its Job is suspended" + rest},
		"a person": {
			[]func(*batchv1.Job){set("tenantry", time.Minute, `{"f:spec":{"f:template":{}}}`), set("kubectl-patch", time.Second, suspend)},
			"its Job is suspended by field manager kubectl-patch" + rest,
		},
		"the last of two": {
			[]func(*batchv1.Job){set("kubectl-edit", time.Second, suspend), set("argocd", time.Minute, suspend)},
			"its Job is suspended by field manager kubectl-edit" + rest,
		},
		"a webhook, which has no name": {
			[]func(*batchv1.Job){set("tenantry", time.Minute, suspend)},
			"its Job is suspended since it was created, by an admission webhook or policy" + rest,
		},
		"Kueue": {
			[]func(*batchv1.Job){set("tenantry", time.Minute, suspend), func(j *batchv1.Job) { j.Labels = map[string]string{"kueue.x-k8s.io/queue-name": "gold"} }},
			"its Job is suspended by Kueue, in its queue gold (label kueue.x-k8s.io/queue-name), and starts when Kueue admits it; it keeps its slot",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			j := newJob()
			for _, change := range tc.given {
				change(j)
			}
			if got := SuspensionOf(j, "tenantry"); got != tc.want {
				t.Errorf("SuspensionOf:\n%s\nwant:\n%s", got, tc.want)
			}
		})
	}
}
