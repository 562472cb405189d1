#!/bin/bash
# The image of PostgreSQL executes this when the database is new. It makes the role that the operator logs in with.
set -euo pipefail
psql --set ON_ERROR_STOP=1 --set password="$LOGIN_PASSWORD" --username postgres --dbname billing <<'SQL'
CREATE ROLE tenantry_login LOGIN PASSWORD :'password';
GRANT tenantry_operator TO tenantry_login;
SQL
