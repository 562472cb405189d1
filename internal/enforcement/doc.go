// Package enforcement finds out whether the admission policies are in force, and puts them back when they are not. While one of them
// lets through what it has to refuse, nothing starts.
//
// The Enforcer watches the policies and their bindings, and puts back what is missing or changed. It also tries each policy out, at
// intervals: it sends a request that the policy has to refuse, by dry run, as a service account that the policies do not trust. The
// answer is that of the API server that gave it. With several API servers another one may lag behind by about a second.
//
//	enforcer.go  the loop, and what others ask the Enforcer
//	drift.go     what differs between an installed policy and what it has to be
//	probes.go    the requests that have to be refused
//	verdict.go   what follows from the answers
package enforcement
