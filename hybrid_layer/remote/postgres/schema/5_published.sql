-- SPDX-License-Identifier: BSD-3-Clause
-- Pub/sub over NOTIFY. What is published: "d|<stamp>|<epoch>|<name>|<payload>" to a process; "a|<group>|<stamp>|..." to
-- members that another process added; "n|<note>"; "m|<mark>"; "g|<stamp>|<epoch>||<payload>" to a group; "f|<epoch>" after a
-- flush; "@|<id>" for what is in `body`. Payloads are in base64.

-- Sends what is published. Texts that are too long for a notification go into a table.
CREATE OR REPLACE FUNCTION hybrid_layer_1.notify_(channel text, head text, payload bytea, until_ms bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  MOST CONSTANT int := 7999;
  found bigint;
  v text;
BEGIN
  IF octet_length(head) + octet_length(payload) * 4 / 3 + octet_length(payload) / 57 + 4 <= MOST THEN
    v := pg_notify(channel, head || encode(payload, 'base64'))::text;
  ELSE
    INSERT INTO hybrid_layer_1.body AS b (until_ms, head, payload)
      VALUES (until_ms, head, payload) RETURNING b.id INTO found;
    v := pg_notify(channel, '@|' || found)::text;
  END IF;
END $$;

-- Publishes one message on the channel of a process. `k` is the number of the process. `hears`: the caller's
-- own session listens. Returns whether anybody does.
CREATE OR REPLACE FUNCTION hybrid_layer_1.publish(
  whose text, channel text, k bigint, hears boolean, names text, payload bytea, life bigint,
  OUT received boolean, OUT epoch text, OUT now bigint
) LANGUAGE plpgsql AS $$
BEGIN
  SELECT e.value INTO epoch FROM hybrid_layer_1.epoch e WHERE e.prefix = whose;
  IF epoch IS NULL THEN
    epoch := hybrid_layer_1.begin_epoch_(whose, false);
  END IF;
  now := date_part('epoch', clock_timestamp()) * 1000;
  received := hears OR NOT pg_try_advisory_xact_lock(k + 2);
  IF received THEN
    PERFORM hybrid_layer_1.notify_(
      channel, 'd|' || now + life || '|' || epoch || '|' || names || '|', payload, now + life);
  END IF;
END $$;

-- Listens to `channels`, a list; `groups` are those of them that are channels of groups. Unless it is NULL, `k` is the
-- number of the process that listens. `is_first`: it holds k + 2 for the session.
CREATE OR REPLACE FUNCTION hybrid_layer_1.subscribe(channels text, groups text, k bigint, is_first boolean) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  each text;
  v text;
BEGIN
  FOREACH each IN ARRAY string_to_array(channels, ',') LOOP
    EXECUTE format('LISTEN %I', each);
  END LOOP;
  IF is_first THEN
    v := pg_advisory_lock_shared(k + 2)::text;
  END IF;
  IF groups <> '' THEN
    INSERT INTO hybrid_layer_1.listener AS l (channel, k, pid)
      SELECT g.channel, subscribe.k, pg_backend_pid() FROM unnest(string_to_array(groups, ',')) AS g (channel)
      ON CONFLICT ON CONSTRAINT listener_pkey DO NOTHING;
  END IF;
END $$;

-- The reverse. `is_last`: it holds k + 2 no more.
CREATE OR REPLACE FUNCTION hybrid_layer_1.unsubscribe(channels text, groups text, k bigint, is_last boolean) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  each text;
  v text;
BEGIN
  FOREACH each IN ARRAY string_to_array(channels, ',') LOOP
    EXECUTE format('UNLISTEN %I', each);
  END LOOP;
  IF is_last THEN
    v := pg_advisory_unlock_shared(k + 2)::text;
  END IF;
  IF groups <> '' THEN
    DELETE FROM hybrid_layer_1.listener l
      WHERE l.channel = ANY (string_to_array(groups, ',')) AND l.k = unsubscribe.k AND l.pid = pg_backend_pid();
  END IF;
END $$;

-- How many processes listen to the channel of a group. Sessions that broke count until the next sweep, unless the answer
-- must be `exact`, which costs more.
CREATE OR REPLACE FUNCTION hybrid_layer_1.listeners_(channel text, exact boolean) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  n bigint;
BEGIN
  SELECT count(DISTINCT l.k) INTO n FROM hybrid_layer_1.listener l
    WHERE l.channel = listeners_.channel AND (NOT exact OR l.pid IN (SELECT a.pid FROM pg_stat_activity a));
  RETURN n;
END $$;

CREATE OR REPLACE FUNCTION hybrid_layer_1.fetch(which bigint, OUT head text, OUT payload bytea) LANGUAGE plpgsql AS $$
BEGIN
  SELECT b.head, b.payload INTO head, payload FROM hybrid_layer_1.body b WHERE b.id = which;
END $$;

CREATE OR REPLACE FUNCTION hybrid_layer_1.mark(channel text, mark text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v text;
BEGIN
  v := pg_notify(channel, 'm|' || mark)::text;
END $$;
