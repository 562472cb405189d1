-- What only a superuser can take from everybody in a database, beside tenantry.sql. It is not needed for isolation: it closes ways in
-- which one tenant's run can hold up another user of the database, or fill it. The application's own roles lose these functions, too:
-- grant them what they use, for example:  GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO <role>;
--
-- It works for the one database in which it is run, and can be run again. A dump does not contain it.
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
DO $$
DECLARE
  routine regprocedure;
BEGIN
  FOR routine IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND (
    -- Advisory locks belong to the whole database: a run can take those that the application uses.
    p.proname ~ '^pg_(try_)?advisory_'
    -- Large objects have no quota.
    OR p.proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_put', 'lo_open', 'lowrite', 'lo_import', 'lo_export')
    -- The command NOTIFY stays.
    OR p.proname = 'pg_notify') LOOP
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', routine);
  END LOOP;
END
$$;
COMMIT;
