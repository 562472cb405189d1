package schedule

import (
	"slices"
	"time"

	"k8s.io/utils/ptr"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

const (
	// OnTimeTolerance is how late a tick may be found and still count as on time. A tick that is on time runs whatever
	// catchUpLimit says.
	OnTimeTolerance = time.Minute
	// MaxRequeueAfter is the longest time until a schedule is decided about again. It bounds how late a tick can be when the
	// clock was wrong the last time.
	MaxRequeueAfter = time.Minute

	// maxClockSkew is how far the clocks of two API servers may differ. A time that is further in the future shows that a
	// clock was wrong.
	maxClockSkew = time.Minute
	// maxCatchUp is the greatest catchUpLimit.
	maxCatchUp = 100
	// nextTicks is how many of the next ticks the status shows.
	nextTicks = 5
)

// Reasons why a tick was missed.
const (
	// MissedStartingDeadline means that it was found later than startingDeadlineSeconds allow.
	MissedStartingDeadline = "StartingDeadlineExceeded"
	// MissedCatchUpLimit means that there were more newer ticks than catchUpLimit allows to run.
	MissedCatchUpLimit = "CatchUpLimitExceeded"
	// MissedNameConflict means that a foreign object has the name of its fan-out.
	MissedNameConflict = "NameConflict"
	// MissedInvalidFanOut means that the API server refuses its fan-out.
	MissedInvalidFanOut = "InvalidFanOut"
	// MissedEdited means that nobody was there between the tick and an edit of the schedule.
	MissedEdited = "ScheduleEdited"
)

// Input is everything that FindTicks needs to know about a schedule that is not suspended.
type Input struct {
	// Expression is what Parse returned for spec.schedule.
	Expression Expression
	// Zone is that of spec.timeZone. Nil means UTC. It is not used with timeZoneFrom: Tenant.
	Zone *time.Location
	// TimeZoneFrom, CatchUpLimit and StartingDeadlineSeconds are those of the spec. A catchUpLimit of nil means 1, a
	// startingDeadlineSeconds of nil no deadline.
	TimeZoneFrom            v1alpha1.TimeZoneSource
	CatchUpLimit            *int32
	StartingDeadlineSeconds *int32

	// NotBefore is when the schedule was created, last edited or last resumed. Ticks until then are neither due nor missed.
	NotBefore time.Time
	// LastRun and LastMissed are status.lastScheduleTime and status.missed.lastTime, zero when unset. Every tick until the
	// later of the two was handled, also when that lies in the future: then a clock went back. The caller makes sure that
	// they are never written by a clock that is ahead of the API server's.
	LastRun, LastMissed time.Time
	// Created are the ticks whose fan-outs exist. They are neither due nor missed, even when the status does not have them:
	// the controller may have stopped before it wrote the status.
	Created []time.Time

	Now time.Time
}

// Ticks are the ticks of a schedule at a time.
type Ticks struct {
	// Due are the ticks that are to run now, oldest first.
	Due []time.Time
	// Missed are those that will not run and were not counted yet.
	Missed Missed
	// Next are the next five ticks.
	Next []time.Time
	// RequeueAfter is after which time to decide again, if nothing happens before. Zero means never.
	RequeueAfter time.Duration
}

// Missed counts ticks that were missed.
type Missed struct {
	Count int64
	// Last is the newest of them, and Reason why it was missed.
	Last   time.Time
	Reason string
}

// Add returns the sum of both. Last and Reason are those of the newest tick.
func (m Missed) Add(others Missed) Missed {
	newest := m
	if m.Count == 0 || others.Last.After(m.Last) {
		newest = others
	}
	newest.Count = m.Count + others.Count
	return newest
}

// FindTicks finds the ticks since the last one that was handled. Of those within startingDeadlineSeconds the newest are
// due, as many as catchUpLimit says. The others are missed.
func FindTicks(in Input) Ticks {
	p := in.period()
	from := unixAfter(p.since)
	until := unixAfter(in.Now)
	inTime := from
	if in.StartingDeadlineSeconds != nil {
		deadline := p.duration + time.Duration(*in.StartingDeadlineSeconds)*time.Second
		inTime = min(max(from, unix(in.Now.Add(-deadline))), until)
	}
	onTime := max(inTime, unixAfter(in.Now.Add(-p.duration-OnTimeTolerance)))
	limit := max(p.limit, int(p.count(onTime, until)))
	due := p.newest(limit, inTime, until)

	ticks := Ticks{Due: slices.DeleteFunc(slices.Clone(due), p.isCreated)}
	end := until
	if len(due) > 0 {
		end = due[0].Unix()
	}
	ticks.Missed = p.missed(from, max(inTime, from), end)
	after := later(p.since, in.Now)
	for range nextTicks {
		if after = in.Expression.Next(after, p.zone); after.IsZero() {
			break
		}
		ticks.Next = append(ticks.Next, after)
	}
	if len(ticks.Next) > 0 {
		ticks.RequeueAfter = min(ticks.Next[0].Sub(in.Now), MaxRequeueAfter)
	}
	return ticks
}

// period is the time in which FindTicks searches, and the limits that apply to it.
type period struct {
	expression Expression
	zone       *time.Location
	// duration is how long a tick takes from the first clock that shows its civil time to the last.
	duration time.Duration
	// limit is how many ticks may run.
	limit int
	// since is the time until which every tick was handled.
	since time.Time
	// created are the minutes of the ticks that have a fan-out.
	created map[int64]bool
}

func (in Input) period() period {
	p := period{
		expression: in.Expression, zone: orUTC(in.Zone), since: in.since(), created: map[int64]bool{},
		limit: min(max(int(ptr.Deref(in.CatchUpLimit, 1)), 0), maxCatchUp),
	}
	if in.TimeZoneFrom == v1alpha1.TimeZoneFromTenant {
		p.zone, p.duration = easternmost, MaxZoneDifference
	}

	for _, tick := range in.Created {
		p.created[minuteOf(tick)] = true
	}
	return p
}

// since returns the time until which every tick was handled.
func (in Input) since() time.Time {
	return later(in.NotBefore, later(in.LastRun, in.LastMissed))
}

// missed counts the missed ticks in [from, end). Those before inTime are past their deadline.
func (p period) missed(from, inTime, end int64) Missed {
	m := Missed{Count: p.count(from, end)}
	for minute := range p.created {
		first, last := max(from, minute*60), min(end, minute*60+60)
		m.Count -= p.count(first, last)
	}
	if m.Count <= 0 {
		return Missed{}
	}
	for m.Last.IsZero() {
		newest := p.newest(1, from, end)[0]
		if !p.isCreated(newest) {
			m.Last = newest
		}
		end = newest.Unix()
	}
	m.Reason = MissedCatchUpLimit
	if m.Last.Unix() < inTime {
		m.Reason = MissedStartingDeadline
	}
	return m
}

func (p period) count(from, to int64) int64 {
	return p.expression.count(p.zone, from, to)
}

func (p period) newest(n int, from, to int64) []time.Time {
	return p.expression.newest(p.zone, n, from, to)
}

// isCreated says whether a tick has a fan-out.
func (p period) isCreated(tick time.Time) bool {
	return p.created[minuteOf(tick)]
}

// minuteOf returns the minute, counted from 1970, that is in the name of a tick's fan-out.
func minuteOf(tick time.Time) int64 {
	return floorDiv(tick.Unix(), 60)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
