-- The billing database of the sample application, as the application's own migrations would make it. Its tenants share the tables, and
-- their jobs see their own rows only.
--
-- A superuser runs this file in the database, after Tenantry's tenantry.sql:
--
--     psql --set ON_ERROR_STOP=1 --file tenantry.sql --file schema.sql billing
--
-- It can be run again.
BEGIN;
SET LOCAL client_min_messages = warning;

DO $$
DECLARE
  role name;
BEGIN
  -- hotspot_owner owns the tables. hotspot_web is the application, which has a customer's rows from its own code. Nobody logs in as
  -- either of them here.
  FOREACH role IN ARRAY ARRAY['hotspot_owner', 'hotspot_web'] LOOP
    IF to_regrole(role) IS NULL THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', role);
    END IF;
  END LOOP;
  -- A run may connect to this database and to no other one.
  EXECUTE format('REVOKE CONNECT, TEMPORARY ON DATABASE %I, postgres, template1 FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO hotspot_web', current_database());
END
$$;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO hotspot_owner;
GRANT USAGE ON SCHEMA public TO hotspot_web, tenantry_tenant;

SET LOCAL ROLE hotspot_owner;

-- Every key begins with tenant_id, so that customers may use the same ids, and a foreign key never points at another customer's row.
-- A row that does not say whose it is belongs to the tenant whose run inserts it.
CREATE TABLE IF NOT EXISTS customers (
  tenant_id text PRIMARY KEY DEFAULT tenantry.current_tenant(),
  name text NOT NULL
);

CREATE TABLE IF NOT EXISTS users (
  tenant_id text NOT NULL DEFAULT tenantry.current_tenant() REFERENCES customers ON DELETE CASCADE,
  id integer,
  name text NOT NULL,
  status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'leaving', 'disconnected')),
  limit_kbps integer, -- NULL: as fast as it goes
  PRIMARY KEY (tenant_id, id)
);

CREATE TABLE IF NOT EXISTS subscriptions (
  tenant_id text NOT NULL DEFAULT tenantry.current_tenant(),
  id integer,
  user_id integer NOT NULL,
  ends_on date NOT NULL,
  status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'expired')),
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES users ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS payments (
  tenant_id text NOT NULL DEFAULT tenantry.current_tenant(),
  id integer,
  subscription_id integer NOT NULL,
  amount numeric(10, 2) NOT NULL,
  status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'charged')),
  currency text,
  charged_on date,
  idempotency_key text, -- the UID of the run that charged it
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscriptions ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS reminders (
  tenant_id text NOT NULL DEFAULT tenantry.current_tenant(),
  subscription_id integer,
  ends_on date,
  channel text NOT NULL,
  PRIMARY KEY (tenant_id, subscription_id, ends_on),
  FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscriptions ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS routers (
  tenant_id text NOT NULL DEFAULT tenantry.current_tenant() REFERENCES customers ON DELETE CASCADE,
  id text,
  profile text,
  status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'provisioned')),
  answers boolean NOT NULL DEFAULT true, -- stands for the router itself, which there is none of
  last_reply timestamptz,
  failures integer NOT NULL DEFAULT 0,
  alert boolean NOT NULL DEFAULT false,
  PRIMARY KEY (tenant_id, id)
);

CREATE TABLE IF NOT EXISTS access_points (
  tenant_id text NOT NULL DEFAULT tenantry.current_tenant(),
  id integer,
  router_id text NOT NULL,
  status text NOT NULL DEFAULT 'up' CHECK (status IN ('up', 'silent')),
  last_report timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, router_id) REFERENCES routers ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS sessions (
  tenant_id text NOT NULL DEFAULT tenantry.current_tenant(),
  id integer,
  user_id integer NOT NULL,
  last_activity timestamptz NOT NULL,
  bytes bigint NOT NULL DEFAULT 0,
  end_reason text, -- NULL: it is open
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, user_id) REFERENCES users ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS vpn_peers (
  tenant_id text NOT NULL DEFAULT tenantry.current_tenant(),
  id integer,
  router_id text NOT NULL,
  status text NOT NULL DEFAULT 'up' CHECK (status IN ('up', 'down')),
  last_handshake timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, router_id) REFERENCES routers ON DELETE CASCADE
);

-- What the RADIUS server has written down, until it is taken over into the sessions.
CREATE TABLE IF NOT EXISTS radius_accounting (
  tenant_id text NOT NULL DEFAULT tenantry.current_tenant(),
  id integer,
  session_id integer NOT NULL,
  bytes bigint NOT NULL,
  copied boolean NOT NULL DEFAULT false,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, session_id) REFERENCES sessions ON DELETE CASCADE
);

CREATE TABLE IF NOT EXISTS dashboard_stats (
  tenant_id text NOT NULL DEFAULT tenantry.current_tenant() REFERENCES customers ON DELETE CASCADE,
  window_days integer,
  users integer NOT NULL,
  revenue numeric(12, 2) NOT NULL,
  bytes bigint NOT NULL,
  PRIMARY KEY (tenant_id, window_days)
);

-- One policy for the application, one for the runs.
DO $$
DECLARE
  t regclass;
  own CONSTANT text := 'tenant_id = (SELECT tenantry.current_tenant())';
BEGIN
  FOR t IN SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
    AND c.relowner = 'hotspot_owner'::regrole LOOP
    EXECUTE format('DROP POLICY IF EXISTS application ON %s', t);
    EXECUTE format('DROP POLICY IF EXISTS tenantry ON %s', t);
    EXECUTE format('CREATE POLICY application ON %s TO hotspot_web USING (true)', t);
    EXECUTE format('CREATE POLICY tenantry ON %s USING (%s) WITH CHECK (%2$s)', t, own);
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO hotspot_web, tenantry_tenant', t);
  END LOOP;
END
$$;
RESET ROLE;

-- For whoever looks after the database: what the demo and the tests use. Tenants have no rights in this schema.
CREATE SCHEMA IF NOT EXISTS operations;

-- fill gives a customer the rows that every customer begins with: forty users with a subscription, a payment and a session each,
-- ten routers with an access point and a VPN peer each, and so on. It replaces those that the customer has. All customers have the
-- same ids.
CREATE OR REPLACE PROCEDURE operations.fill(tenant text, name text)
  LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
BEGIN
  DELETE FROM customers c WHERE c.tenant_id = tenant;
  INSERT INTO customers VALUES (tenant, name);
  INSERT INTO users (tenant_id, id, name, status)
    SELECT tenant, i, 'user ' || i, CASE WHEN i > 438 THEN 'leaving' ELSE 'active' END FROM generate_series(401, 440) i;
  -- Ten ended more than a week ago, ten in the last days, ten end within the next days, and ten later.
  INSERT INTO subscriptions (tenant_id, id, user_id, ends_on)
    SELECT tenant, i, i, current_date + CASE (i - 401) / 10 WHEN 0 THEN -8 WHEN 1 THEN -2 WHEN 2 THEN 2 ELSE 20 END
    FROM generate_series(401, 440) i;
  INSERT INTO payments (tenant_id, id, subscription_id, amount)
    SELECT tenant, 7830 + i, i, 9.90 FROM generate_series(401, 440) i;
  INSERT INTO routers (tenant_id, id, profile, status, answers, failures)
    SELECT tenant, 'router-' || i, 'hotspot', CASE WHEN i > 8 THEN 'pending' ELSE 'provisioned' END, i > 3, CASE i WHEN 1 THEN 2 ELSE 0 END
    FROM generate_series(1, 10) i;
  INSERT INTO access_points (tenant_id, id, router_id, last_report)
    SELECT tenant, i, 'router-' || i, now() - CASE WHEN i <= 4 THEN interval '1 day' ELSE interval '0' END FROM generate_series(1, 10) i;
  INSERT INTO vpn_peers (tenant_id, id, router_id, last_handshake)
    SELECT tenant, i, 'router-' || i, now() - CASE WHEN i <= 5 THEN interval '1 day' ELSE interval '0' END FROM generate_series(1, 10) i;
  INSERT INTO sessions (tenant_id, id, user_id, last_activity)
    SELECT tenant, i, i, now() - CASE WHEN i <= 405 THEN interval '1 day' ELSE interval '0' END FROM generate_series(401, 440) i;
  INSERT INTO radius_accounting (tenant_id, id, session_id, bytes)
    SELECT tenant, i, 401 + i % 40, 1000 FROM generate_series(1, 400) i;
END
$$;

-- tables returns a digest of each table's rows of a customer, which changes when any of them does.
CREATE OR REPLACE FUNCTION operations.tables(tenant text) RETURNS TABLE (name name, digest text)
  LANGUAGE plpgsql SET search_path = public, pg_temp
AS $$
BEGIN
  FOR name IN SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' ORDER BY 1 LOOP
    EXECUTE format('SELECT coalesce(md5(string_agg(t::text, '','' ORDER BY t::text)), '''') FROM %I t WHERE tenant_id = $1', name)
      INTO digest USING tenant;
    RETURN NEXT;
  END LOOP;
END
$$;
REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA operations FROM PUBLIC;
COMMIT;
