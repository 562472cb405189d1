// Package postgres issues a PostgreSQL role for each run. The role can log in while the run lasts, and what it reads and writes is
// its tenant's: by row security where tenants share tables, or else because it can connect to, or use, only the database or the
// schema that is the tenant's own.
//
// The administrator of a database has run tenantry.sql there. The functions that it installs are what this package calls, so values
// are parameters, and what has to be part of a statement's text (names, the password's verifier) is quoted by the server.
package postgres
