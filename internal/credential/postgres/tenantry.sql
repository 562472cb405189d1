-- Tenantry's side of a database, for PostgreSQL 16 or newer.
--
-- An administrator runs this file in the database that a CredentialProvider names, as a superuser, or as a role that has CREATEROLE
-- and owns the database:
--
--     psql --set ON_ERROR_STOP=1 --file tenantry.sql <database>
--
-- It can be run again, also over the file of an older release. It changes no object of the application, and nothing in other
-- databases. Roles belong to the whole server, and several databases of it share these:
--
--   tenantry_tenant    is what a run may do. The application grants it SELECT, INSERT, UPDATE, DELETE on tables, USAGE on sequences
--                      and on schemas. The role of each run is a member.
--   tenantry_operator  is what the operator may do: create and drop the roles of runs. The role that the operator logs in with needs
--                      nothing but to be a member:  GRANT tenantry_operator TO <role>;
--   tenantry_owner     owns the schema tenantry. Nobody logs in as it.
--
-- The application's row policies compare the tenant's column with tenantry.current_tenant(), which is the Tenant's external id as
-- text. Write it as a sub-select, with the cast inside: then it is computed once for each statement, and an index on the column is
-- used. Without the sub-select, a scan of the table computes it for every row. Policies are for everybody (PUBLIC) and name no role of
-- tenants: a member of a role may DROP OWNED BY that role, which takes the role out of each policy that names it.
--
--     ALTER TABLE payments ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
--     CREATE POLICY tenantry ON payments
--       USING (tenant_id = (SELECT tenantry.current_tenant()::uuid))
--       WITH CHECK (tenant_id = (SELECT tenantry.current_tenant()::uuid));
--     GRANT SELECT, INSERT, UPDATE, DELETE ON payments TO tenantry_tenant;
--
-- SELECT * FROM tenantry.findings() lists what still lets a run do more than it should.
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;

DO $$
DECLARE
  this_version CONSTANT integer := 2;
  role name;
  found integer;
BEGIN
  IF current_setting('server_version_num')::integer < 160000 THEN
    RAISE EXCEPTION 'Tenantry needs PostgreSQL 16 or newer';
  END IF;
  IF to_regprocedure('tenantry.version()') IS NOT NULL THEN
    EXECUTE 'SELECT tenantry.version()' INTO found;
    IF found > this_version THEN
      RAISE EXCEPTION 'the schema tenantry is of a newer release of Tenantry (version %, this file has %)', found, this_version;
    END IF;
  END IF;

  FOREACH role IN ARRAY ARRAY['tenantry_owner', 'tenantry_tenant', 'tenantry_operator'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', role);
    END IF;
  END LOOP;
  ALTER ROLE tenantry_operator CREATEROLE;
  GRANT tenantry_tenant TO tenantry_operator WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;
  -- The groups of those who may connect are made by the operator, one for each database.
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO tenantry_operator WITH GRANT OPTION', current_database());
  -- A superuser is a member of every role. Others need to be, to create objects that it owns.
  IF NOT pg_has_role('tenantry_owner', 'SET') THEN
    GRANT tenantry_owner TO CURRENT_USER WITH SET TRUE, INHERIT TRUE;
  END IF;
END
$$;

CREATE SCHEMA IF NOT EXISTS tenantry AUTHORIZATION tenantry_owner;
DO $$
BEGIN
  -- Whoever owns the schema decides who is which tenant.
  IF (SELECT nspowner <> 'tenantry_owner'::regrole FROM pg_namespace WHERE nspname = 'tenantry') THEN
    RAISE EXCEPTION 'there is a schema tenantry that is not owned by tenantry_owner';
  END IF;
END
$$;
SET LOCAL ROLE tenantry_owner;
-- Everybody may name current_tenant() in a policy. The tables and the other functions are for the operator only.
GRANT USAGE ON SCHEMA tenantry TO PUBLIC;

CREATE OR REPLACE FUNCTION tenantry.version() RETURNS integer LANGUAGE sql IMMUTABLE RETURN 2;

-- A row for each run's role.
CREATE TABLE IF NOT EXISTS tenantry.runs (
  role name PRIMARY KEY,
  -- The Tenant's external id.
  tenant text NOT NULL,
  -- From then on it is no tenant's any more, also in sessions that are still open.
  expiration_time timestamptz NOT NULL,
  -- UIDs of the cluster, of the CredentialProvider and of the TenantJob. That of a check is `check-` and a random number.
  cluster text NOT NULL,
  provider text NOT NULL,
  run text NOT NULL,
  -- The TenantJob.
  namespace text NOT NULL,
  name text NOT NULL
);

-- Findings that a person has looked at and accepts. `object` is as in tenantry.findings(), for example `table public.currencies`.
CREATE TABLE IF NOT EXISTS tenantry.exceptions (
  object text PRIMARY KEY,
  reason text NOT NULL CHECK (reason <> '')
);
REVOKE ALL ON tenantry.runs, tenantry.exceptions FROM PUBLIC, tenantry_tenant;
GRANT SELECT, INSERT, UPDATE, DELETE ON tenantry.runs TO tenantry_operator;
GRANT SELECT ON tenantry.exceptions TO tenantry_operator;

-- current_tenant returns the external id of the tenant whose run has logged in, and NULL for everybody else. Neither SET ROLE nor a
-- setting changes whom the session belongs to. It goes by the clock and not by the time when the statement began: a procedure is one
-- statement, however long it runs.
CREATE OR REPLACE FUNCTION tenantry.current_tenant() RETURNS text
  LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  RETURN (SELECT r.tenant FROM tenantry.runs r WHERE r.role = session_user AND r.expiration_time > clock_timestamp());

-- A run's role is a member of one group. That of a tenant's own schema is a member of that of its database, which is a member of
-- tenantry_tenant. So it takes one grant to make a run a tenant's, and one to end that.

-- make_group creates a group role of the operator, if it does not exist, which has the rights of another group.
CREATE OR REPLACE FUNCTION tenantry.make_group(name name, parent name) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = make_group.name) THEN
    EXECUTE format('CREATE ROLE %I NOLOGIN', name);
    EXECUTE format('GRANT %I TO %I WITH INHERIT TRUE, SET FALSE', parent, name);
  END IF;
END
$$;

-- connect_group returns the group of those who may connect to a database. The name has the database's OID, so that the group of a
-- database that was dropped or renamed is never that of another one. Without a database it returns tenantry_tenant.
CREATE OR REPLACE FUNCTION tenantry.connect_group(database name) RETURNS name
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  db oid := (SELECT d.oid FROM pg_database d WHERE d.datname = database AND d.datallowconn);
  grp name := 'tenantry_connect_' || db;
BEGIN
  IF database IS NULL THEN
    RETURN 'tenantry_tenant';
  END IF;
  IF db IS NULL THEN
    RAISE invalid_catalog_name USING MESSAGE = format('database %I does not exist', database);
  END IF;
  PERFORM tenantry.make_group(grp, 'tenantry_tenant');
  IF NOT tenantry.may_connect(grp, db) THEN
    IF NOT has_database_privilege(db, 'CONNECT WITH GRANT OPTION') THEN
      RAISE insufficient_privilege USING MESSAGE =
        format('run this as the owner of the database: GRANT CONNECT ON DATABASE %I TO tenantry_operator WITH GRANT OPTION', database);
    END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', database, grp);
  END IF;
  RETURN grp;
END
$$;

-- may_connect says whether a role itself, not PUBLIC, has been granted CONNECT.
CREATE OR REPLACE FUNCTION tenantry.may_connect(role name, database oid) RETURNS boolean
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
  RETURN EXISTS (SELECT FROM pg_database d, aclexplode(d.datacl) a JOIN pg_roles r ON r.oid = a.grantee
    WHERE d.oid = database AND r.rolname = role AND a.privilege_type = 'CONNECT');

-- issue makes the role of a run and returns when it expires. With `replace` the role may exist, and is made like new. The password comes as a SCRAM verifier, so the server
-- never sees it. The row of the run is locked first: whatever else is done with the same role waits. The role may connect to `database`
-- only, or to none when that is NULL. A tenant's own schema comes with the group of those who may use it.
CREATE OR REPLACE FUNCTION tenantry.issue(replace boolean, role name, verifier text, lifetime interval, connection_limit integer, database name,
  schema name, schema_group name, tenant text, cluster text, provider text, run text, namespace text, name text) RETURNS timestamptz
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET createrole_self_grant = ''
AS $$
DECLARE
  expiration timestamptz := clock_timestamp() + lifetime;
  grp name := coalesce(schema_group, tenantry.connect_group(database));
BEGIN
  INSERT INTO tenantry.runs VALUES
    (issue.role, issue.tenant, expiration, issue.cluster, issue.provider, issue.run, issue.namespace, issue.name)
    ON CONFLICT ON CONSTRAINT runs_pkey DO UPDATE SET (tenant, expiration_time, cluster, provider, run, namespace, name) =
      ROW (excluded.tenant, excluded.expiration_time, excluded.cluster, excluded.provider, excluded.run, excluded.namespace,
        excluded.name);
  IF replace AND EXISTS (SELECT FROM pg_roles r WHERE r.rolname = issue.role) THEN
    EXECUTE format('ALTER ROLE %I LOGIN INHERIT CONNECTION LIMIT %s PASSWORD %L VALID UNTIL %L',
      role, connection_limit, verifier, expiration);
    -- A role may change its own settings.
    EXECUTE format('ALTER ROLE %I RESET ALL', role);
    PERFORM tenantry.revoke_groups(role, grp);
  ELSE
    EXECUTE format('CREATE ROLE %I LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT %s '
      'PASSWORD %L VALID UNTIL %L', role, connection_limit, verifier, expiration);
  END IF;
  EXECUTE format('COMMENT ON ROLE %I IS %L', role, tenantry.comment_of(cluster, provider, run));
  EXECUTE format('GRANT %I TO %I WITH INHERIT TRUE, SET FALSE, ADMIN FALSE', grp, role);
  IF schema IS NOT NULL THEN
    EXECUTE format('ALTER ROLE %I SET search_path TO %I', role, schema);
  END IF;
  RETURN expiration;
END
$$;

-- comment_of returns the comment on a run's role. It tells whose the role is when its row is lost.
CREATE OR REPLACE FUNCTION tenantry.comment_of(cluster text, provider text, run text) RETURNS text
  LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
  RETURN format('tenantry cluster=%s provider=%s run=%s', cluster, provider, run);

-- revoke_groups ends a role's memberships, except of the given group.
CREATE OR REPLACE FUNCTION tenantry.revoke_groups(role name, kept name DEFAULT NULL) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  grp name;
BEGIN
  FOR grp IN SELECT DISTINCT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles r ON r.oid = m.member
    WHERE r.rolname = role AND g.rolname IS DISTINCT FROM kept LOOP
    EXECUTE format('REVOKE %I FROM %I', grp, role);
  END LOOP;
END
$$;

-- fence makes that a role can't log in and is no tenant's, and returns its OID, or NULL when there is no such role. The sessions that
-- it has go on, without any right of the tenant's. A session of the role may hold a lock on the role, by changing its own password:
-- so it does not wait long.
CREATE OR REPLACE FUNCTION tenantry.fence(role name) RETURNS oid
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '250ms'
AS $$
DECLARE
  id oid;
BEGIN
  UPDATE tenantry.runs r SET expiration_time = '-infinity' WHERE r.role = fence.role;
  SELECT r.oid INTO id FROM pg_roles r WHERE r.rolname = fence.role;
  IF id IS NOT NULL THEN
    EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL VALID UNTIL %L', role, '-infinity');
    PERFORM tenantry.revoke_groups(role);
    PERFORM tenantry.take(role);
  END IF;
  RETURN id;
END
$$;

-- take gives the operator the rights of a role, which it needs to terminate the role's sessions and to drop what it owns. It does so
-- in the end only: each membership of the operator makes each of its statements slower.
CREATE OR REPLACE FUNCTION tenantry.take(role name) RETURNS oid
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  id oid := (SELECT r.oid FROM pg_roles r WHERE r.rolname = take.role);
BEGIN
  IF NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = id AND m.member = 'tenantry_operator'::regrole
    AND m.inherit_option AND m.set_option) THEN
    EXECUTE format('GRANT %I TO tenantry_operator WITH INHERIT TRUE, SET TRUE', role);
  END IF;
  RETURN id;
END
$$;

-- end_sessions terminates the sessions of a role and returns whether none is left. While a session starts, it is not in
-- pg_stat_activity yet, but it has a lock on its database. It takes the lock before it checks whether it may connect. So when a role
-- is fenced, nobody with such a lock is unknown, and after that no session of it is there, then none can come.
CREATE OR REPLACE FUNCTION tenantry.end_sessions(role oid, passes integer) RETURNS boolean
  LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  starting integer[];
  sessions integer[];
BEGIN
  FOR pass IN 1..passes LOOP
    starting := ARRAY(SELECT DISTINCT l.pid FROM pg_locks l
      WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass AND l.mode = 'RowExclusiveLock');
    PERFORM pg_stat_clear_snapshot();
    sessions := ARRAY(SELECT a.pid FROM pg_stat_get_activity(NULL) a WHERE a.usesysid = role);
    IF cardinality(sessions) = 0 AND NOT EXISTS (SELECT FROM unnest(starting) AS s (pid)
      WHERE s.pid <> ALL (SELECT a.pid FROM pg_stat_get_activity(NULL) a WHERE a.usesysid IS NOT NULL)) THEN
      RETURN true;
    END IF;
    -- All of them first, so that they end at the same time.
    PERFORM pg_terminate_backend(s.pid) FROM unnest(sessions) AS s (pid);
    PERFORM pg_sleep(0.002 * least(pass, 50));
  END LOOP;
  RETURN false;
END
$$;

-- evict ends the sessions of other runs that are in the way of a session of the operator, which removes a run's role. Only who names that
-- role in a GRANT can be in its way, and no run has a reason to. It returns the roles of runs that have prepared transactions, when one is
-- in the way: these have no session.
CREATE OR REPLACE FUNCTION tenantry.evict(waiting integer) RETURNS SETOF name
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  blocking integer[] := pg_blocking_pids(waiting);
  session record;
BEGIN
  FOR session IN SELECT a.pid, r.rolname FROM pg_stat_get_activity(NULL) a JOIN pg_roles r ON r.oid = a.usesysid
    WHERE a.pid = ANY (blocking) AND starts_with(r.rolname, 'tenantry_run_') LOOP
    PERFORM tenantry.take(session.rolname);
    PERFORM pg_terminate_backend(session.pid);
  END LOOP;
  IF 0 = ANY (blocking) THEN
    FOR session IN SELECT DISTINCT p.owner AS rolname FROM pg_prepared_xacts p WHERE starts_with(p.owner, 'tenantry_run_') LOOP
      PERFORM tenantry.take(session.rolname);
      RETURN NEXT session.rolname;
    END LOOP;
  END IF;
END
$$;

-- remove drops a role that is fenced, owns nothing and has no sessions, with its row.
CREATE OR REPLACE FUNCTION tenantry.remove(role name) RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM tenantry.runs r WHERE r.role = remove.role;
  EXECUTE format('DROP ROLE IF EXISTS %I', role);
END
$$;

-- drop_unused_groups drops the groups of databases and schemas that do not exist any more.
CREATE OR REPLACE FUNCTION tenantry.drop_unused_groups() RETURNS void
  LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  kind text;
  grp name;
BEGIN
  -- Those of schemas first, since they are members of those of databases.
  FOREACH kind IN ARRAY ARRAY['^tenantry_schema_[0-9]+_[0-9]+$', '^tenantry_connect_[0-9]+$'] LOOP
    FOR grp IN SELECT r.rolname FROM pg_roles r WHERE r.rolname ~ kind
      AND NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = r.oid AND m.member <> 'tenantry_operator'::regrole)
      AND NOT EXISTS (SELECT FROM pg_shdepend s WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid) LOOP
      EXECUTE format('DROP ROLE %I', grp);
    END LOOP;
  END LOOP;
END
$$;

-- list returns the roles that a provider of a cluster has made. Either half may be missing: the row in a database that was restored
-- from a backup, the role on another server.
CREATE OR REPLACE FUNCTION tenantry.list(cluster text, provider text) RETURNS
  TABLE (role name, run text, namespace text, name text, expiration_time timestamptz)
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    WITH commented AS (
      SELECT r.rolname, r.rolvaliduntil, c.description FROM pg_shdescription c JOIN pg_roles r ON r.oid = c.objoid
      WHERE c.classoid = 'pg_authid'::regclass
        AND starts_with(c.description, tenantry.comment_of(list.cluster, list.provider, ''))
    ), noted AS (
      SELECT * FROM tenantry.runs t WHERE t.cluster = list.cluster AND t.provider = list.provider
    )
    SELECT coalesce(n.role, c.rolname), coalesce(n.run, split_part(c.description, 'run=', 2)), coalesce(n.namespace, ''),
      coalesce(n.name, ''), coalesce(c.rolvaliduntil, n.expiration_time)
    FROM commented c FULL JOIN noted n ON n.role = c.rolname
    -- The role of a check that is going on is none that somebody has forgotten.
    WHERE (starts_with(n.run, 'check-') AND n.expiration_time > statement_timestamp()) IS NOT TRUE
    ORDER BY 1
$$;

-- findings returns what lets a run do more than it should, with the statement that mends it. Without `shared`, tenants share no tables
-- in this database, and only what concerns the server is looked at.
CREATE OR REPLACE FUNCTION tenantry.findings(shared boolean DEFAULT true) RETURNS TABLE (object text, problem text, remedy text)
  LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  WITH
  schemas AS (
    SELECT n.oid, quote_ident(n.nspname) AS name, has_schema_privilege('tenantry_tenant', n.oid, 'USAGE') AS used
    FROM pg_namespace n
    WHERE n.nspname NOT IN ('information_schema', 'tenantry') AND NOT starts_with(n.nspname, 'pg_')
  ),
  relations AS (
    SELECT c.oid, c.relkind, c.oid::regclass::text AS name, c.relrowsecurity, c.relforcerowsecurity, pg_get_userbyid(c.relowner) AS owner,
      CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' ELSE 'table' END
        || ' ' || c.oid::regclass AS object,
      has_table_privilege('tenantry_tenant', c.oid, 'INSERT, UPDATE, DELETE')
        OR has_any_column_privilege('tenantry_tenant', c.oid, 'INSERT, UPDATE') AS written,
      coalesce((SELECT v.option_value::boolean FROM pg_options_to_table(c.reloptions) v WHERE v.option_name = 'security_invoker'), false)
        AS invoker,
      (SELECT format('tenant_id = (SELECT tenantry.current_tenant()%s)', CASE WHEN a.atttypid <> 'text'::regtype
        THEN '::' || format_type(a.atttypid, a.atttypmod) ELSE '' END)
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped) AS condition
    FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace AND s.used
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  ),
  reached AS (
    SELECT * FROM relations r WHERE r.written OR has_any_column_privilege('tenantry_tenant', r.oid, 'SELECT')
  ),
  -- Roles whose rights runs have. They create nothing but large objects, so their default privileges have no effect.
  tenants AS (
    SELECT r.oid FROM pg_roles r WHERE r.rolname = 'tenantry_tenant' OR r.rolname ~ '^tenantry_(connect|schema|run)_'
  ),
  policies AS (
    SELECT p.polname, r.oid, r.name, r.owner, p.polpermissive, p.polroles @> '{0}'::oid[] AS everybody, p.polqual, p.polwithcheck,
      p.polroles && ARRAY(SELECT t.oid FROM tenants t) AS named, uses.blind, uses.settable
    FROM pg_policy p JOIN reached r ON r.oid = p.polrelid AND r.relrowsecurity,
      -- The functions that an expression calls are looked for in its stored form: pg_get_expr waits for whoever has locked the table.
      LATERAL (SELECT
        bool_or(e.tree NOT LIKE format('%%:funcid %s %%', 'tenantry.current_tenant()'::regprocedure::oid)) AS blind,
        bool_or(e.tree LIKE ANY (SELECT format('%%:funcid %s %%', f.oid) FROM pg_proc f
          WHERE f.pronamespace = 'pg_catalog'::regnamespace AND f.proname = 'current_setting')) AS settable
        FROM (VALUES (p.polqual::text), (p.polwithcheck::text)) AS e (tree) WHERE e.tree IS NOT NULL) AS uses
    WHERE EXISTS (SELECT FROM unnest(p.polroles) AS member (role)
      WHERE member.role = 0 OR pg_has_role('tenantry_tenant', member.role, 'USAGE') OR member.role IN (SELECT t.oid FROM tenants t))
  ),
  too_much AS (
    SELECT r.oid, r.name, r.object, string_agg(privilege, ', ') AS privileges
    FROM relations r, unnest(ARRAY['TRUNCATE', 'REFERENCES', 'TRIGGER']
      || CASE WHEN current_setting('server_version_num')::integer >= 170000 THEN ARRAY['MAINTAIN'] ELSE '{}' END) AS privilege
    WHERE has_table_privilege('tenantry_tenant', r.oid, privilege)
    GROUP BY 1, 2, 3
  ),
  found AS (
    SELECT r.object, 'row security is not enabled, so every tenant reaches all rows; before you enable it, give the '
      'application''s own roles a policy' AS problem,
      CASE WHEN EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = r.oid) THEN ''
        WHEN r.condition IS NULL THEN format('REVOKE ALL ON TABLE %s FROM PUBLIC, tenantry_tenant', r.name)
        ELSE format('CREATE POLICY tenantry ON %s USING (%s) WITH CHECK (%2$s); ', r.name, r.condition) END
      || CASE WHEN r.condition IS NULL AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = r.oid) THEN ''
        ELSE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', r.name) END AS remedy
    FROM reached r WHERE r.relkind IN ('r', 'p') AND NOT r.relrowsecurity
    UNION ALL
    SELECT 'writes to ' || r.object, 'every tenant may change rows that all of them see',
      format('REVOKE INSERT, UPDATE, DELETE ON TABLE %s FROM PUBLIC, tenantry_tenant', r.name)
    FROM reached r JOIN tenantry.exceptions e ON e.object = r.object
    WHERE r.relkind IN ('r', 'p') AND NOT r.relrowsecurity AND r.written
    UNION ALL
    SELECT r.object, 'row security is not forced, so whatever runs as the owner ignores it',
      format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', r.name)
    FROM reached r WHERE r.relkind IN ('r', 'p') AND r.relrowsecurity AND NOT r.relforcerowsecurity
    UNION ALL
    SELECT DISTINCT format('policy %I on table %s', p.polname, p.name),
      CASE WHEN p.settable THEN 'it reads a setting, which a run can change' ELSE 'it lets tenants reach rows without comparing '
        'them with tenantry.current_tenant()' END
      || CASE WHEN p.everybody THEN '; name the roles of the application that it is for' ELSE '' END,
      CASE WHEN p.everybody THEN format('ALTER POLICY %I ON %s TO %I', p.polname, p.name, p.owner)
        ELSE format('DROP POLICY %I ON %s', p.polname, p.name) END
    FROM policies p WHERE p.polpermissive AND (p.blind OR p.settable)
    UNION ALL
    SELECT format('policy %I on table %s', p.polname, p.name), 'it names a role of tenants, and each run can drop it with DROP OWNED',
      CASE WHEN p.polpermissive THEN format('ALTER POLICY %I ON %s TO PUBLIC', p.polname, p.name)
        ELSE format('ALTER POLICY %I ON %s TO PUBLIC', p.polname, p.name)
          || coalesce(format(' USING ((SELECT tenantry.current_tenant()) IS NULL OR (%s))', pg_get_expr(p.polqual, p.oid)), '')
          || coalesce(format(' WITH CHECK ((SELECT tenantry.current_tenant()) IS NULL OR (%s))', pg_get_expr(p.polwithcheck, p.oid)), '')
      END
    FROM policies p WHERE p.named AND NOT (p.polpermissive AND (p.blind OR p.settable))
    UNION ALL
    SELECT r.object, 'row security is enabled and no policy is for tenants, so they find no rows',
      CASE WHEN r.condition IS NULL THEN format('REVOKE ALL ON TABLE %s FROM PUBLIC, tenantry_tenant', r.name)
        ELSE format('CREATE POLICY tenantry ON %s USING (%s) WITH CHECK (%2$s)', r.name, r.condition) END
    FROM reached r WHERE r.relkind IN ('r', 'p') AND r.relrowsecurity
      AND NOT EXISTS (SELECT FROM policies p WHERE p.oid = r.oid AND p.polpermissive)
    UNION ALL
    SELECT r.object, 'it runs with the rights of its owner, which row security does not restrict like the tenant',
      format('ALTER VIEW %s SET (security_invoker = true)', r.name)
    FROM reached r WHERE r.relkind = 'v' AND NOT r.invoker
    UNION ALL
    SELECT r.object, 'row security does not apply to it', format('REVOKE ALL ON TABLE %s FROM PUBLIC, tenantry_tenant', r.name)
    FROM reached r WHERE r.relkind IN ('m', 'f')
    UNION ALL
    SELECT t.object, 'tenants have ' || t.privileges || ' on it, which row security does not restrict',
      format('REVOKE %s ON TABLE %s FROM PUBLIC, tenantry_tenant', t.privileges, t.name)
    FROM too_much t
    UNION ALL
    SELECT r.object, 'tenants may grant rights on it to others',
      format('REVOKE GRANT OPTION FOR ALL ON TABLE %s FROM tenantry_tenant CASCADE', r.name)
    FROM reached r WHERE has_table_privilege('tenantry_tenant', r.oid, 'SELECT WITH GRANT OPTION, INSERT WITH GRANT OPTION, '
      'UPDATE WITH GRANT OPTION, DELETE WITH GRANT OPTION')
    UNION ALL
    SELECT 'sequence ' || c.oid::regclass, 'tenants may read or set its value; USAGE is enough for them',
      format('REVOKE SELECT, UPDATE ON SEQUENCE %s FROM PUBLIC, tenantry_tenant', c.oid::regclass)
    -- The functions about privileges fail for another kind of relation, and the planner may call them first.
    FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace AND s.used
    WHERE CASE WHEN c.relkind = 'S' THEN has_sequence_privilege('tenantry_tenant', c.oid, 'SELECT, UPDATE') ELSE false END
    UNION ALL
    SELECT format('%s %s', CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END, p.oid::regprocedure),
      'it is SECURITY DEFINER, so tenants call it with the rights of its owner',
      format('REVOKE EXECUTE ON ROUTINE %s FROM PUBLIC, tenantry_tenant', p.oid::regprocedure)
    FROM pg_proc p JOIN schemas s ON s.oid = p.pronamespace AND s.used
    WHERE p.prosecdef AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
      AND has_function_privilege('tenantry_tenant', p.oid, 'EXECUTE')
    UNION ALL
    SELECT 'schema ' || s.name, 'tenants may create objects in it, which run with the rights of whoever uses them',
      format('REVOKE CREATE ON SCHEMA %s FROM PUBLIC, tenantry_tenant', s.name)
    FROM schemas s WHERE has_schema_privilege('tenantry_tenant', s.oid, 'CREATE')
    UNION ALL
    SELECT format('default privileges of role %I%s', pg_get_userbyid(d.defaclrole), ' in schema ' || s.name),
      'tenants reach every new table, before it has a policy',
      format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE ALL ON TABLES FROM PUBLIC, tenantry_tenant',
        pg_get_userbyid(d.defaclrole), ' IN SCHEMA ' || s.name)
    FROM pg_default_acl d LEFT JOIN schemas s ON s.oid = d.defaclnamespace
    WHERE d.defaclobjtype = 'r' AND (d.defaclnamespace = 0 OR s.used)
      AND d.defaclrole NOT IN (SELECT t.oid FROM tenants t)
      AND EXISTS (SELECT FROM aclexplode(d.defaclacl) a WHERE a.grantee IN (0, 'tenantry_tenant'::regrole))
    UNION ALL
    SELECT format('default privileges of role %I%s', pg_get_userbyid(d.defaclrole), ' in schema ' || n.oid::regnamespace),
      'each run can drop them with DROP OWNED; grant the rights on each new object',
      format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE ALL ON %s FROM tenantry_tenant',
        pg_get_userbyid(d.defaclrole), ' IN SCHEMA ' || n.oid::regnamespace, CASE d.defaclobjtype WHEN 'S' THEN 'SEQUENCES'
          WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END)
    FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
    WHERE d.defaclobjtype <> 'r' AND d.defaclrole NOT IN (SELECT t.oid FROM tenants t)
      AND EXISTS (SELECT FROM aclexplode(d.defaclacl) a WHERE a.grantee = 'tenantry_tenant'::regrole)
    UNION ALL
    SELECT 'large object ' || l.oid, 'every tenant may reach it',
      format('REVOKE ALL ON LARGE OBJECT %s FROM PUBLIC, tenantry_tenant', l.oid)
    -- Those of runs are gone with them: what a run shows to others is its own.
    FROM pg_largeobject_metadata l
    WHERE l.lomowner NOT IN (SELECT t.oid FROM tenants t) AND EXISTS (SELECT FROM aclexplode(l.lomacl) a WHERE a.grantee IN (0, 'tenantry_tenant'::regrole))
    UNION ALL
    SELECT 'setting lo_compat_privileges', 'every large object is open to everybody',
      format('ALTER DATABASE %I SET lo_compat_privileges = off', current_database())
    WHERE current_setting('lo_compat_privileges')::boolean
    UNION ALL
    SELECT format('foreign server %I', f.srvname), 'tenants may connect through it',
      format('REVOKE USAGE ON FOREIGN SERVER %I FROM PUBLIC, tenantry_tenant', f.srvname)
    FROM pg_foreign_server f WHERE has_server_privilege('tenantry_tenant', f.oid, 'USAGE')
    UNION ALL
    SELECT 'role tenantry_tenant', 'it owns objects, and an owner may do everything with them',
      format('REASSIGN OWNED BY tenantry_tenant TO %I', pg_get_userbyid(d.datdba))
    FROM pg_database d WHERE d.datname = current_database() AND EXISTS (SELECT FROM pg_shdepend o WHERE o.dbid IN (0, d.oid)
      AND o.refclassid = 'pg_authid'::regclass AND o.refobjid = 'tenantry_tenant'::regrole AND o.deptype = 'o'
      AND o.classid <> 'pg_default_acl'::regclass)
  ),
  found_anywhere AS (
    SELECT format('role %I', r.rolname), 'tenants are members of it',  format('REVOKE %I FROM tenantry_tenant', r.rolname)
    FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid WHERE m.member = 'tenantry_tenant'::regrole
    UNION ALL
    SELECT format('database %I', d.datname),
      'tenants have ' || string_agg(privilege, ', ') || ' on it (its own users need that granted to themselves)',
      format('REVOKE %s ON DATABASE %I FROM PUBLIC, tenantry_tenant', string_agg(privilege, ', '), d.datname)
    FROM pg_database d, unnest(ARRAY['CONNECT', 'TEMPORARY', 'CREATE']) AS privilege
    WHERE d.datallowconn AND has_database_privilege('tenantry_tenant', d.oid, privilege)
    GROUP BY d.datname
    UNION ALL
    SELECT format('database %I', d.datname), format('tenants of another database have rights on it, as members of %I', r.rolname),
      format('REVOKE ALL ON DATABASE %I FROM %I', d.datname, r.rolname)
    FROM pg_database d, aclexplode(d.datacl) a JOIN pg_roles r ON r.oid = a.grantee
    WHERE starts_with(r.rolname, 'tenantry_connect_') AND r.rolname <> 'tenantry_connect_' || d.oid
    GROUP BY d.datname, r.rolname
    UNION ALL
    SELECT 'setting ' || p.parname, 'tenants may change it, which only superusers should',
      format('REVOKE ALL ON PARAMETER %s FROM PUBLIC, tenantry_tenant', p.parname)
    FROM pg_parameter_acl p WHERE has_parameter_privilege('tenantry_tenant', p.parname, 'SET, ALTER SYSTEM')
  )
  SELECT f.* FROM (SELECT * FROM found WHERE shared UNION ALL SELECT * FROM found_anywhere) f (object, problem, remedy)
  WHERE NOT EXISTS (SELECT FROM tenantry.exceptions e WHERE e.object = f.object)
  ORDER BY 1, 2
$$;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA tenantry FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tenantry TO tenantry_operator;
-- Whoever reads a table with a policy for everybody computes current_tenant().
GRANT EXECUTE ON FUNCTION tenantry.current_tenant(), tenantry.version() TO PUBLIC;
COMMIT;
