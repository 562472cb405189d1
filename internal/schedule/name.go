package schedule

import (
	"strconv"
	"strings"
	"time"
)

// TickName returns the name of the fan-out of a tick of a schedule: the schedule's name and the tick in minutes since 1970.
func TickName(schedule string, tick time.Time) string {
	return schedule + "-" + strconv.FormatInt(minuteOf(tick), 10)
}

// NamedTick returns the tick in the name of a schedule's fan-out. It returns false for a name that TickName does not
// return.
func NamedTick(schedule, fanOut string) (time.Time, bool) {
	text, ok := strings.CutPrefix(fanOut, schedule+"-")
	if !ok {
		return time.Time{}, false
	}
	minutes, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	tick := time.Unix(minutes*60, 0).UTC()
	return tick, TickName(schedule, tick) == fanOut
}
