package schedule

import (
	"strconv"
	"strings"
	"time"
)

// TickName is the name of the fan-out that a tick of a schedule makes.
func TickName(schedule string, tick time.Time) string {
	return schedule + "-" + strconv.FormatInt(minuteOf(tick), 10)
}

// NamedTick returns the tick that a fan-out of a schedule is named for. It is false for a name that TickName does not make.
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
