-- SPDX-License-Identifier: BSD-3-Clause
-- Sending to queues and inboxes, and reading from them.

-- Begins the epoch of a prefix, unless it has begun. Each session calls it first.
CREATE OR REPLACE FUNCTION hybrid_layer_1.begin_epoch(whose text, had_data boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hybrid_layer_1.epoch_(whose, had_data);
END $$;

-- Stores messages in a queue, in order: the first ones that there is room for, which are `done`. `addressee` and `queue`
-- begin with the prefix; the former is "" for a normal channel. `outcome`: 0 all are stored; 1 not all, as it is full,
-- and if it `rang`, who reads there was asked to remove what it has; 2 the addressee is gone; 3 nothing was done, as the
-- epoch has not begun: here, with the lock of the queue, another session that begins it would be waited for, and might
-- wait for this one. `rang` is false if no other session sleeps there.
--
-- If a process sleeps there, the bells carry the messages, so that nobody need ask for them:
-- "<id>|<stamp>|<epoch>|<names>|<payload>". The rows stay until the process has taken that over. `own`: it is the process
-- of the caller's session, whose sleep cannot be seen.
--
-- The queue had no id below `low` when `returns` was `known_returns`. The answer has its first id now, its `head`: who
-- passes that on saves the next call from passing over removed entries, which stay while any transaction may see them.
CREATE OR REPLACE FUNCTION hybrid_layer_1.send(
  whose text, addressee text, queue text, k bigint, names text, payloads bytea[], capacity bigint, life bigint,
  own boolean, low bigint, known_returns bigint,
  OUT outcome bigint, OUT expired bigint, OUT rang boolean, OUT epoch text, OUT now bigint, OUT done bigint,
  OUT head bigint, OUT returns bigint
) LANGUAGE plpgsql AS $$
DECLARE
  MOST CONSTANT int := 5500; -- then the text is too short to be refused
  payload bytea;
  ends bigint;
  inboxes bigint;
  bell text;
  fresh bigint;
  is_full boolean;
  dropped bigint;
  v text;
BEGIN
  outcome := 0;
  expired := 0;
  done := 0;
  v := pg_advisory_xact_lock(k)::text;
  now := date_part('epoch', clock_timestamp()) * 1000;
  SELECT e.value, e.returns, a.until_ms, a.inboxes, a.bell, ( -- one query: each takes as long as all the rest
      SELECT m.id FROM hybrid_layer_1.message m
        WHERE m.queue = send.queue AND m.id >= CASE WHEN e.returns = known_returns THEN low ELSE 0 END
        ORDER BY m.id LIMIT 1
    ) INTO epoch, returns, ends, inboxes, bell, head
    FROM hybrid_layer_1.epoch e LEFT JOIN hybrid_layer_1.alive a ON a.name = send.addressee WHERE e.prefix = whose;
  IF epoch IS NULL THEN
    outcome := 3;
    RETURN;
  END IF;
  IF addressee <> '' THEN
    IF (ends IS NULL OR ends <= now) AND hybrid_layer_1.is_gone_(whose, substr(addressee, length(whose) + 2), '', now) THEN
      outcome := 2;
      done := array_length(payloads, 1);
      RETURN;
    END IF;
    IF queue LIKE '%|@%' THEN
      capacity := capacity * coalesce(greatest(1, least(inboxes, 1000000)), 1) + 64;
    END IF;
  END IF;
  rang := own OR NOT pg_try_advisory_xact_lock(k + 1);
  FOREACH payload IN ARRAY payloads LOOP
    fresh := nextval('hybrid_layer_1.message_id_seq');
    IF fresh - head >= capacity THEN -- else there cannot be so many
      SELECT r.is_full, r.expired INTO is_full, dropped FROM hybrid_layer_1.make_room_(queue, head, capacity, now) r;
      expired := expired + dropped;
      IF is_full THEN
        outcome := 1;
        IF rang THEN
          v := pg_notify('hl1_' || to_hex(k), '')::text;
        END IF;
        RETURN;
      END IF;
    END IF;
    head := coalesce(head, fresh);
    INSERT INTO hybrid_layer_1.message (id, queue, until_ms, epoch, names, payload)
      VALUES (fresh, queue, now + life, epoch, names, payload);
    done := done + 1;
    IF rang AND bell <> '' AND octet_length(payload) <= MOST THEN
      v := pg_notify(bell,
        fresh || '|' || now + life || '|' || epoch || '|' || names || '|' || encode(payload, 'base64'))::text;
    ELSIF rang THEN
      v := pg_notify('hl1_' || to_hex(k), '')::text;
    END IF;
  END LOOP;
END $$;

-- Removes what a process has taken over from bells: the entries of its inbox behind `low`, up to `high`.
CREATE OR REPLACE FUNCTION hybrid_layer_1.done(queue text, low bigint, high bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM hybrid_layer_1.message m WHERE m.queue = done.queue AND m.id > low AND m.id <= high;
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
    UPDATE hybrid_layer_1.epoch AS e SET returns = e.returns + 1 WHERE e.prefix = whose;
    INSERT INTO hybrid_layer_1.message (id, queue, until_ms, epoch, names, payload)
      VALUES (old_id, whose || '|' || queue, until_ms, old_epoch, names, payload);
    rang := NOT pg_try_advisory_xact_lock(k + 1);
    v := pg_notify('hl1_' || to_hex(k), 'b')::text; -- also for those who do not sleep
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

-- As take, of one message. `source` is NULL without any; then, or with it, the session `sleeps`. `is_last`: nothing is
-- left, and it slept before. `lows` are ids from which each queue is searched first, a list.
CREATE OR REPLACE FUNCTION hybrid_layer_1.claim(
  queues text, ks text, lows text,
  OUT source bigint, OUT id bigint, OUT until_ms bigint, OUT epoch text, OUT names text, OUT payload bytea,
  OUT is_last boolean, OUT sleeps boolean
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  each text[] := string_to_array(queues, ',');
  from_ids bigint[] := string_to_array(lows, ',')::bigint[];
  is_alone boolean := ks = '' AND array_length(each, 1) = 1;
BEGIN
  sleeps := false;
  LOOP
    FOR n IN 1 .. array_length(each, 1) LOOP
      DELETE FROM hybrid_layer_1.message m WHERE m.ctid = (
        SELECT x.ctid FROM hybrid_layer_1.message x WHERE x.queue = each[n] AND x.id >= from_ids[n]
          ORDER BY x.id LIMIT 1 FOR UPDATE SKIP LOCKED
      ) RETURNING m.id, m.until_ms, m.epoch, m.names, m.payload, is_alone AND NOT EXISTS (
        SELECT 1 FROM hybrid_layer_1.message y WHERE y.queue = each[n] AND y.id > m.id
      ) INTO claim.id, claim.until_ms, claim.epoch, claim.names, claim.payload, claim.is_last;
      IF FOUND THEN
        source := n;
        RETURN;
      END IF;
    END LOOP;
    IF (sleeps OR ks = '') AND 0 = ALL (from_ids) THEN
      RETURN;
    END IF;
    from_ids := array_fill(0::bigint, ARRAY[array_length(each, 1)]);
    IF ks <> '' THEN
      sleeps := true;
      PERFORM hybrid_layer_1.sleep_(string_to_array(ks, ',')::bigint[]);
    END IF;
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
