package schedule

import (
	"time"
)

const (
	// eastmost is how far ahead of UTC the first clock of the world is, that of Kiritimati.
	eastmost = 14 * time.Hour
	// AroundTheWorld is how long a civil time takes from there to the last clock, twelve hours behind UTC.
	AroundTheWorld = 26 * time.Hour
)

// world is the clock on which the ticks of a schedule with timeZoneFrom: Tenant are found.
var world = time.FixedZone("UTC+14", int(eastmost/time.Second))

// TenantTime returns when a tick of a schedule with timeZoneFrom: Tenant comes in a zone, UTC for none: the first instant
// at which the clock there shows the tick's civil time, or the first after a gap that it falls into. It is not before the
// tick, and at most 26 hours after it.
func TenantTime(tick time.Time, zone *time.Location) time.Time {
	civil := unix(tick) + int64(eastmost/time.Second)
	for s := range spans(orUTC(zone), unix(tick), civil+secondsPerDay) {
		if civil < s.to {
			return time.Unix(max(civil, s.from)-s.offset, 0).UTC()
		}
	}
	return tick // A clock that is more than a day behind UTC.
}
