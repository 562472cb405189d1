package cel_test

import "strconv"

// What the rules of spec.schedule say.
const (
	fiveFields  = "`schedule` must be five fields separated by one space, or @hourly, @daily, @weekly, @monthly, @yearly"
	minuteToDay = "`schedule` must have minutes 0-59, hours 0-23, days 1-31; ranges low-high; steps of at least 1"
	months      = "`schedule` must have months 1-12 or jan-dec; ranges low-high; steps of at least 1"
	weekDays    = "`schedule` must have days of the week 0-7 or sun-sat; ranges low-high; steps of at least 1"
	neverComes  = "`schedule` must not name a date that never comes"
)

// expressions are cron expressions that are refused, each with a neighbour that passes.
var expressions = map[string]struct{ accepted, want string }{
	// Neither five fields nor a nickname.
	"* * * * * *":                  {"* * * * *", fiveFields},
	"0 0 2 * * *":                  {"0 2 * * *", fiveFields},
	"0 2 * *":                      {"0 2 * * 0", fiveFields},
	"0  2 * * *":                   {"0 2 * * 6", fiveFields},
	" 0 2 * * *":                   {"00 02 01 01 00", fiveFields},
	"0 2 * * * ":                   {"59 23 31 12 6", fiveFields},
	"0\t2 * * *":                   {"0 2 * * sun", fiveFields},
	"0 2 * * ?":                    {"0 2 * * *", fiveFields},
	"0 2 L * *":                    {"0 2 28-31 * *", fiveFields},
	"0 2 15W * *":                  {"0 2 15 * *", fiveFields},
	"0 2 * * 5#3":                  {"0 2 15-21 * fri", fiveFields},
	"H 2 * * *":                    {"0 2 * * *", fiveFields},
	"TZ=UTC 0 2 * * *":             {"0 2 * * *", fiveFields},
	"TZ=America/New_York @daily":   {"@daily", fiveFields},
	"CRON_TZ=UTC 0 2 * * *":        {"0 2 * * *", fiveFields},
	"CRON_TZ=UTC 2 * * *":          {"0 2 * * *", fiveFields},
	"@every 5m":                    {"*/5 * * * *", fiveFields},
	"@every 24h":                   {"@daily", fiveFields},
	"@reboot":                      {"@hourly", fiveFields},
	"@annually":                    {"@yearly", fiveFields},
	"@midnight":                    {"@weekly", fiveFields},
	"@Daily":                       {"@monthly", fiveFields},
	"hourly":                       {"@hourly", fiveFields},
	"2am":                          {"0 2 * * *", fiveFields},
	"0 2 * * *\n0 3 * * *":         {"0 2,3 * * *", fiveFields},
	"0 2 * * * # nightly, as ever": {"0 2 * * *", fiveFields},

	// Minutes, hours and days.
	"60 * * * *":                    {"59 * * * *", minuteToDay},
	"61 * * * *":                    {"0 * * * *", minuteToDay},
	"* 24 * * *":                    {"* 23 * * *", minuteToDay},
	"0 0 0 * *":                     {"0 0 1 * *", minuteToDay},
	"0 0 32 * *":                    {"0 0 31 * *", minuteToDay},
	"50-10 * * * *":                 {"10-50 * * * *", minuteToDay},
	"0 22-6 * * *":                  {"0 0-6,22-23 * * *", minuteToDay},
	"0 0 31-1 * *":                  {"0 0 1-31 * *", minuteToDay},
	"0-60 * * * *":                  {"0-59 * * * *", minuteToDay},
	"*/0 * * * *":                   {"*/1 * * * *", minuteToDay},
	"*/00 * * * *":                  {"*/10 * * * *", minuteToDay},
	"*/ * * * *":                    {"*/59 * * * *", minuteToDay},
	"*/-5 * * * *":                  {"*/5 * * * *", minuteToDay},
	"*/5/5 * * * *":                 {"5-55/5 * * * *", minuteToDay},
	"/5 * * * *":                    {"0/5 * * * *", minuteToDay},
	"*-5 * * * *":                   {"0-5 * * * *", minuteToDay},
	"-5 * * * *":                    {"5 * * * *", minuteToDay},
	"5- * * * *":                    {"5-5 * * * *", minuteToDay},
	"1-2-3 * * * *":                 {"1,2-3 * * * *", minuteToDay},
	"1,,2 * * * *":                  {"1,2 * * * *", minuteToDay},
	", * * * *":                     {"* * * * *", minuteToDay},
	"1, * * * *":                    {"1,1 * * * *", minuteToDay},
	"005 * * * *":                   {"05 * * * *", minuteToDay},
	"** * * * *":                    {"*,* * * * *", minuteToDay},
	"5* * * * *":                    {"5,* * * * *", minuteToDay},
	"100000000000000000000 * * * *": {"10 * * * *", minuteToDay},

	// Months.
	"0 0 1 0 *":       {"0 0 1 1 *", months},
	"0 0 1 13 *":      {"0 0 1 12 *", months},
	"0 0 1 11-2 *":    {"0 0 1 2-11 *", months},
	"0 0 1 5-1 *":     {"0 0 1 01-05 *", months},
	"0 0 1 dec-jan *": {"0 0 1 jan-dec *", months},
	"0 0 1 oct-2 *":   {"0 0 1 2-oct *", months},
	"0 0 1 1,5-3 *":   {"0 0 1 1,3-5 *", months},
	"0 0 1 may-4/2 *": {"0 0 1 4-MAY/2 *", months},
	"0 0 1 */0 *":     {"0 0 1 */3 *", months},
	"0 0 1 january *": {"0 0 1 JAN *", months},
	"0 0 1 mon *":     {"0 0 1 mar *", months},
	"0 0 1 jan- *":    {"0 0 1 Jan,jul *", months},
	"0 0 1 1,, *":     {"0 0 1 1,7 *", months},
	"0 0 1 jan1 *":    {"0 0 1 jan/6 *", months},

	// Days of the week.
	"0 0 * * 8":         {"0 0 * * 7", weekDays},
	"0 0 * * 7-1":       {"0 0 * * 1-7", weekDays},
	"0 0 * * sun-8":     {"0 0 * * sun-07/2", weekDays},
	"0 0 * * fri-mon":   {"0 0 * * mon-fri", weekDays},
	"0 0 * * sat-sun":   {"0 0 * * sun,sat", weekDays},
	"0 0 * * 5-1":       {"0 0 * * 1-5", weekDays},
	"0 0 * * fri-1":     {"0 0 * * 1-FRI", weekDays},
	"0 0 * * tue-mon/2": {"0 0 * * mon-tue/2", weekDays},
	"0 0 * * monday":    {"0 0 * * Mon", weekDays},
	"0 0 * * jan":       {"0 0 * * thu", weekDays},
	"0 0 * * */0":       {"0 0 * * */2", weekDays},
	"0 0 * * 1,":        {"0 0 * * 1,3,5", weekDays},
	"0 0 * * 1-08":      {"0 0 * * 0-6", weekDays},

	// Dates that never come, and the nearest that does.
	"0 0 31 2 *":          {"0 0 29 2 *", neverComes},
	"0 0 30 2 *":          {"0 0 31 2 1", neverComes}, // on Mondays in February
	"0 0 30 feb *":        {"0 0 30 feb sun", neverComes},
	"0 0 30,31 02 *":      {"0 0 28-31 2 *", neverComes},
	"0 0 30-31 FEB *":     {"0 0 30-31 feb,mar *", neverComes},
	"0 0 31 4,6 *":        {"0 0 30 4,6 *", neverComes},
	"0 0 31 4 *":          {"0 0 31 5 *", neverComes},
	"0 0 31 2,4,6,9,11 *": {"0 0 31 2,4,6,8,11 *", neverComes},
	"0 0 31 sep,NOV *":    {"0 0 31 oct *", neverComes},
	"0 0 31 4-4 *":        {"0 0 31 4-5 *", neverComes},
	"0 0 31 4-6/2 *":      {"0 0 31 4-8/2 *", neverComes},
	"0 0 31 9/2 *":        {"0 0 30,31 9/2 *", neverComes},
	"0 0 31 2/7 *":        {"0 0 31 2/8 *", neverComes},
	"0 0 30/1 2 *":        {"0 0 29/1 2 *", neverComes},
	"0 0 31/30 4 *":       {"0 0 30/31 4 *", neverComes},
	"0 0 31 2 */1":        {"0 0 31 2 */2", neverComes},
	"0 0 31 2 *,1":        {"0 0 31 2 0-6", neverComes},
}

// expressionRules are the expressions as rules.
func expressionRules() rules {
	table := rules{}
	for expression, neighbour := range expressions {
		table["the expression "+expression] = rule{
			"spec.schedule", strconv.Quote(expression), strconv.Quote(neighbour.accepted), neighbour.want,
		}
	}
	return table
}
