package postgres

import _ "embed"

// SchemaVersion is the version of the schema tenantry that this package needs, or a newer one.
const SchemaVersion = 2

// Migration is the file that an administrator runs in a provider's database. It can be run again, also over an older version.
//
//go:embed tenantry.sql
var Migration string

// Hardening is the file that a superuser may run in addition.
//
//go:embed hardening.sql
var Hardening string
