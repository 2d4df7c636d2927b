-- SPDX-License-Identifier: BSD-3-Clause
-- Processes and machines: that they live, and the streams of machines.

-- Adds up what a process has counted, unless that is done: `fields` and `numbers` are lists of the same length.
CREATE OR REPLACE FUNCTION hybrid_layer_1.report_(whose text, reporter text, number bigint, fields text, numbers text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  LIFE CONSTANT bigint := 172800000; -- two days
  until bigint := hybrid_layer_1.clock_() + LIFE;
BEGIN
  IF reporter = '' THEN
    RETURN;
  END IF;
  INSERT INTO hybrid_layer_1.report AS r (reporter, last, until_ms) VALUES (whose || '|' || report_.reporter, number, until)
    ON CONFLICT ON CONSTRAINT report_pkey DO UPDATE SET last = excluded.last, until_ms = excluded.until_ms
    WHERE r.last < excluded.last; -- one that comes behind the next one, by another connection, is added by now
  IF FOUND THEN
    INSERT INTO hybrid_layer_1.counter AS c (prefix, field, n, until_ms)
      SELECT whose, f.field, f.n::bigint, until
        FROM unnest(string_to_array(fields, ','), string_to_array(numbers, ',')) AS f (field, n) ORDER BY f.field
      ON CONFLICT ON CONSTRAINT counter_pkey DO UPDATE SET n = c.n + excluded.n, until_ms = excluded.until_ms;
  END IF;
END $$;

-- Takes in a report, if there is one, and returns all that was reported: "<field>=<number>", as a list.
CREATE OR REPLACE FUNCTION hybrid_layer_1.counters(
  whose text, reporter text, number bigint, fields text, numbers text, OUT listed text
) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM hybrid_layer_1.report_(whose, reporter, number, fields, numbers);
  SELECT coalesce(string_agg(c.field || '=' || c.n, ','), '') INTO listed FROM hybrid_layer_1.counter c
    WHERE c.prefix = whose;
END $$;

-- How many unread messages are in a queue, in how many ms the first of them expires, and what was counted by the name of
-- its channel.
CREATE OR REPLACE FUNCTION hybrid_layer_1.queue_state(
  whose text, queue text, channel text, OUT pending bigint, OUT left_ms bigint, OUT sent bigint, OUT full_ bigint
) LANGUAGE plpgsql AS $$
DECLARE
  now bigint := hybrid_layer_1.clock_();
BEGIN
  SELECT count(*), (array_agg(m.until_ms ORDER BY m.id))[1] - now INTO pending, left_ms FROM hybrid_layer_1.message m
    WHERE m.queue = whose || '|' || queue_state.queue AND m.until_ms > now AND m.payload IS NOT NULL;
  SELECT c.n INTO sent FROM hybrid_layer_1.counter c WHERE c.prefix = whose AND c.field = 'sent|' || channel;
  SELECT c.n INTO full_ FROM hybrid_layer_1.counter c WHERE c.prefix = whose AND c.field = 'full|' || channel;
END $$;

-- Lets a process count as alive for `life` ms, and takes in a report, if there is one. Returns the notes that others left for it, one a line.
CREATE OR REPLACE FUNCTION hybrid_layer_1.renew(
  whose text, addressee text, life bigint, has_met boolean,
  reporter text, number bigint, fields text, numbers text,
  OUT was_gone boolean, OUT epoch text, OUT now bigint, OUT notes text
) LANGUAGE plpgsql AS $$
DECLARE
  ends bigint;
BEGIN
  epoch := hybrid_layer_1.epoch_(whose, has_met);
  now := hybrid_layer_1.clock_();
  SELECT a.until_ms INTO ends FROM hybrid_layer_1.alive a WHERE a.name = whose || '|' || addressee;
  was_gone := ends IS NULL OR ends <= now;
  INSERT INTO hybrid_layer_1.alive AS a (name, until_ms) VALUES (whose || '|' || addressee, now + life)
    ON CONFLICT (name) DO UPDATE SET until_ms = excluded.until_ms;
  WITH taken AS (
    DELETE FROM hybrid_layer_1.message m WHERE m.ctid = ANY(ARRAY(
      SELECT x.ctid FROM hybrid_layer_1.message x WHERE x.queue = whose || '|' || addressee || '|notes' ORDER BY x.id
        FOR UPDATE SKIP LOCKED
    )) RETURNING m.id, m.names
  ) SELECT coalesce(string_agg(t.names, E'\n' ORDER BY t.id), '') INTO notes FROM taken t;
  PERFORM hybrid_layer_1.report_(whose, reporter, number, fields, numbers);
END $$;

-- Lets a machine count as alive for `life` ms, or longer if it does already. `known` is the registration that it knows,
-- and `known_run` the run, which stands for the incarnation of the data. If one of them is not that here, the
-- registration is `fresh` from now on. `last`: later entries of its stream have higher ids, and no others.
CREATE OR REPLACE FUNCTION hybrid_layer_1.renew_machine(
  whose text, machine text, k bigint, life bigint, has_met boolean, known text, known_run bigint, fresh text, inboxes bigint,
  OUT registration text, OUT run bigint, OUT last bigint, OUT epoch text, OUT now bigint
) LANGUAGE plpgsql AS $$
DECLARE
  ends bigint;
  v text;
BEGIN
  v := pg_advisory_xact_lock(k)::text; -- what has an id by now can be seen
  epoch := hybrid_layer_1.epoch_(whose, has_met);
  now := hybrid_layer_1.clock_();
  SELECT a.until_ms, a.registration INTO ends, registration FROM hybrid_layer_1.alive a
    WHERE a.name = whose || '|' || machine;
  run := ('x0' || substr(md5(split_part(epoch, ':', 1)), 1, 15))::bit(64)::bigint;
  IF ends IS NULL OR ends <= now OR registration <> known OR run <> known_run THEN
    registration := fresh;
  END IF;
  INSERT INTO hybrid_layer_1.alive AS a (name, until_ms, registration, inboxes)
    VALUES (whose || '|' || machine, greatest(ends, now + life), renew_machine.registration, renew_machine.inboxes)
    ON CONFLICT (name) DO UPDATE
    SET until_ms = excluded.until_ms, registration = excluded.registration, inboxes = excluded.inboxes;
  SELECT s.last_value INTO last FROM hybrid_layer_1.message_id_seq s;
END $$;

-- Up to `most` entries of a machine's stream behind `after`. If there is none and `may_sleep`, as in take.
CREATE OR REPLACE FUNCTION hybrid_layer_1.follow(queue text, k bigint, after bigint, most bigint, may_sleep boolean)
RETURNS TABLE (source bigint, id bigint, until_ms bigint, epoch text, names text, payload bytea)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  q text := queue;
BEGIN
  LOOP
    RETURN QUERY SELECT 1::bigint, m.id, m.until_ms, m.epoch, m.names, m.payload FROM hybrid_layer_1.message m
      WHERE m.queue = q AND m.id > after ORDER BY m.id LIMIT most;
    IF FOUND OR NOT may_sleep THEN
      RETURN;
    END IF;
    may_sleep := false;
    PERFORM hybrid_layer_1.sleep_(ARRAY[k]);
    RETURN QUERY SELECT 0::bigint, 0::bigint, 0::bigint, ''::text, ''::text, NULL::bytea;
  END LOOP;
END $$;

-- Removes the entries of a stream before `position`, which are taken in.
CREATE OR REPLACE FUNCTION hybrid_layer_1.trim(queue text, "position" bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM hybrid_layer_1.message m WHERE m.ctid = ANY(ARRAY(
    SELECT x.ctid FROM hybrid_layer_1.message x WHERE x.queue = trim.queue AND x.id < trim."position"
      FOR UPDATE SKIP LOCKED
  ));
END $$;

-- Leaves a note for a machine, unless that is gone or does not seem to read. Returns whether it was left, and `rang`.
CREATE OR REPLACE FUNCTION hybrid_layer_1.note_machine_(
  whose text, machine text, k bigint, epoch text, note text, capacity bigint, OUT left_it boolean, OUT rang boolean
) LANGUAGE plpgsql AS $$
DECLARE
  NOTES CONSTANT bigint := 5000;
  q text := whose || '|' || machine || '!';
BEGIN
  rang := true;
  PERFORM 1 FROM hybrid_layer_1.message m WHERE m.queue = q ORDER BY m.id
    OFFSET hybrid_layer_1.room_(whose, machine, capacity) + NOTES - 1 LIMIT 1;
  left_it := NOT FOUND;
  IF left_it THEN
    rang := hybrid_layer_1.note_(q, k, epoch, note);
  END IF;
END $$;

-- Removes what nobody will ask for any more, of any prefix. Each process calls it now and then; one at a time works.
CREATE OR REPLACE FUNCTION hybrid_layer_1.sweep() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  SLACK CONSTANT bigint := 3600000; -- the clock may be set
  now bigint := hybrid_layer_1.clock_();
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtextextended('hybrid_layer_1.sweep', 0)) THEN
    RETURN;
  END IF;
  DELETE FROM hybrid_layer_1.message m WHERE m.ctid = ANY(ARRAY(
    SELECT x.ctid FROM hybrid_layer_1.message x WHERE x.until_ms < now - SLACK FOR UPDATE SKIP LOCKED
  ));
  DELETE FROM hybrid_layer_1.member m WHERE m.ctid = ANY(ARRAY(
    SELECT x.ctid FROM hybrid_layer_1.member x WHERE x.until_ms < now - SLACK FOR UPDATE SKIP LOCKED
  ));
  DELETE FROM hybrid_layer_1.alive m WHERE m.ctid = ANY(ARRAY(
    SELECT x.ctid FROM hybrid_layer_1.alive x WHERE x.until_ms < now - SLACK FOR UPDATE SKIP LOCKED
  ));
  DELETE FROM hybrid_layer_1.counter c WHERE c.until_ms < now;
  DELETE FROM hybrid_layer_1.report r WHERE r.until_ms < now;
  DELETE FROM hybrid_layer_1.listener l WHERE l.pid NOT IN (SELECT a.pid FROM pg_stat_activity a);
  DELETE FROM hybrid_layer_1.body m WHERE m.ctid = ANY(ARRAY(
    SELECT x.ctid FROM hybrid_layer_1.body x WHERE x.until_ms < now FOR UPDATE SKIP LOCKED
  ));
END $$;
