package schedule

import (
	"fmt"
	"sync"
	"time"
	_ "time/tzdata" // The image may have no time zones.
)

// loadedZones are the zones that were loaded, by name. Loading one takes longer than everything else about a tick. Their
// number is bounded by that of the IANA time zones.
var loadedZones sync.Map

// LoadZone returns an IANA time zone. The error is about the name: no such zone exists, or it is empty or Local, which
// depend on the machine.
func LoadZone(name string) (*time.Location, error) {
	if zone, ok := loadedZones.Load(name); ok {
		return zone.(*time.Location), nil
	}
	zone, err := time.LoadLocation(name)
	if name == "" || name == "Local" || err != nil {
		return nil, fmt.Errorf("%q must be an IANA time zone such as Europe/Berlin", name)
	}
	loadedZones.Store(name, zone)
	return zone, nil
}
