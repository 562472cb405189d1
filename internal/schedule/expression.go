package schedule

import (
	"math/bits"
	"time"
)

const (
	minutesPerDay = 24 * 60
	secondsPerDay = 24 * 60 * 60
)

// Expression is a cron expression. The zero value has no ticks.
type Expression struct {
	// The values that match. Value v is bit v.
	minutes, hours, days, months, weekdays uint64
	// eitherDay means that day of month and day of week are both restricted, so that one of them must match.
	eitherDay bool
	// interval means that minutes or hours were written with a wildcard or a step.
	interval bool
}

// OncePerDay says whether there is at most one tick a day, as timeZoneFrom: Tenant requires.
func (e Expression) OncePerDay() bool {
	return e.perDay() <= 1
}

// perDay counts the minutes of a day that match.
func (e Expression) perDay() int64 {
	return int64(bits.OnesCount64(e.minutes) * bits.OnesCount64(e.hours))
}

// countMinutes counts the civil minutes in [from, to) that match. Civil minutes and days are counted from the start of 1970
// as if the clock never changed.
func (e Expression) countMinutes(from, to int64) int64 {
	if from >= to {
		return 0
	}
	fromDay, toDay := floorDiv(from, minutesPerDay), floorDiv(to, minutesPerDay)
	n := e.countDays(fromDay, toDay) * e.perDay()
	if e.countDays(fromDay, fromDay+1) == 1 {
		n -= e.countInDay(from - fromDay*minutesPerDay)
	}
	if e.countDays(toDay, toDay+1) == 1 {
		n += e.countInDay(to - toDay*minutesPerDay)
	}
	return n
}

// countInDay counts the minutes of a day that match and come before a minute.
func (e Expression) countInDay(before int64) int64 {
	hour, minute := before/60, before%60
	n := bits.OnesCount64(e.hours&below(hour)) * bits.OnesCount64(e.minutes)
	if e.hours&(1<<hour) != 0 {
		n += bits.OnesCount64(e.minutes & below(minute))
	}
	return int64(n)
}

// firstMinute returns the first civil minute in [from, to) that matches.
func (e Expression) firstMinute(from, to int64) (int64, bool) {
	if from >= to {
		return 0, false
	}
	day := floorDiv(from, minutesPerDay)
	if e.countDays(day, day+1) == 1 {
		if minute, ok := e.firstInDay(from - day*minutesPerDay); ok {
			minute += day * minutesPerDay
			return minute, minute < to
		}
	}
	day, ok := e.firstDay(day+1, floorDiv(to-1, minutesPerDay)+1)
	if !ok {
		return 0, false
	}
	minute, _ := e.firstInDay(0)
	minute += day * minutesPerDay
	return minute, minute < to
}

// firstInDay returns the first minute of a day that matches and is not before from.
func (e Expression) firstInDay(from int64) (int64, bool) {
	hour, minute := from/60, from%60
	if rest := e.minutes &^ below(minute); rest != 0 && e.hours&(1<<hour) != 0 {
		return hour*60 + int64(bits.TrailingZeros64(rest)), true
	}
	hours := e.hours &^ below(hour+1)
	if hours == 0 || e.minutes == 0 {
		return 0, false
	}
	return int64(bits.TrailingZeros64(hours)*60 + bits.TrailingZeros64(e.minutes)), true
}

// countDays counts the days in [from, to) that match.
func (e Expression) countDays(from, to int64) int64 {
	var n int
	for from < to {
		first, next, days := e.month(from)
		last := min(next, to)
		n += bits.OnesCount64(days & below(last-first) &^ below(from-first))
		from = last
	}
	return int64(n)
}

// firstDay returns the first day in [from, to) that matches.
func (e Expression) firstDay(from, to int64) (int64, bool) {
	for from < to {
		first, next, days := e.month(from)
		if days &^= below(from - first); days != 0 {
			day := first + int64(bits.TrailingZeros64(days))
			return day, day < to
		}
		from = next
	}
	return 0, false
}

// month returns the first day of the month of a day, the first day of the next month, and the days of the month that match:
// the first day is bit 0.
func (e Expression) month(day int64) (first, next int64, days uint64) {
	year, month, dayOfMonth := time.Unix(day*secondsPerDay, 0).UTC().Date()
	first = day - int64(dayOfMonth-1)
	length := int64(time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day())
	if e.months&(1<<month) == 0 {
		return first, first + length, 0
	}
	// The first day of 1970 was a Thursday.
	weekday := floorMod(first+int64(time.Thursday), 7)
	week := (e.weekdays>>weekday | e.weekdays<<(7-weekday)) & below(7)
	weekdays := week * (1 | 1<<7 | 1<<14 | 1<<21 | 1<<28)
	days = e.days >> 1
	if e.eitherDay {
		days |= weekdays
	} else {
		days &= weekdays
	}
	return first, first + length, days & below(length)
}

// below returns the set of all values less than n.
func below(n int64) uint64 {
	return 1<<n - 1
}

// floorDiv divides and rounds down, also below zero.
func floorDiv(a, b int64) int64 {
	return (a - floorMod(a, b)) / b
}

// floorMod is the remainder of floorDiv. It is never negative.
func floorMod(a, b int64) int64 {
	return (a%b + b) % b
}

// minuteFrom returns the first civil minute that does not begin before a civil second.
func minuteFrom(second int64) int64 {
	return floorDiv(second+59, 60)
}
