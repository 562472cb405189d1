// Package issuer issues and revokes the credentials of runs: the Issuer owns all of them, as the dispatcher owns all starts.
//
//	TenantJob controller ──Issue, Revoke──────────► Issuer ──workers──► credential.Provider, Secrets in tenants' namespaces
//	                     ◄─Standing, a request────
//	CredentialProvider controller ──SetSource─────►
//	Tenant controller ──RevokeTenant, DeleteCopies►
//
// What the Issuer remembers may be lost at any time. A credential is made only after the finalizer tenantry.dev/credentials is on
// its TenantJob. The finalizer is removed when each of its credentials is revoked. A process that does not remember them asks the
// sources which there are, and so does the sweep, which also finds those whose TenantJob is gone.
//
//	issuer.go   what the controllers call
//	sources.go  the providers, and which of them must not issue
//	runs.go     what is known of the credentials of a run
//	work.go     the workers, which issue and revoke
//	secrets.go  the Secrets with which credentials are delivered
//	copies.go   those that are copies of a tenant's own Secrets
//	sweep.go    credentials that no run remembers
package issuer
