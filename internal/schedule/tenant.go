package schedule

import (
	"time"
)

const (
	// maxOffset is how far the easternmost clock is ahead of UTC: that of Kiritimati.
	maxOffset = 14 * time.Hour
	// MaxZoneDifference is how long after the easternmost clock the westernmost one, twelve hours behind UTC, shows the same
	// civil time.
	MaxZoneDifference = 26 * time.Hour
)

// easternmost is the zone in which the ticks of a schedule with timeZoneFrom: Tenant are found.
var easternmost = time.FixedZone("UTC+14", int(maxOffset/time.Second))

// TenantTime returns when a tick of a schedule with timeZoneFrom: Tenant comes in a zone; nil means UTC. It is the first
// instant at which the clock of the zone shows the tick's civil time, or the first one after the gap that contains this
// civil time. It is not before the tick, and at most MaxZoneDifference after it.
func TenantTime(tick time.Time, zone *time.Location) time.Time {
	civil := unix(tick) + int64(maxOffset/time.Second)
	for s := range spans(orUTC(zone), unix(tick), civil+secondsPerDay) {
		if civil < s.to {
			return time.Unix(max(civil, s.from)-s.offset, 0).UTC()
		}
	}
	return tick // The clock is more than a day behind UTC. There is no such zone.
}
