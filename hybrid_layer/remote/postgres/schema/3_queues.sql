-- SPDX-License-Identifier: BSD-3-Clause
-- Sending to queues and inboxes, and reading from them.

-- Stores one message. `outcome`: 0 stored, 1 full, 2 the addressee is gone. `rang` as in store_.
CREATE OR REPLACE FUNCTION hybrid_layer_1.send(
  whose text, queue text, k bigint, addressee text, names text, payload bytea, capacity bigint, life bigint,
  OUT outcome bigint, OUT expired bigint, OUT rang boolean, OUT epoch text, OUT now bigint
) LANGUAGE plpgsql AS $$
DECLARE
  ends bigint;
  inboxes bigint;
  put record;
BEGIN
  outcome := 2;
  expired := 0;
  rang := true;
  SELECT e.value INTO epoch FROM hybrid_layer_1.epoch e WHERE e.prefix = whose;
  IF epoch IS NULL THEN
    epoch := hybrid_layer_1.begin_epoch_(whose, addressee <> ''); -- an epoch existed before the channel's name did
  END IF;
  now := date_part('epoch', clock_timestamp()) * 1000;
  IF addressee <> '' THEN
    SELECT a.until_ms, a.inboxes INTO ends, inboxes FROM hybrid_layer_1.alive a WHERE a.name = whose || '|' || addressee;
    IF (ends IS NULL OR ends <= now) AND hybrid_layer_1.is_gone_(whose, addressee, '', now) THEN
      RETURN;
    END IF;
    IF addressee LIKE '@%' THEN
      capacity := capacity * coalesce(greatest(1, least(inboxes, 1000000)), 1) + 64;
    END IF;
  END IF;
  put := hybrid_layer_1.store_(whose || '|' || queue, k, epoch, names, payload, capacity, life);
  outcome := CASE WHEN put.stored THEN 0 ELSE 1 END;
  expired := put.expired;
  rang := put.rang;
END $$;

-- As send, for several: the first ones that there is room for, which are `done`. `rang` is false if any was.
CREATE OR REPLACE FUNCTION hybrid_layer_1.send_multiple(
  whose text, queue text, k bigint, addressee text, names text, payloads bytea[], capacity bigint, life bigint,
  OUT outcome bigint, OUT expired bigint, OUT rang boolean, OUT epoch text, OUT now bigint, OUT done bigint
) LANGUAGE plpgsql AS $$
DECLARE
  payload bytea;
  put record;
BEGIN
  expired := 0;
  rang := true;
  done := 0;
  FOREACH payload IN ARRAY payloads LOOP
    put := hybrid_layer_1.send(whose, queue, k, addressee, names, payload, capacity, life);
    outcome := put.outcome;
    expired := expired + put.expired;
    rang := rang AND put.rang;
    epoch := put.epoch;
    now := put.now;
    EXIT WHEN outcome = 1;
    done := done + 1;
  END LOOP;
END $$;

-- Returns a message to the head of its queue: with its old id. False: there was a flush meanwhile.
CREATE OR REPLACE FUNCTION hybrid_layer_1.put_back(
  whose text, queue text, k bigint, old_id bigint, until_ms bigint, old_epoch text, names text, payload bytea,
  OUT stored boolean, OUT rang boolean
) LANGUAGE plpgsql AS $$
DECLARE
  epoch text;
  v text;
BEGIN
  rang := true;
  v := pg_advisory_xact_lock(k)::text;
  SELECT e.value INTO epoch FROM hybrid_layer_1.epoch e WHERE e.prefix = whose;
  stored := epoch IS NULL OR epoch = old_epoch OR split_part(epoch, ':', 1) <> split_part(old_epoch, ':', 1);
  IF stored THEN
    INSERT INTO hybrid_layer_1.message (id, queue, until_ms, epoch, names, payload)
      VALUES (old_id, whose || '|' || queue, until_ms, old_epoch, names, payload);
    rang := hybrid_layer_1.ring_(k);
  END IF;
END $$;

-- Sleeps: holds the locks k + 1 of `ks` for the session, so that who sends rings. Then it waits for those who have looked
-- at these locks too early to see them; what they sent can be seen afterwards.
CREATE OR REPLACE FUNCTION hybrid_layer_1.sleep_(ks bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  k bigint;
  v text;
BEGIN
  FOREACH k IN ARRAY ks LOOP
    v := pg_advisory_lock_shared(k + 1)::text;
    v := pg_advisory_lock(k)::text;
    v := pg_advisory_unlock(k)::text;
  END LOOP;
END $$;

-- Takes up to `most` messages from the first of `queues` that has any. If none has, it sleeps on `ks`, and looks once
-- more: then the first row is one of source 0. If the session slept before, `ks` is "", and there is a row of source -1
-- if nothing is left. Lists are separated by commas.
CREATE OR REPLACE FUNCTION hybrid_layer_1.take(queues text, ks text, most bigint)
RETURNS TABLE (source bigint, id bigint, until_ms bigint, epoch text, names text, payload bytea)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  each text[] := string_to_array(queues, ',');
  may_sleep boolean := ks <> '';
BEGIN
  LOOP
    FOR n IN 1 .. array_length(each, 1) LOOP
      RETURN QUERY DELETE FROM hybrid_layer_1.message m WHERE m.ctid = ANY(ARRAY(
        SELECT x.ctid FROM hybrid_layer_1.message x WHERE x.queue = each[n] ORDER BY x.id LIMIT most
          FOR UPDATE SKIP LOCKED
      )) RETURNING n::bigint, m.id, m.until_ms, m.epoch, m.names, m.payload;
      IF FOUND THEN
        IF ks = '' AND NOT EXISTS (SELECT 1 FROM hybrid_layer_1.message m WHERE m.queue = ANY (each)) THEN
          RETURN QUERY SELECT -1::bigint, 0::bigint, 0::bigint, ''::text, ''::text, NULL::bytea;
        END IF;
        RETURN;
      END IF;
    END LOOP;
    IF NOT may_sleep THEN
      RETURN;
    END IF;
    may_sleep := false;
    PERFORM hybrid_layer_1.sleep_(string_to_array(ks, ',')::bigint[]);
    RETURN QUERY SELECT 0::bigint, 0::bigint, 0::bigint, ''::text, ''::text, NULL::bytea;
  END LOOP;
END $$;

-- Ends the sleep on `ks`, a list.
CREATE OR REPLACE FUNCTION hybrid_layer_1.awake(ks text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  k bigint;
  v text;
BEGIN
  FOREACH k IN ARRAY string_to_array(ks, ',')::bigint[] LOOP
    v := pg_advisory_unlock_shared(k + 1)::text;
  END LOOP;
END $$;

-- Returns epoch and clock.
CREATE OR REPLACE FUNCTION hybrid_layer_1.measure(whose text, OUT epoch text, OUT now bigint) LANGUAGE plpgsql AS $$
BEGIN
  SELECT e.value INTO epoch FROM hybrid_layer_1.epoch e WHERE e.prefix = whose;
  epoch := coalesce(epoch, '');
  now := hybrid_layer_1.clock_();
END $$;
