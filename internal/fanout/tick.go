package fanout

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// Tick returns the tick of the schedule that a fan-out was created for. It returns false for a fan-out without a tick.
func Tick(fanOut *v1alpha1.TenantFanOut) (time.Time, bool) {
	tick, err := time.Parse(time.RFC3339, fanOut.Annotations[v1alpha1.AnnotationScheduledTime])
	return tick.UTC(), err == nil
}

// OnTenantsClock says whether a fan-out's tick comes for each tenant at that time of the tenant's own zone.
func OnTenantsClock(fanOut *v1alpha1.TenantFanOut) bool {
	_, scheduled := Tick(fanOut)
	return scheduled && fanOut.Annotations[v1alpha1.AnnotationTimeZoneFrom] == string(v1alpha1.TimeZoneFromTenant)
}

// WindowStart is where the window of spreadSeconds begins. That is the tick, so that a tenant runs at the same minute each
// time, however late the plan is sealed. Zero means now: without a tick, or when the window has passed already, which would
// let all tenants start at once.
func WindowStart(fanOut *v1alpha1.TenantFanOut, now time.Time) time.Time {
	tick, scheduled := Tick(fanOut)
	if !scheduled || !now.Before(tick.Add(time.Duration(spreadSeconds(fanOut))*time.Second)) {
		return time.Time{}
	}
	return tick
}

// ScheduledTime returns when the tick came for the tenant at an index of the plan, as its child's annotation and environment
// have it. It is empty for a fan-out without a tick.
func (p *Plan) ScheduledTime(fanOut *v1alpha1.TenantFanOut, i int) string {
	if at, ok := p.scheduledTime(fanOut, p.Entries[i]); ok {
		return at.Format(time.RFC3339)
	}
	return ""
}

// ScheduleOf returns the TenantSchedule that has made a fan-out, empty when none has.
func ScheduleOf(fanOut *v1alpha1.TenantFanOut) string {
	if owner := metav1.GetControllerOf(fanOut); owner != nil && owner.Kind == "TenantSchedule" {
		return owner.Name
	}
	return ""
}

// scheduledTime returns when the tick came for a tenant. It returns false for a fan-out without a tick.
func (p *Plan) scheduledTime(fanOut *v1alpha1.TenantFanOut, e Entry) (time.Time, bool) {
	if OnTenantsClock(fanOut) && !e.NotBefore.IsZero() {
		return e.NotBefore.Add(-placeInWindow(e, p.SpreadSeconds)), true
	}
	return Tick(fanOut)
}
