-- SPDX-License-Identifier: BSD-3-Clause
-- How the functions run: with the rights of their owner, so that a site's role needs none on the tables, and with plans
-- that do not depend on what the tables happen to hold. Nobody else may call helpers.
DO $$
DECLARE
  f record;
  setting text;
BEGIN
  FOR f IN
    SELECT p.oid::regprocedure AS name, p.proname LIKE '%\_' AS is_helper FROM pg_proc p
      WHERE p.pronamespace = 'hybrid_layer_1'::regnamespace
  LOOP
    IF f.is_helper THEN
      EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f.name);
    ELSE
      EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER', f.name);
      FOREACH setting IN ARRAY ARRAY[
        'search_path = pg_catalog, pg_temp', 'plan_cache_mode = force_generic_plan', 'enable_seqscan = off',
        'enable_bitmapscan = off'
      ] LOOP
        EXECUTE format('ALTER FUNCTION %s SET %s', f.name, setting);
      END LOOP;
    END IF;
  END LOOP;
END $$;

-- Later releases that only add to this schema have a higher number.
CREATE OR REPLACE FUNCTION hybrid_layer_1.revision() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 1::bigint';
