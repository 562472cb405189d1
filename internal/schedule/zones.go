package schedule

import (
	"fmt"
	"sync"
	"time"
	_ "time/tzdata" // the image may have none
)

// loadedZones by name. Reading one takes longer than everything else about a tick, and there are only so many.
var loadedZones sync.Map

// LoadZone returns an IANA time zone. It refuses what the machine decides about: no name, and Local.
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
