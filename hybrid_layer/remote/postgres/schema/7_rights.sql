-- SPDX-License-Identifier: BSD-3-Clause
-- How the functions run: with the rights of their owner, so that a site's role needs none on the tables. Nobody else may
-- call helpers. Sessions set how statements are planned: setting that for each call would cost more.
DO $$
DECLARE
  f record;
BEGIN
  FOR f IN
    SELECT p.oid::regprocedure AS name, p.proname LIKE '%\_' AS is_helper FROM pg_proc p
      WHERE p.pronamespace = 'hybrid_layer_1'::regnamespace
  LOOP
    IF f.is_helper THEN
      EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f.name);
    ELSE
      EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER', f.name);
      EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', f.name);
    END IF;
  END LOOP;
END $$;

-- Later releases that only add to this schema have a higher number.
CREATE OR REPLACE FUNCTION hybrid_layer_1.revision() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 1::bigint';
