package schedule

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		expression string
		// same is the same expression, written in another way.
		same string
	}{
		"hourly":                          {"@hourly", "0 * * * *"},
		"daily":                           {"@daily", "0 0 * * *"},
		"weekly":                          {"@weekly", "0 0 * * 0"},
		"monthly":                         {"@monthly", "0 0 1 * *"},
		"yearly":                          {"@yearly", "0 0 1 1 *"},
		"a list":                          {"0 0 1,15,31 * *", "0 0 31,15,1 * *"},
		"a range":                         {"0 9-11 * * *", "0 9,10,11 * * *"},
		"a step over everything":          {"*/20 * * * *", "0-59/20 * * * *"},
		"a step over a range":             {"0 8-18/5 * * *", "0 8-22/5 * * *"},
		"a step from a number":            {"5/20 * * * *", "5-59/20 * * * *"},
		"a step past the end":             {"7/99 * * * *", "7-7/1 * * * *"},
		"a step in a list":                {"0,*/30 * * * *", "*/30 * * * *"},
		"a step of one is a wildcard":     {"0 0 */1 * 1", "0 0 * * 1"},
		"a wildcard in a list":            {"0 0 4,* * 1", "0 0 * * 1"},
		"months by name":                  {"0 0 1 jan-MAR,Dec *", "0 0 1 1-3,12 *"},
		"days of the week by name":        {"0 0 * * Mon-fri,SUN", "0 0 * * 0-5"},
		"leading zeros":                   {"05 02 01 02 03", "5 2 1 2 3"},
		"more space than needed":          {"  0 0   1 1 * ", "0 0 1 1 *"},
		"29 February":                     {"0 0 29 feb *", "0 0 29 2 *"},
		"30 February or a Monday":         {"0 0 30 2 1", "0 0 30,31 2 1"},
		"31 April, June or July":          {"0 0 31 4,6,7 *", "0 0 31 7 *"},
		"30 or 28 February":               {"0 0 28,30 2 *", "0 0 28 2 *"},
		"every day of the week by number": {"0 0 30 2 0-6", "0 0 * 2 0-6"},
		"Sunday as 7":                     {"0 0 * * 7", "0 0 * * 0"},
		"Sunday as 07":                    {"0 0 * * 07", "0 0 * * sun"},
		"a range to Sunday":               {"0 0 * * 5-7", "0 0 * * 0,5,6"},
		"a range from Friday to Sunday":   {"0 0 * * fri-7/2", "0 0 * * 0,5"},
		"every day twice":                 {"0 0 1 * 0-7", "0 0 * * 0-6"},
		"a step from Sunday":              {"0 0 * * 7/2", "0 0 * * 0"},
		"a step from Monday":              {"0 0 * * 1/2", "0 0 * * 1,3,5"},
	} {
		t.Run(name, func(t *testing.T) {
			got, want := mustParse(t, tc.expression), mustParse(t, tc.same)
			// Expressions that differ have different ticks within eight years.
			from, until := at(t, "2024-01-01 00:00"), at(t, "2032-01-01 00:00")
			if diff := cmp.Diff(texts(newestTicks(want, 1000, from, until, nil)), texts(newestTicks(got, 1000, from, until, nil))); diff != "" {
				t.Errorf("%q is not %q (-want +got):\n%s", tc.expression, tc.same, diff)
			}
			if want, got := countTicks(want, from, until, nil), countTicks(got, from, until, nil); got != want {
				t.Errorf("%q has %d ticks, %q %d", tc.expression, got, tc.same, want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		expression string
		// wants are what the error contains.
		wants []string
	}{
		"nothing":                    {"", []string{"empty", "five fields"}},
		"only space":                 {" \t ", []string{"empty"}},
		"one field":                  {"0", []string{"1 field:", "write five"}},
		"four fields":                {"0 0 * *", []string{"4 fields:", "write five"}},
		"six fields":                 {"0 0 0 * * *", []string{"6 fields", "write five"}},
		"TZ=":                        {"TZ=Europe/Berlin 0 0 * * *", []string{"timeZone"}},
		"TZ= alone":                  {"TZ=", []string{"timeZone"}},
		"CRON_TZ=":                   {"CRON_TZ=UTC 0 0 * * *", []string{"timeZone"}},
		"@every":                     {"@every 5m", []string{"@every", "*/5 * * * *"}},
		"@reboot":                    {"@reboot", []string{`"@reboot"`, "@daily"}},
		"@Daily":                     {"@Daily", []string{`"@Daily"`, "@daily"}},
		"something after @daily":     {"@daily 0", []string{"nothing after it"}},
		"minute 60":                  {"60 0 * * *", []string{`minute "60"`, "0 to 59"}},
		"hour 24":                    {"0 24 * * *", []string{`hour "24"`, "0 to 23"}},
		"day 0":                      {"0 0 0 * *", []string{"day of month", "1 to 31"}},
		"day 32":                     {"0 0 1,32 * *", []string{`day of month "1,32": "32" must be 1 to 31`}},
		"month 13":                   {"0 0 1 13 *", []string{"month", "1 to 12 or jan to dec"}},
		"an unknown month":           {"0 0 1 january *", []string{"month", `"january"`, "jan to dec"}},
		"day of week 8":              {"0 0 * * 8", []string{"day of week", "0 to 7 or sun to sat"}},
		"a range back from Sunday":   {"0 0 * * 7-1", []string{"day of week", `"7-1"`, "low to high"}},
		"a name where there is none": {"0 mon * * *", []string{"hour", `"mon"`, "0 to 23"}},
		"a month for a weekday":      {"0 0 * * jan", []string{"day of week", `"jan"`}},
		"a range backwards":          {"0 22-4 * * *", []string{"hour", `"22-4"`, "low to high", "comma"}},
		"a range without an end":     {"0 22- * * *", []string{"hour", `"" must be`}},
		"a range of three":           {"0 1-2-3 * * *", []string{"hour", `"2-3"`}},
		"a range from everything":    {"0 *-3 * * *", []string{"hour", `"*"`}},
		"a list with a hole":         {"0 1,,2 * * *", []string{"hour", `""`}},
		"a step of zero":             {"*/0 * * * *", []string{"minute", "step", "at least 1"}},
		"a step that is no number":   {"*/x * * * *", []string{"minute", "step", `"x"`}},
		"two steps":                  {"*/2/3 * * * *", []string{"minute", "step", `"2/3"`}},
		"a negative number":          {"-5 * * * *", []string{"minute"}},
		"a sign":                     {"+5 * * * *", []string{"minute", `"+5"`}},
		"a number past all":          {"99999999999999999999 * * * *", []string{"minute"}},
		"a question mark":            {"0 0 ? * 1", []string{"day of month", `"?"`}},
		"the last day":               {"0 0 L * *", []string{"day of month", `"L"`}},
		"30 February":                {"0 0 30 2 *", []string{"never comes", `"30"`, `"2"`}},
		"31 in short months":         {"0 0 31 2,4,6,9,nov *", []string{"never comes"}},
		"30 February, a step of one": {"0 0 30 2 */1", []string{"never comes"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(tc.expression)
			if err == nil {
				t.Fatalf("Parse(%q) accepted it", tc.expression)
			}
			for _, want := range tc.wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error %q does not say %q", err, want)
				}
			}
			if diff := cmp.Diff(Expression{}, got, cmp.AllowUnexported(Expression{})); diff != "" {
				t.Errorf("an expression came with the error:\n%s", diff)
			}
		})
	}
}

// TestIneffectiveSteps: a step that leads past the end of its range does nothing, and a person hardly means that.
func TestIneffectiveSteps(t *testing.T) {
	for expression, want := range map[string]string{
		"*/90 * * * *":       "minute `*/90` is the same as `0`, because the step is too long",
		"0 */24 * * *":       "hour `*/24` is the same as `0`, because the step is too long",
		"0 0 */31 * *":       "day of month `*/31` is the same as `1`, because the step is too long",
		"0 0 1 jan/12 *":     "month `jan/12` is the same as `1`, because the step is too long",
		"0 0 * * */7":        "day of week `*/7` is the same as `0`, because the step is too long",
		"0-10/30 9/20 * * *": "minute `0-10/30` is the same as `0`, because the step is too long; hour `9/20` is the same as `9`, because the step is too long",
		"5,*/60 * * * *":     "minute `*/60` is the same as `0`, because the step is too long",
		"*/45 */23 * * *":    "", "*/59 * * * *": "", "5-5/7 * * * *": "", "@hourly": "", "0 0 * * 1": "", "*/0 * * * *": "", "0 0": "",
	} {
		if got := IneffectiveSteps(expression); got != want {
			t.Errorf("%q: %q, want %q", expression, got, want)
		}
	}
}

func TestOncePerDay(t *testing.T) {
	for expression, want := range map[string]bool{
		"0 2 * * *": true, "30 23 1 * 5": true, "@daily": true, "@yearly": true, "59/30 2 * * *": true,
		"@hourly": false, "0 2,3 * * *": false, "0,1 2 * * *": false, "* * * * *": false,
	} {
		if got := mustParse(t, expression).OncePerDay(); got != want {
			t.Errorf("OncePerDay of %q is %t", expression, got)
		}
	}
}

// FuzzParse checks that Parse never panics, and that every expression that it accepts has a next tick after any time.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"* * * * *", "*/15 2 * * *", "0 0 29 2 *", "0 0 31 2,4 *", "0 0 30 2 1", "1-5/2,7 0-23/3 1,15 jan-dec sun-sat", "@daily",
		"@every 1m", "TZ=x", "CRON_TZ=UTC * * * * *", "0 0 * * 7", "*/0 * * * *", "0 0 0 0 0", "-", "@", ",,,, , , , ,",
		"59 23 31 12 6", "0/99 0/99 1/99 1/99 0/99", "18446744073709551616 * * * *", "* * * * *\x00", "é * * * *", "1- * * * *",
	} {
		f.Add(seed)
	}
	zones := []*time.Location{time.UTC, zone(f, "America/New_York"), zone(f, "Australia/Lord_Howe"), zone(f, "Pacific/Apia")}
	f.Fuzz(func(t *testing.T, expression string) {
		e, err := Parse(expression)
		if err != nil {
			if e != (Expression{}) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Parse(%q) returned %+v, %q", expression, e, err)
			}
			return
		}
		for _, after := range []time.Time{at(t, "1896-02-29 00:00"), at(t, "2011-12-29 12:00"), at(t, "2026-03-08 06:59"), at(t, "2096-02-29 00:00")} {
			for _, clock := range zones {
				next := e.Next(after, clock)
				if !next.After(after) || next.Sub(after) > horizon*time.Second {
					t.Errorf("the next of %q after %s in %s is %s", expression, after, clock, next)
				}
				if n := countTicks(e, after, next, clock); n != 1 {
					t.Errorf("there are %d ticks of %q after %s until the next, %s, in %s", n, expression, after, next, clock)
				}
			}
		}
	})
}
