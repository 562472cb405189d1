package schedule

import (
	"slices"
	"time"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

const (
	// OnTimeFor is how late a tick may be and still count as on time. One that is on time runs whatever catchUpLimit says.
	// It is also how far two clocks may be apart: a tick that was dealt with this far in the future is no sign of a clock
	// that was wrong.
	OnTimeFor = time.Minute
	// LookAgainAfter bounds how long until a schedule is looked at again, and so how late a tick can be when the clock was
	// wrong the last time.
	LookAgainAfter = time.Minute

	// maxCatchUp is the greatest catchUpLimit.
	maxCatchUp = 100
	// nextTicks is how many of the next ticks are shown.
	nextTicks = 5
)

// Reasons why a tick was missed.
const (
	// MissedStartingDeadline: it was found later than startingDeadlineSeconds allow.
	MissedStartingDeadline = "StartingDeadlineExceeded"
	// MissedCatchUpLimit: there were more newer ones than catchUpLimit allows to run.
	MissedCatchUpLimit = "CatchUpLimitExceeded"
	// MissedNameConflict: a stranger's object has the name of its fan-out.
	MissedNameConflict = "NameConflict"
	// MissedInvalidFanOut: the API server refuses its fan-out.
	MissedInvalidFanOut = "InvalidFanOut"
)

// Input is everything that is known about a schedule that is not suspended when its ticks are decided about.
type Input struct {
	// Expression is what Parse returned for spec.schedule.
	Expression Expression
	// Zone is that of spec.timeZone, UTC when nil. TimeZoneFrom Tenant does not look at it.
	Zone *time.Location
	// TimeZoneFrom, CatchUpLimit and StartingDeadlineSeconds are those of the spec.
	TimeZoneFrom            v1alpha1.TimeZoneSource
	CatchUpLimit            *int32
	StartingDeadlineSeconds *int32

	// NotBefore is when the schedule was made, last edited or last resumed. Ticks until then are neither due nor missed.
	NotBefore time.Time
	// LastRun and LastMissed are status.lastScheduleTime and status.missed.lastTime: every tick until the later of the two
	// has been dealt with. One that lies in the future was written by a clock that was ahead, and is left out of account.
	// That ends when it is overwritten: the newest tick that ran is written also where that goes back in time.
	LastRun, LastMissed time.Time
	// Made are the ticks of the fan-outs that exist. They are neither due nor missed, whatever the status says: nobody may
	// have come to write it.
	Made []time.Time

	Now time.Time
}

// Result is what follows for a schedule.
type Result struct {
	// Due are the ticks that are to run now, oldest first.
	Due []time.Time
	// Missed are those that will not run and have not been counted yet.
	Missed Missed
	// Next are the next five ticks.
	Next []time.Time
	// After is when to look again, if nothing happens before. Zero means never.
	After time.Duration
}

// Missed ticks.
type Missed struct {
	Count int64
	// Last is the newest of them, and Reason why it was missed.
	Last   time.Time
	Reason string
}

// And counts others as well. The newest of all gives the reason.
func (m Missed) And(others Missed) Missed {
	newest := m
	if m.Count == 0 || others.Last.After(m.Last) {
		newest = others
	}
	newest.Count = m.Count + others.Count
	return newest
}

// Decide finds the ticks since the last one that was dealt with. Those within startingDeadlineSeconds are due, the newest
// catchUpLimit of them, and the others missed.
func Decide(in Input) Result {
	p := in.pass()
	from := unixAfter(p.since)
	until := unixAfter(in.Now)
	inTime := from
	if in.StartingDeadlineSeconds != nil {
		deadline := p.lasts + time.Duration(*in.StartingDeadlineSeconds)*time.Second
		inTime = min(max(from, unix(in.Now.Add(-deadline))), until)
	}
	onTime := max(inTime, unixAfter(in.Now.Add(-p.lasts-OnTimeFor)))
	limit := max(p.limit, int(p.count(onTime, until)))
	due := p.newest(limit, inTime, until)

	result := Result{Due: slices.DeleteFunc(slices.Clone(due), p.isMade)}
	if !p.blind {
		end := until
		if len(due) > 0 {
			end = due[0].Unix()
		}
		result.Missed = p.missed(from, max(inTime, from), end)
	}
	after := later(p.since, in.Now)
	for range nextTicks {
		if after = in.Expression.Next(after, p.zone); after.IsZero() {
			break
		}
		result.Next = append(result.Next, after)
	}
	if len(result.Next) > 0 {
		result.After = min(result.Next[0].Sub(in.Now), LookAgainAfter)
	}
	return result
}

// pass is one look at a schedule.
type pass struct {
	expression Expression
	zone       *time.Location
	// lasts is how long a tick takes from the first clock that shows it to the last.
	lasts time.Duration
	limit int
	// since is the time until which every tick has been dealt with.
	since time.Time
	// blind: a clock was ahead, and nothing says how far the ticks had been dealt with. What is on time runs; of what came
	// before nobody can tell whether it ran.
	blind bool
	// made are the minutes of the ticks that have a fan-out.
	made map[int64]bool
}

func (in Input) pass() pass {
	p := pass{expression: in.Expression, zone: orUTC(in.Zone), limit: 1, since: in.NotBefore, made: map[int64]bool{}}
	if in.TimeZoneFrom == v1alpha1.TimeZoneFromTenant {
		p.zone, p.lasts = world, AroundTheWorld
	}
	if in.CatchUpLimit != nil {
		p.limit = min(max(int(*in.CatchUpLimit), 0), maxCatchUp)
	}

	soon := in.Now.Add(OnTimeFor)
	wasAhead := in.LastRun.After(soon) || in.LastMissed.After(soon)
	known := false
	for _, dealtWith := range []time.Time{in.LastRun, in.LastMissed} {
		if !dealtWith.After(soon) {
			p.since = later(p.since, dealtWith)
		}
	}
	if !in.LastRun.IsZero() && !in.LastRun.After(soon) {
		known = true
	}
	for _, tick := range in.Made {
		p.made[minuteOf(tick)] = true
		if wasAhead && !tick.After(soon) {
			p.since, known = later(p.since, tick), true
		}
	}
	if wasAhead && !known {
		p.blind, p.limit = true, 0
	}
	return p
}

// missed is about the ticks in [from, end), of which those before inTime are past their deadline.
func (p pass) missed(from, inTime, end int64) Missed {
	m := Missed{Count: p.count(from, end)}
	for minute := range p.made {
		first, last := max(from, minute*60), min(end, minute*60+60)
		m.Count -= p.count(first, last)
	}
	if m.Count <= 0 {
		return Missed{}
	}
	for m.Last.IsZero() {
		newest := p.newest(1, from, end)[0]
		if !p.isMade(newest) {
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

func (p pass) count(from, to int64) int64 {
	return p.expression.count(p.zone, from, to)
}

func (p pass) newest(n int, from, to int64) []time.Time {
	return p.expression.newest(p.zone, n, from, to)
}

func (p pass) isMade(tick time.Time) bool {
	return p.made[minuteOf(tick)]
}

// minuteOf is the minute that a tick is named for.
func minuteOf(tick time.Time) int64 {
	return floorDiv(tick.Unix(), 60)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
