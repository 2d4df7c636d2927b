-- SPDX-License-Identifier: BSD-3-Clause
-- Groups: memberships, registrations of machines, messages to the members.

-- Makes a channel a member until now + `life`. `how` is "add", "restore" (only if it is missing) or "raise" (only if it
-- is missing or ends earlier). `tell`, a process or "", is notified: in its notes, under its number `tell_k`; or, if
-- `tell_channel` is not "", there. False: that process is gone.
CREATE OR REPLACE FUNCTION hybrid_layer_1.group_add(
  whose text, grp text, part text, name text, addressee text, k bigint, life bigint, how text,
  tell text, tell_k bigint, tell_channel text, first text,
  OUT added boolean, OUT rang boolean, OUT epoch text, OUT now bigint
) LANGUAGE plpgsql AS $$
DECLARE
  note text;
  v text;
BEGIN
  rang := true;
  added := true;
  epoch := hybrid_layer_1.epoch_(whose, false);
  now := hybrid_layer_1.clock_();
  IF tell <> '' AND hybrid_layer_1.is_gone_(whose, tell, first, now) THEN
    added := false;
    RETURN;
  END IF;
  INSERT INTO hybrid_layer_1.member AS m (grp, part, name, addressee, k, until_ms)
    VALUES (whose || '|' || group_add.grp, group_add.part, group_add.name, group_add.addressee, group_add.k, now + life)
    ON CONFLICT ON CONSTRAINT member_pkey DO UPDATE SET until_ms = excluded.until_ms
    WHERE how = 'add' OR m.until_ms <= now OR (how = 'raise' AND m.until_ms < excluded.until_ms);
  IF tell <> '' THEN
    note := '+|' || group_add.grp || '|' || group_add.part || group_add.name || '|' || now + life || '|' || epoch;
    IF tell_channel <> '' THEN
      v := pg_notify(tell_channel, 'n|' || note)::text;
    ELSE
      rang := hybrid_layer_1.note_(whose || '|' || tell || '|notes', tell_k, epoch, note);
    END IF;
  END IF;
END $$;

CREATE OR REPLACE FUNCTION hybrid_layer_1.group_discard(
  whose text, grp text, part text, name text, tell text, tell_k bigint, tell_channel text, OUT rang boolean
) LANGUAGE plpgsql AS $$
DECLARE
  note text := '-|' || grp || '|' || part || name;
  v text;
BEGIN
  rang := true;
  DELETE FROM hybrid_layer_1.member m WHERE m.grp = whose || '|' || group_discard.grp AND m.part = group_discard.part
    AND m.name = group_discard.name;
  IF tell_channel <> '' THEN
    v := pg_notify(tell_channel, 'n|' || note)::text;
  ELSIF tell <> '' THEN
    rang := hybrid_layer_1.note_(whose || '|' || tell || '|notes', tell_k, '', note);
  END IF;
END $$;

-- Registers a group for a machine. T is above the old one's and above `forgotten`.
CREATE OR REPLACE FUNCTION hybrid_layer_1.register(
  whose text, grp text, machine text, k bigint, life bigint, forgotten bigint,
  OUT t bigint, OUT epoch text, OUT now bigint
) LANGUAGE plpgsql AS $$
BEGIN
  epoch := hybrid_layer_1.epoch_(whose, false);
  now := hybrid_layer_1.clock_();
  INSERT INTO hybrid_layer_1.member AS m (grp, part, name, addressee, k, until_ms)
    VALUES (whose || '|' || register.grp, machine || '!', '', machine, register.k, greatest(now + life, forgotten + 1))
    ON CONFLICT ON CONSTRAINT member_pkey DO UPDATE SET until_ms = greatest(m.until_ms + 1, excluded.until_ms)
    RETURNING m.until_ms INTO t;
END $$;

CREATE OR REPLACE FUNCTION hybrid_layer_1.forget(whose text, grp text, machine text, t bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM hybrid_layer_1.member m WHERE m.grp = whose || '|' || forget.grp AND m.part = machine || '!'
    AND m.name = '' AND m.until_ms = t;
END $$;

-- Makes a channel that is on a machine a member, for another process: registers the group, and leaves a note. What is
-- sent to the group from now on comes behind the note. False: the machine is gone, or does not read.
CREATE OR REPLACE FUNCTION hybrid_layer_1.machine_add(
  whose text, grp text, channel text, machine text, k bigint, life bigint, capacity bigint, first text,
  OUT added boolean, OUT rang boolean, OUT epoch text, OUT now bigint
) LANGUAGE plpgsql AS $$
DECLARE
  put record;
BEGIN
  rang := true;
  added := false;
  epoch := hybrid_layer_1.epoch_(whose, false);
  now := hybrid_layer_1.clock_();
  IF hybrid_layer_1.is_gone_(whose, machine, first, now) THEN
    RETURN;
  END IF;
  put := hybrid_layer_1.note_machine_(whose, machine, k, epoch,
    '+|' || grp || '|' || channel || '|' || now + life || '|' || epoch, capacity);
  added := put.left_it;
  rang := put.rang;
  IF added THEN
    PERFORM hybrid_layer_1.register(whose, grp, machine, k, 2 * life, 0);
  END IF;
END $$;

-- Leaves a note for a machine, unless that is gone.
CREATE OR REPLACE FUNCTION hybrid_layer_1.machine_note(
  whose text, machine text, k bigint, note text, capacity bigint, OUT rang boolean
) LANGUAGE plpgsql AS $$
DECLARE
  put record;
BEGIN
  rang := true;
  IF NOT hybrid_layer_1.is_gone_(whose, machine, '', hybrid_layer_1.clock_()) THEN
    put := hybrid_layer_1.note_machine_(whose, machine, k, '', note, capacity);
    rang := put.rang;
  END IF;
END $$;

-- The parts of a group without a capacity in `known`, as a list, if not all have the same `capacity`, which then is 0.
CREATE OR REPLACE FUNCTION hybrid_layer_1.unknown_(g text, capacity bigint, known text[], now bigint) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
  IF capacity > 0 THEN
    RETURN '';
  END IF;
  RETURN coalesce((
    SELECT string_agg(DISTINCT m.part, ',') FROM hybrid_layer_1.member m
      WHERE m.grp = g AND m.until_ms > now AND m.part <> ALL (known)
  ), '');
END $$;

-- Sends to the members, up to 64 parts with locks above `after`, or more if the last ones have the same lock. `more` is
-- the last one's lock if there may be others, else NULL. Parts whose capacities are missing are in the list `missing`;
-- then nothing was sent. `skip` is a machine that gets nothing, or "". `is_spread`: normal channels get nothing and are in
-- the list `elsewhere`. `silent` lists the locks of queues on which nobody sleeps, but perhaps the caller's own session.
-- With a `channel`, that of the group, the members of processes get the message by way of the channels of these, and then
-- it is published to the group; each process that listens to that is one more that is reached. `own_k` is the number of
-- the process to whose channel the caller's session listens, or 0. The members in the list `excluded` get nothing;
-- machines read that in the payload. `up_to` is for the second of several messages and those behind it: they go to all
-- parts up to this lock, and none is missing. One that joined in between gets them whatever its queue holds.
CREATE OR REPLACE FUNCTION hybrid_layer_1.group_send(
  whose text, grp text, payload bytea, life bigint, capacity bigint, parts text, capacities text, skip text,
  is_spread boolean, after bigint, channel text, own_k bigint, excluded text, up_to bigint DEFAULT NULL,
  OUT reached bigint, OUT full_ bigint, OUT dead bigint, OUT expired bigint, OUT epoch text, OUT now bigint,
  OUT elsewhere text, OUT silent text, OUT missing text, OUT more bigint
) LANGUAGE plpgsql AS $$
DECLARE
  LAST_K CONSTANT bigint := 9223372036854775807;
  at_once bigint := CASE WHEN up_to IS NULL THEN 64 ELSE LAST_K END;
  g text := whose || '|' || grp;
  known text[] := string_to_array(parts, ',');
  of_known bigint[] := string_to_array(capacities, ',')::bigint[];
  named text;
  room bigint;
  left_out text[] := string_to_array(excluded, ',');
  found bigint := 0;
  p record;
  put record;
BEGIN
  reached := 0;
  full_ := 0;
  dead := 0;
  expired := 0;
  elsewhere := '';
  silent := '';
  SELECT e.value INTO epoch FROM hybrid_layer_1.epoch e WHERE e.prefix = whose;
  IF epoch IS NULL THEN
    epoch := hybrid_layer_1.begin_epoch_(whose, false);
  END IF;
  now := date_part('epoch', clock_timestamp()) * 1000;
  missing := CASE WHEN up_to IS NULL THEN hybrid_layer_1.unknown_(g, capacity, known, now) ELSE '' END;
  IF missing <> '' THEN
    RETURN;
  END IF;
  FOR p IN
    SELECT m.part, m.addressee, m.k, max(m.until_ms) AS t, count(*) AS n, string_agg(m.name, ',') AS names
      FROM hybrid_layer_1.member m
      WHERE m.grp = g AND m.until_ms > group_send.now AND m.k > after AND m.k <= coalesce(up_to, LAST_K)
        AND (skip = '' OR m.addressee <> skip)
        AND (excluded = '' OR m.part || m.name <> ALL (left_out))
      GROUP BY m.part, m.addressee, m.k ORDER BY m.k FETCH FIRST (at_once) ROWS WITH TIES
  LOOP
    found := found + 1;
    more := p.k;
    IF channel <> '' AND p.addressee <> '' AND p.addressee NOT LIKE '@%' THEN
      IF p.k <> own_k AND pg_try_advisory_xact_lock(p.k + 2) THEN
        dead := dead + p.n;
        IF hybrid_layer_1.is_gone_(whose, p.addressee, '', now) THEN
          DELETE FROM hybrid_layer_1.member m WHERE m.grp = g AND m.part = p.part;
        END IF;
      ELSE
        PERFORM hybrid_layer_1.notify_(
          'hl1p_' || to_hex(p.k), 'a|' || grp || '|' || now + life || '|' || epoch || '|' || p.part || p.names || '|',
          payload, now + life);
        reached := reached + p.n;
      END IF;
    ELSIF p.addressee <> '' AND hybrid_layer_1.is_gone_(whose, p.addressee, '', now) THEN
      dead := dead + p.n;
      DELETE FROM hybrid_layer_1.member m WHERE m.grp = g AND m.part = p.part;
    ELSIF p.addressee = '' AND is_spread THEN
      elsewhere := elsewhere || ',' || p.part;
    ELSE
      room := CASE WHEN capacity > 0 THEN capacity ELSE of_known[array_position(known, p.part)] END;
      named := p.part || p.names;
      IF p.addressee LIKE '@%' THEN
        room := hybrid_layer_1.room_(whose, p.addressee, room);
        named := '=' || grp || ',' || p.t;
      END IF;
      put := hybrid_layer_1.store_(whose || '|' || p.part, p.k, epoch, named, payload, room, life);
      expired := expired + put.expired;
      IF put.stored THEN
        reached := reached + p.n;
      ELSE
        full_ := full_ + p.n;
      END IF;
      IF NOT put.rang THEN
        silent := silent || ',' || p.k;
      END IF;
    END IF;
  END LOOP;
  IF up_to IS NOT NULL THEN
    more := nullif(up_to, LAST_K);
  ELSIF found < at_once THEN
    more := NULL;
  END IF;
  IF more IS NULL AND channel <> '' THEN
    PERFORM hybrid_layer_1.notify_(channel, 'g|' || now + life || '|' || epoch || '||', payload, now + life);
    reached := reached + hybrid_layer_1.listeners_(channel, false);
  END IF;
END $$;

-- As group_send, for several messages, in order, to the same parts. Numbers are added up. What is published expires a ms
-- later than the one before: the server drops a notification that equals another one of its transaction.
CREATE OR REPLACE FUNCTION hybrid_layer_1.group_send_multiple(
  whose text, grp text, payloads bytea[], life bigint, capacity bigint, parts text, capacities text, skip text,
  is_spread boolean, after bigint, channel text, own_k bigint, excluded text,
  OUT reached bigint, OUT full_ bigint, OUT dead bigint, OUT expired bigint, OUT epoch text, OUT now bigint,
  OUT elsewhere text, OUT silent text, OUT missing text, OUT more bigint
) LANGUAGE plpgsql AS $$
DECLARE
  LAST_K CONSTANT bigint := 9223372036854775807;
  up_to bigint;
  payload bytea;
  sent record;
BEGIN
  reached := 0;
  full_ := 0;
  dead := 0;
  expired := 0;
  silent := '';
  FOREACH payload IN ARRAY payloads LOOP
    sent := hybrid_layer_1.group_send(
      whose, grp, payload, life, capacity, parts, capacities, skip, is_spread, after, channel, own_k, excluded, up_to);
    reached := reached + sent.reached;
    full_ := full_ + sent.full_;
    dead := dead + sent.dead;
    expired := expired + sent.expired;
    epoch := sent.epoch;
    now := sent.now;
    elsewhere := sent.elsewhere;
    silent := silent || sent.silent;
    missing := sent.missing;
    more := sent.more;
    EXIT WHEN missing <> '';
    up_to := coalesce(more, LAST_K);
    life := CASE WHEN channel = '' THEN life ELSE life + 1 END;
  END LOOP;
END $$;

-- The members, as a list, without those whose process or machine is gone.
CREATE OR REPLACE FUNCTION hybrid_layer_1.group_channels(whose text, grp text, OUT listed text) LANGUAGE plpgsql AS $$
DECLARE
  now bigint := hybrid_layer_1.clock_();
BEGIN
  SELECT coalesce(string_agg(m.part || m.name, ','), '') INTO listed FROM hybrid_layer_1.member m
    WHERE m.grp = whose || '|' || group_channels.grp AND m.until_ms > now
      AND (m.addressee = '' OR NOT hybrid_layer_1.is_gone_(whose, m.addressee, '', now));
END $$;

-- Gives a message to the machines with members but `skip`, and, with the `channel` of the group, to the processes that
-- listen to it. `asked` is how many. `silent` as in group_send.
CREATE OR REPLACE FUNCTION hybrid_layer_1.ask(
  whose text, grp text, payload bytea, life bigint, skip text, channel text, OUT asked bigint, OUT silent text
) LANGUAGE plpgsql AS $$
DECLARE
  CAPACITY CONSTANT bigint := 10000;
  now bigint := hybrid_layer_1.clock_();
  epoch text;
  p record;
  put record;
BEGIN
  asked := 0;
  silent := '';
  epoch := hybrid_layer_1.epoch_(whose, false);
  FOR p IN
    SELECT m.part, m.addressee, m.k, m.until_ms AS t FROM hybrid_layer_1.member m
      WHERE m.grp = whose || '|' || ask.grp AND m.until_ms > now AND m.addressee LIKE '@%' AND m.addressee <> skip
      ORDER BY m.k
  LOOP
    IF NOT hybrid_layer_1.is_gone_(whose, p.addressee, '', now) THEN
      put := hybrid_layer_1.store_(
        whose || '|' || p.part, p.k, epoch, '=' || ask.grp || ',' || p.t, payload, CAPACITY, life);
      asked := asked + CASE WHEN put.stored THEN 1 ELSE 0 END;
      IF NOT put.rang THEN
        silent := silent || ',' || p.k;
      END IF;
    END IF;
  END LOOP;
  IF channel <> '' THEN
    asked := asked + hybrid_layer_1.listeners_(channel, true);
    PERFORM hybrid_layer_1.notify_(channel, 'g|' || now + life || '|' || epoch || '||', payload, now + life);
  END IF;
END $$;

-- Deletes what the prefix has, advances the epoch, and tells the living, and who listens to `channel`.
CREATE OR REPLACE FUNCTION hybrid_layer_1.flush(whose text, channel text, OUT epoch text, OUT told text)
LANGUAGE plpgsql AS $$
DECLARE
  v text;
BEGIN
  PERFORM hybrid_layer_1.epoch_(whose, false);
  UPDATE hybrid_layer_1.epoch AS e SET value = split_part(e.value, ':', 1) || ':' || split_part(e.value, ':', 2)::bigint + 1
    WHERE e.prefix = whose RETURNING e.value INTO epoch;
  DELETE FROM hybrid_layer_1.message m WHERE m.ctid = ANY(ARRAY(
    SELECT x.ctid FROM hybrid_layer_1.message x WHERE x.queue >= whose || '|' AND x.queue < whose || '}'
      FOR UPDATE SKIP LOCKED
  ));
  DELETE FROM hybrid_layer_1.member m WHERE m.ctid = ANY(ARRAY(
    SELECT x.ctid FROM hybrid_layer_1.member x WHERE x.grp >= whose || '|' AND x.grp < whose || '}'
      FOR UPDATE SKIP LOCKED
  ));
  SELECT coalesce(string_agg(substr(a.name, length(whose) + 2), ','), '') INTO told FROM hybrid_layer_1.alive a
    WHERE a.name >= whose || '|' AND a.name < whose || '}' AND a.until_ms > hybrid_layer_1.clock_();
  IF channel <> '' THEN
    v := pg_notify(channel, 'f|' || epoch)::text;
  END IF;
END $$;

-- Leaves a note for a process.
CREATE OR REPLACE FUNCTION hybrid_layer_1.note(whose text, process text, k bigint, epoch text, note text, OUT rang boolean)
LANGUAGE plpgsql AS $$
BEGIN
  rang := hybrid_layer_1.note_(whose || '|' || process || '|notes', k, epoch, note);
END $$;
