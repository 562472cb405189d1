// Package job decides about one TenantJob: whether its parameters fit its template, what Job it is, and what follows from
// what was observed. It holds no client and no clock.
package job
