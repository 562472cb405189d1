package schedule

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
)

// field is one of the five of a cron expression.
type field struct {
	name     string
	low, top uint
	// words that stand for numbers, the first of them for low.
	words []string
}

var (
	minuteField  = field{name: "minute", low: 0, top: 59}
	hourField    = field{name: "hour", low: 0, top: 23}
	dayField     = field{name: "day of month", low: 1, top: 31}
	monthField   = field{name: "month", low: 1, top: 12, words: monthWords}
	weekdayField = field{name: "day of week", low: 0, top: 6, words: weekdayWords}

	monthWords   = []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	weekdayWords = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

	// longest that each month can be.
	longest = [...]uint{time.January: 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
)

// shorthands are the expressions that have a name.
var shorthands = map[string]string{
	"@hourly":  "0 * * * *",
	"@daily":   "0 0 * * *",
	"@weekly":  "0 0 * * 0",
	"@monthly": "0 0 1 * *",
	"@yearly":  "0 0 1 1 *",
}

// Parse reads a cron expression: minute, hour, day of month, month and day of week, or @hourly, @daily, @weekly, @monthly,
// @yearly. The error says which field to change and how, also about what admission can't see, such as a range of weekdays
// that goes backwards. Every expression that it returns has a tick within nine years of any time.
func Parse(expression string) (Expression, error) {
	fields, err := split(expression)
	if err != nil {
		return Expression{}, err
	}
	var sets [5]uint64
	var open [5]bool
	for i, f := range []field{minuteField, hourField, dayField, monthField, weekdayField} {
		if sets[i], open[i], err = f.parse(fields[i]); err != nil {
			return Expression{}, fmt.Errorf("%s %q: %w", f.name, fields[i], err)
		}
	}
	e := Expression{
		minutes: sets[0], hours: sets[1], days: sets[2], months: sets[3], weekdays: sets[4],
		eitherDay: !open[2] && !open[4],
		interval:  strings.ContainsAny(fields[0]+fields[1], "*/"),
	}
	if open[4] && !e.hasDate() {
		return Expression{}, fmt.Errorf("day of month %q never comes in month %q: change one of them", fields[2], fields[3])
	}
	return e, nil
}

// split returns the five fields of an expression.
func split(expression string) ([]string, error) {
	fields := strings.Fields(expression)
	if len(fields) == 0 {
		return nil, errors.New("the expression is empty: write five fields, minute, hour, day of month, month, day of week")
	}
	switch first := fields[0]; {
	case strings.HasPrefix(first, "TZ=") || strings.HasPrefix(first, "CRON_TZ="):
		return nil, errors.New("a time zone does not belong here: set timeZone")
	case first == "@every":
		return nil, errors.New(`@every is not supported: write a step, such as "*/5 * * * *"`)
	case strings.HasPrefix(first, "@"):
		long, ok := shorthands[first]
		if !ok || len(fields) != 1 {
			return nil, fmt.Errorf("%q is not known: use @hourly, @daily, @weekly, @monthly or @yearly, and nothing after it",
				strings.Join(fields, " "))
		}
		return strings.Fields(long), nil
	case len(fields) != 5:
		return nil, fmt.Errorf("%d fields: write five, minute, hour, day of month, month, day of week", len(fields))
	}
	return fields, nil
}

// parse reads a list. It is open when an entry lets everything through.
func (f field) parse(list string) (set uint64, open bool, err error) {
	for entry := range strings.SplitSeq(list, ",") {
		values, all, err := f.parseEntry(entry)
		if err != nil {
			return 0, false, err
		}
		set |= values
		open = open || all
	}
	return set, open, nil
}

// parseEntry reads `*`, `n` or `n-m`, each with or without a step. `n/step` goes on to the end.
func (f field) parseEntry(entry string) (set uint64, open bool, err error) {
	values, stepText, stepped := strings.Cut(entry, "/")
	step := uint64(1)
	if stepped {
		if step, err = strconv.ParseUint(stepText, 10, 16); err != nil || step == 0 {
			return 0, false, fmt.Errorf("the step %q must be a number of at least 1", stepText)
		}
	}
	first, last, open := f.low, f.top, values == "*"
	if !open {
		lowText, topText, ranged := strings.Cut(values, "-")
		if first, err = f.parseValue(lowText); err != nil {
			return 0, false, err
		}
		switch {
		case ranged:
			if last, err = f.parseValue(topText); err != nil {
				return 0, false, err
			}
		case !stepped:
			last = first
		}
	}
	if first > last {
		return 0, false, fmt.Errorf("the range %q must go from low to high: write two, separated by a comma", values)
	}
	for v := uint64(first); v <= uint64(last); v += step {
		set |= 1 << v
	}
	return set, open && step == 1, nil
}

// parseValue reads a number, or a word where the field has them.
func (f field) parseValue(text string) (uint, error) {
	if i := slices.Index(f.words, strings.ToLower(text)); i >= 0 {
		return f.low + uint(i), nil
	}
	allowed := fmt.Sprintf("%d to %d", f.low, f.top)
	if len(f.words) > 0 {
		allowed += fmt.Sprintf(" or %s to %s", f.words[0], f.words[len(f.words)-1])
	}
	v, err := strconv.ParseUint(text, 10, 16)
	if err != nil || v < uint64(f.low) || v > uint64(f.top) {
		return 0, fmt.Errorf("%q must be %s", text, allowed)
	}
	return uint(v), nil
}

// hasDate says whether there is a year in which one of the months has one of the days.
func (e Expression) hasDate() bool {
	for month, length := range longest {
		if e.months&(1<<month) != 0 && bits.TrailingZeros64(e.days) <= int(length) {
			return true
		}
	}
	return false
}
