// Package job decides about one TenantJob: whether its parameters fit its template, which Job it becomes, and what to do
// next. It is pure: it holds no client and no clock.
package job
