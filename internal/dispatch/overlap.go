package dispatch

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/conditions"
	"github.com/tenantry/tenantry/internal/queue"
	"github.com/tenantry/tenantry/internal/schedule"
)

// neverStarted are the kubelet's reasons for a container that waits and has never been started, if it is never restarted.
var neverStarted = []string{"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"}

// tickOf returns the tick that is in the name of a schedule's fan-out. Zero means that there is none.
func tickOf(name, fanOut string) time.Time {
	if name == "" {
		return time.Time{}
	}
	tick, _ := schedule.NamedTick(name, fanOut)
	return tick
}

// overlapMessage says which earlier run of its schedule keeps a TenantJob from running, whether that has begun, and how to end it.
func (d *Dispatcher) overlapMessage(j queue.Job, earlier []types.UID) string {
	for _, uid := range earlier {
		run, known := d.state.Job(uid)
		if !known {
			continue
		}
		is := fmt.Sprintf("TenantJob %s, an earlier run of schedule %s for tenant %s", run.Key.Name, j.Schedule, j.Tenant)
		if waits := d.startingMessage(run); waits != "" {
			return is + ", has not begun: set its `spec.cancel` to end it; " + waits
		}
		return is + ", still runs"
	}
	return fmt.Sprintf("an earlier run of schedule %s still runs for tenant %s", j.Schedule, j.Tenant)
}

// startingMessage is what the TenantJob of a run says it waits for that has its Job and does not run yet. It is empty for any
// other run.
func (d *Dispatcher) startingMessage(run queue.Job) string {
	tj := d.tenantJob(run.Key)
	if tj == nil || tj.UID != run.UID {
		return ""
	}
	if c := conditions.Get(tj.Status.Conditions, v1alpha1.ConditionSucceeded); c.Status == metav1.ConditionUnknown && c.Reason == v1alpha1.ReasonStarting {
		return c.Message
	}
	return ""
}

// allGiveWay says whether all of some earlier runs of a schedule are stopped for a later one.
func (d *Dispatcher) allGiveWay(earlier []types.UID, later queue.Job) bool {
	return !slices.ContainsFunc(earlier, func(uid types.UID) bool {
		run, known := d.state.Job(uid)
		return !known || !d.givesWay(run, later)
	})
}

// givesWay says whether an earlier run of a schedule is stopped for a later one: it has never begun, since its container can't be
// started, and the later one runs a newer generation of the template, in which that may be mended. Nothing has run that would be
// lost.
func (d *Dispatcher) givesWay(earlier, later queue.Job) bool {
	was, is := d.fanOut(earlier.FanOut), d.fanOut(later.FanOut)
	if was == nil || is == nil || earlier.Template != later.Template || earlier.Queue == "" {
		return false
	}
	pod := &was.ledger.Plan().Template.JobTemplate.Spec.Template.Spec
	if len(pod.Containers) != 1 || len(pod.InitContainers) > 0 || pod.RestartPolicy != corev1.RestartPolicyNever {
		return false // One of its containers may have run.
	}
	message := d.startingMessage(earlier)
	if !slices.ContainsFunc(neverStarted, func(reason string) bool { return strings.Contains(message, reason) }) {
		return false
	}
	for _, made := range d.jobsIn(earlier.Key.Namespace) {
		if made.Name == earlier.Key.Name && holderUID(made) == earlier.UID {
			generation, err := strconv.ParseInt(made.Annotations[v1alpha1.AnnotationTemplateGeneration], 10, 64)
			return err == nil && generation < is.ledger.Plan().TemplateGeneration && noPodHasRun(made)
		}
	}
	return false
}

// noPodHasRun says whether no pod of a Job has become ready or has ended, as far as its status says.
func noPodHasRun(j *batchv1.Job) bool {
	s := j.Status
	return ptr.Deref(s.Ready, 0) == 0 && s.Failed == 0 && s.Succeeded == 0 && ptr.Deref(s.Terminating, 0) == 0
}
