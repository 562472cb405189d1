// Package tenant says, from values alone, what a Tenant's namespace holds, whether a namespace is the Tenant's, and what
// a suspension or a deletion waits for.
package tenant
