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

// field is one of the five fields of a cron expression.
type field struct {
	name string
	// low and high are the least and the greatest value.
	low, high uint
	// again is another number for low, greater than high. Zero means that there is none.
	again uint
	// names stand for values, the first of them for low.
	names []string
}

var (
	minuteField  = field{name: "minute", low: 0, high: 59}
	hourField    = field{name: "hour", low: 0, high: 23}
	dayField     = field{name: "day of month", low: 1, high: 31}
	monthField   = field{name: "month", low: 1, high: 12, names: monthNames}
	weekdayField = field{name: "day of week", low: 0, high: 6, again: 7, names: weekdayNames}

	allFields = []field{minuteField, hourField, dayField, monthField, weekdayField}

	monthNames   = []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	weekdayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

	// monthDays is how many days each month has at most.
	monthDays = [...]uint{time.January: 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
)

// shorthands are the expressions that can be written as a name.
var shorthands = map[string]string{
	"@hourly":  "0 * * * *",
	"@daily":   "0 0 * * *",
	"@weekly":  "0 0 * * 0",
	"@monthly": "0 0 1 * *",
	"@yearly":  "0 0 1 1 *",
}

// Parse parses a cron expression: minute, hour, day of month, month and day of week, or @hourly, @daily, @weekly, @monthly,
// @yearly. The error says which field to change and how. It also covers what admission does not check, such as a range of
// weekdays that goes backwards. Every expression that Parse returns has a tick within nine years after any time.
func Parse(expression string) (Expression, error) {
	fields, err := split(expression)
	if err != nil {
		return Expression{}, err
	}
	var sets [5]uint64
	var unrestricted [5]bool
	for i, f := range allFields {
		if sets[i], unrestricted[i], err = f.parse(fields[i]); err != nil {
			return Expression{}, fmt.Errorf("%s %q: %w", f.name, fields[i], err)
		}
	}
	e := Expression{
		minutes: sets[0], hours: sets[1], days: sets[2], months: sets[3], weekdays: sets[4],
		eitherDay: !unrestricted[2] && !unrestricted[4],
		interval:  strings.ContainsAny(fields[0]+fields[1], "*/"),
	}
	if unrestricted[4] && !e.hasDate() {
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
		return nil, fmt.Errorf("%s: write five, minute, hour, day of month, month, day of week", fieldCount(len(fields)))
	}
	return fields, nil
}

// fieldCount writes how many fields an expression has.
func fieldCount(n int) string {
	if n == 1 {
		return "1 field"
	}
	return fmt.Sprintf("%d fields", n)
}

// IneffectiveSteps says of each step in an expression that does nothing, since it leads past the last value of its range at
// once, what the entry means. It is empty when there is none, or when the expression can't be parsed.
func IneffectiveSteps(expression string) string {
	fields, err := split(expression)
	if err != nil {
		return ""
	}
	var found []string
	for i, f := range allFields {
		for entry := range strings.SplitSeq(fields[i], ",") {
			values, _, stepped := strings.Cut(entry, "/")
			set, _, err := f.parseEntry(entry)
			if isOne := bits.OnesCount64(set) == 1; err != nil || !stepped || !isOne {
				continue
			}
			if first, last, ranged := strings.Cut(values, "-"); ranged && first == last {
				continue // The range has one value, with any step.
			}
			found = append(found, fmt.Sprintf("%s `%s` is the same as `%d`, because the step is too long", f.name, entry, bits.TrailingZeros64(set)))
		}
	}
	return strings.Join(found, "; ")
}

// parse parses a list. It is unrestricted when one of its entries is.
func (f field) parse(list string) (set uint64, unrestricted bool, err error) {
	for entry := range strings.SplitSeq(list, ",") {
		values, all, err := f.parseEntry(entry)
		if err != nil {
			return 0, false, err
		}
		set |= values
		unrestricted = unrestricted || all
	}
	return set, unrestricted, nil
}

// parseEntry parses `*`, `n` or `n-m`, each with or without a step. `n/step` means all steps from n to the greatest
// value. The entry is unrestricted when it is `*` without a step, or with a step of 1.
func (f field) parseEntry(entry string) (set uint64, unrestricted bool, err error) {
	values, stepText, stepped := strings.Cut(entry, "/")
	step := uint64(1)
	if stepped {
		if step, err = strconv.ParseUint(stepText, 10, 16); err != nil || step == 0 {
			return 0, false, fmt.Errorf("the step %q must be a number of at least 1", stepText)
		}
	}
	first, last, wildcard := f.low, f.high, values == "*"
	if !wildcard {
		lowText, highText, ranged := strings.Cut(values, "-")
		if first, err = f.parseValue(lowText); err != nil {
			return 0, false, err
		}
		switch {
		case ranged:
			if last, err = f.parseValue(highText); err != nil {
				return 0, false, err
			}
		case !stepped:
			last = first
		default:
			last = max(last, first)
		}
	}
	if first > last {
		return 0, false, fmt.Errorf("the range %q must go from low to high: write two, separated by a comma", values)
	}
	for v := uint64(first); v <= uint64(last); v += step {
		if f.again > 0 && v == uint64(f.again) {
			set |= 1 << f.low
			break
		}
		set |= 1 << v
	}
	return set, wildcard && step == 1, nil
}

// parseValue parses a number, or a name where the field has names.
func (f field) parseValue(text string) (uint, error) {
	if i := slices.Index(f.names, strings.ToLower(text)); i >= 0 {
		return f.low + uint(i), nil
	}
	high := max(f.high, f.again)
	allowed := fmt.Sprintf("%d to %d", f.low, high)
	if len(f.names) > 0 {
		allowed += fmt.Sprintf(" or %s to %s", f.names[0], f.names[len(f.names)-1])
	}
	v, err := strconv.ParseUint(text, 10, 16)
	if err != nil || v < uint64(f.low) || v > uint64(high) {
		return 0, fmt.Errorf("%q must be %s", text, allowed)
	}
	return uint(v), nil
}

// hasDate says whether one of the months has one of the days, in a leap year at least.
func (e Expression) hasDate() bool {
	for month, length := range monthDays {
		if e.months&(1<<month) != 0 && bits.TrailingZeros64(e.days) <= int(length) {
			return true
		}
	}
	return false
}
