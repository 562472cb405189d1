// Package schedule finds the ticks of a TenantSchedule: which are due, which were missed, which come next. It is pure: it
// holds no client and no clock.
//
// # Ticks
//
// A tick is an instant. The ticks of an expression in a time zone are a set: whether an instant is a tick depends on the
// civil times that the clock of the zone shows, and two civil times that fall on one instant are one tick. An expression is
// fixed when its minutes and hours have neither a wildcard nor a step, such as `30 2 * * *` and `0 8,9 * * 1`. Any other
// expression is an interval, such as `*/30 * * * *` and `0 * * * *`. Vixie cron makes the same distinction by the wildcard.
// When the clock changes:
//
//	                          fixed                               interval
//	clock goes back (fold)    the first occurrence only           both occurrences
//	clock goes on (gap)       once, at the first instant after    at that instant too, unless there is a tick anyway within
//	                                                              the gap's length after it
//	                                                              (and before the clock changes again)
//
// So an interval has a tick at each real interval through a fold and a gap, and a gap does not lose its ticks. In New York
// `*/15 2 * * *` has no civil time on the day that has no two o'clock: its tick is at three. `0 */6 * * *` in Cairo has a
// tick at one on the day that has no midnight. `5 * * * *` has no additional tick, since five past three replaces five past
// two. cron loses the first two. All of this holds for any change of a zone's offset: half an hour on Lord Howe Island, and
// a whole day that Apia left out.
//
// When day of month and day of week are both restricted, one of them must match; otherwise both must. A field is not
// restricted when it lists `*`. `*/2` restricts a field, as in Kubernetes' CronJob. That differs from cron, which reads
// only the first character.
//
// # Ticks of a schedule with timeZoneFrom: Tenant
//
// Each tick is a civil day, and a day has at most one. Its instant is that at which the easternmost clock, fourteen hours
// ahead of UTC, shows the civil time. This instant is in the name of the fan-out and in the schedule's status.
// [TenantTime] returns when the tick comes for one tenant, which is at most 26 hours later. The civil day does not depend
// on the tenant's zone: a tenant that changes its zone in between has the same tick, and one run.
//
// Creating, editing and resuming a schedule keep or leave out a tick as a whole: one whose instant is before the edit
// comes for no tenant. A tick is late when it is late for the westernmost clock. Whoever creates the runs checks each
// tenant's own time.
//
// # Why not a library
//
// github.com/robfig/cron/v3, the parser of CronJob, had its last release in 2020. It does not keep whether a step was
// written, on which daylight saving depends here. Its errors do not name the field. It panics on `TZ=0`. It gives up
// after five years, where `0 0 29 2 *` can take eight. It finds ticks only one after the other. What it would still do is
// to read five lists of numbers. This package stores those as sets of bits and counts ticks as matching days times
// matching minutes, one month and one change of the clock at a time.
package schedule
