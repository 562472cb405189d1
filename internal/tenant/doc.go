// Package tenant decides about Tenants, from values alone: whether a Tenant may have its namespace, what is in the namespace,
// what to do next, and what the status says. Decide and the lists of steps in steps.go are where to start reading.
package tenant
