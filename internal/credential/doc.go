// Package credential says what a source of credentials has to do, so that a run gets a credential of its own that is dead when the
// run is over: the interface Provider, which the packages below this one implement. The package conformance tests any
// implementation.
//
// A credential is made outside of Kubernetes, where no transaction covers both sides. So the identity of a credential is known
// before it is made: the Handle, which follows from the run. The operator writes down that it is about to issue, issues, and can
// die at any point: Issue and Revoke may be repeated, and List finds what nobody remembers.
package credential
