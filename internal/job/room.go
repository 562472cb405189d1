package job

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// KeepJobFor is for how long the Job of a run that has ended, and with it the logs of its pods, is kept although the tenant's
// quota for Jobs is full. The TenantJob, which says how the run ended, is kept in any case.
const KeepJobFor = time.Hour

// Room is what the Jobs of a tenant's runs that have ended take of its quota.
type Room struct {
	// Ended is how many such Jobs there are.
	Ended int
	// Oldest is the run that ended first, and whose Job may go now. Nil means that none may yet.
	Oldest *v1alpha1.TenantJob
}

// RoomOf finds what the Jobs of runs that have ended take of a full quota. WithJob are the TenantJobs of a tenant that are over and
// have their Job still.
func RoomOf(withJob []*v1alpha1.TenantJob, now time.Time) Room {
	room := Room{Ended: len(withJob)}
	for _, tj := range withJob {
		at := tj.Status.CompletionTime
		if at != nil && now.Sub(at.Time) >= KeepJobFor && (room.Oldest == nil || at.Before(room.Oldest.Status.CompletionTime)) {
			room.Oldest = tj
		}
	}
	return room
}

// Message is what the status of a TenantJob that a full quota holds says of them. Empty means nothing.
func (r Room) Message() string {
	if r.Ended == 0 {
		return ""
	}
	return fmt.Sprintf("; Jobs of runs that have ended count too (%d): delete TenantJobs that have ended, or raise `spec.quota.hard` of the Tenant; "+
		"`failedTTLSecondsAfterFinished` of the template lets those that failed go by themselves", r.Ended)
}

// RefusedJob is the status message of a TenantJob whose Job the API server refuses. The other TenantJobs of the tenant say the same,
// so the names of its objects are taken out of what the API server says.
func RefusedJob(tj *v1alpha1.TenantJob, says string) string {
	return "the API server refuses the Job: " + withoutName(tj.Name, says)
}

// RefusedLabels is the same for one whose labels the API server refuses.
func RefusedLabels(tj *v1alpha1.TenantJob, says string) string {
	return "the API server refuses the labels of the TenantJob: " + withoutName(tj.Name, says)
}

// subject matches the object that a message of the API server begins with.
var subject = regexp.MustCompile(`^\S+ "[^"]*" is forbidden: `)

func withoutName(name, says string) string {
	return strings.ReplaceAll(subject.ReplaceAllString(says, ""), strconv.Quote(name), "it")
}
