-- SPDX-License-Identifier: BSD-3-Clause
-- What the functions have in common. Names that end with "_" are helpers: nobody else calls them.
--
-- Locks are advisory locks. A queue has a number k, a multiple of 4: k guards its order and its capacity, and k + 1 is
-- held, shared, by each session that sleeps until the queue has something. k + 2 is held, shared, by each session that
-- listens to what is published to the process of that number. A function that takes several locks k takes them in their order.

CREATE OR REPLACE FUNCTION hybrid_layer_1.clock_() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
  RETURN date_part('epoch', clock_timestamp()) * 1000;
END $$;

-- Begins the epoch of a prefix, unless another session is faster. `had_data`: the caller knows of earlier data.
CREATE OR REPLACE FUNCTION hybrid_layer_1.begin_epoch_(whose text, had_data boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  now bigint := hybrid_layer_1.clock_();
  found text;
  v text;
BEGIN
  v := pg_advisory_xact_lock(hashtextextended('hybrid_layer_1.message_id_seq', 0))::text;
  IF NOT EXISTS (SELECT 1 FROM hybrid_layer_1.epoch) THEN
    -- After a crash or a failover the sequence may lack the last numbers that it gave. Ids go on above all earlier ones,
    -- or a late trim would remove new messages: fewer are given than microseconds pass.
    v := setval('hybrid_layer_1.message_id_seq', greatest(s.last_value, now * 1000))::text
      FROM hybrid_layer_1.message_id_seq s;
  END IF;
  INSERT INTO hybrid_layer_1.epoch AS e (prefix, value, born_ms, was_lost)
    VALUES (whose, substr(md5(random()::text || clock_timestamp()::text), 1, 12) || ':0', now, had_data)
    ON CONFLICT (prefix) DO NOTHING;
  SELECT e.value INTO found FROM hybrid_layer_1.epoch e WHERE e.prefix = whose;
  RETURN found;
END $$;

-- The epoch of a prefix, which begins if there is none. What sends looks by itself, since the call adds a third to that.
CREATE OR REPLACE FUNCTION hybrid_layer_1.epoch_(whose text, had_data boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  found text;
BEGIN
  SELECT e.value INTO found FROM hybrid_layer_1.epoch e WHERE e.prefix = whose;
  IF found IS NULL THEN
    found := hybrid_layer_1.begin_epoch_(whose, had_data);
  END IF;
  RETURN found;
END $$;

-- Whether a process or machine is gone. It is not, if the data was lost so recently that it may not have renewed that
-- it lives. `first` is the incarnation of data that the caller met first, or "".
CREATE OR REPLACE FUNCTION hybrid_layer_1.is_gone_(whose text, addressee text, first text, now bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
  GRACE CONSTANT bigint := 10000;
  ends bigint;
BEGIN
  SELECT a.until_ms INTO ends FROM hybrid_layer_1.alive a WHERE a.name = whose || '|' || addressee;
  IF ends IS NOT NULL THEN
    RETURN ends <= now;
  END IF;
  RETURN NOT EXISTS (
    SELECT 1 FROM hybrid_layer_1.epoch e WHERE e.prefix = whose AND now - e.born_ms < GRACE
      AND (e.was_lost OR (first <> '' AND split_part(e.value, ':', 1) <> first))
  );
END $$;

-- Rings for who sleeps on a queue, whose lock k the caller holds. False: no other session does.
CREATE OR REPLACE FUNCTION hybrid_layer_1.ring_(k bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  v text;
BEGIN
  IF pg_try_advisory_xact_lock(k + 1) THEN
    RETURN false;
  END IF;
  v := pg_notify('hl1_' || to_hex(k), '')::text;
  RETURN true;
END $$;

-- Stores one message for `life` ms. Expired ones are dropped to make room. `rang`: whether another session slept.
CREATE OR REPLACE FUNCTION hybrid_layer_1.store_(
  q text, k bigint, epoch text, names text, payload bytea, capacity bigint, life bigint,
  OUT stored boolean, OUT expired bigint, OUT rang boolean
) LANGUAGE plpgsql AS $$
DECLARE
  now bigint;
  fresh bigint;
  head bigint;
  v text;
BEGIN
  v := pg_advisory_xact_lock(k)::text;
  now := date_part('epoch', clock_timestamp()) * 1000;
  fresh := nextval('hybrid_layer_1.message_id_seq');
  expired := 0;
  SELECT m.id INTO head FROM hybrid_layer_1.message m WHERE m.queue = q ORDER BY m.id LIMIT 1;
  IF fresh - head >= capacity THEN -- else there cannot be so many
    PERFORM 1 FROM hybrid_layer_1.message m WHERE m.queue = q ORDER BY m.id OFFSET capacity - 1 LIMIT 1;
    IF FOUND THEN
      WITH dropped AS (
        DELETE FROM hybrid_layer_1.message m WHERE m.ctid = ANY(ARRAY(
          SELECT x.ctid FROM hybrid_layer_1.message x WHERE x.queue = q AND x.until_ms <= now ORDER BY x.id
            FOR UPDATE SKIP LOCKED
        )) RETURNING 1
      ) SELECT count(*) INTO expired FROM dropped;
      PERFORM 1 FROM hybrid_layer_1.message m WHERE m.queue = q ORDER BY m.id OFFSET capacity - 1 LIMIT 1;
      IF FOUND THEN
        stored := false;
        rang := true;
        RETURN;
      END IF;
    END IF;
  END IF;
  INSERT INTO hybrid_layer_1.message (id, queue, until_ms, epoch, names, payload)
    VALUES (fresh, q, now + life, epoch, names, payload);
  stored := true;
  rang := hybrid_layer_1.ring_(k);
END $$;

-- Leaves a note in a queue, without regard to its capacity.
CREATE OR REPLACE FUNCTION hybrid_layer_1.note_(q text, k bigint, epoch text, note text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
  v text;
BEGIN
  v := pg_advisory_xact_lock(k)::text;
  INSERT INTO hybrid_layer_1.message (id, queue, until_ms, epoch, names, payload)
    VALUES (nextval('hybrid_layer_1.message_id_seq'), q, hybrid_layer_1.clock_() + 600000, epoch, note, NULL);
  RETURN hybrid_layer_1.ring_(k);
END $$;

-- How many entries may wait for a machine: what was taken in and not yet trimmed takes room, too.
CREATE OR REPLACE FUNCTION hybrid_layer_1.room_(whose text, machine text, capacity bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
  RETURN capacity * coalesce((
    SELECT greatest(1, least(a.inboxes, 1000000)) FROM hybrid_layer_1.alive a WHERE a.name = whose || '|' || machine
  ), 1) + 64;
END $$;
