// Package schedule finds the ticks of a TenantSchedule: which are due, which were missed, which come next. It holds no
// client and no clock.
//
// # Ticks
//
// A tick is an instant. The ticks of an expression in a time zone are a set: what the clock of that zone shows decides
// about each instant, and two civil times that fall on one instant are one tick. An expression without a wildcard or step
// in its minutes and hours is fixed, as `30 2 * * *` and `0 8,9 * * 1`; any other is an interval, as `*/30 * * * *` and
// `0 * * * *`. Vixie cron draws the same line, at the wildcard. When the clock changes:
//
//	                          fixed                               interval
//	clock goes back (fold)    the first occurrence only           both occurrences
//	clock goes on (gap)       once, at the first instant after    at that instant too, unless a tick comes anyway within
//	                                                              the gap's length after it
//	                                                              (and before the clock changes again)
//
// So an interval fires whenever the clock shows a time that matches, at each real interval through both, and loses nothing
// to a gap either. In New York `*/15 2 * * *` would not run at all on the day that has no two o'clock: it runs once, at
// three. `0 */6 * * *` in Cairo runs at one where midnight is left out. `5 * * * *` gains nothing, since five past three
// makes up for five past two. cron itself loses the first two. All of it holds for any change of a zone's offset, however
// large: half an hour on Lord Howe Island, and a whole day that Apia left out.
//
// Day of month and day of week are alternatives when both are restricted, else both must match. A field is unrestricted
// when it lists `*`; `*/2` restricts, as in Kubernetes' CronJob and other than in cron, which looks at the first character.
//
// # Ticks of a schedule with timeZoneFrom: Tenant
//
// They are civil days, at most one tick each. A tick is the instant at which it opens: when the easternmost clock, fourteen
// hours ahead of UTC, shows the civil time. That instant names it and stands in the schedule's status. [TenantTime] says
// when it comes for one tenant, within the 26 hours that it takes to go around the world. The civil day does not depend on
// the tenant's zone, so that a tenant that changes zone meanwhile has the same tick, and one run.
//
// Creating, editing and resuming mean a whole tick, or none of it: one that opened before comes for no tenant. It is late
// only when it is late for the westernmost clock; who makes the runs checks each tenant's own time.
//
// # Why not a library
//
// github.com/robfig/cron/v3, the parser of CronJob, last had a release in 2020. It forgets whether a step was written,
// which decides about daylight saving here; its errors do not name the field; it panics on `TZ=0`; it gives up
// after five years, where `0 0 29 2 *` can take eight; and it finds ticks only one after the other. What would be left of it
// is reading five lists of numbers. Here those are sets of bits, and ticks are counted as days that match times minutes that
// match, one month and one change of the clock at a time.
package schedule
