-- SPDX-License-Identifier: BSD-3-Clause
-- The tables. They are unlogged: a crash or a failover empties them, and nothing is ever flushed to disk for a message.
--
-- Names of queues, groups and addressees begin with "<prefix>|". Times are in ms, by the server's clock.

CREATE SCHEMA IF NOT EXISTS hybrid_layer_1;

-- Ids of messages, and of what was published. Logged, unlike the tables: an unlogged sequence, such as that of an identity
-- column of an unlogged table, is damaged on a standby that is promoted soon after it was made ("bad magic number in
-- sequence"). A sequence writes to the log once in 32 numbers, and no session of the layer waits for that.
CREATE SEQUENCE IF NOT EXISTS hybrid_layer_1.message_id_seq;
CREATE SEQUENCE IF NOT EXISTS hybrid_layer_1.body_id_seq;

-- Messages and notes. A queue is "<prefix>|<normal channel>", "<prefix>|<inbox>!", "<prefix>|@<MACHINE>!" for a machine's
-- stream, or "<prefix>|<PROCESS>|notes". Ids rise within a queue in the order of the commits, since they are given under
-- the queue's lock. A note has no payload: its text is in `names`.
CREATE UNLOGGED TABLE IF NOT EXISTS hybrid_layer_1.message (
  id bigint NOT NULL,
  queue text COLLATE "C" NOT NULL,
  until_ms bigint NOT NULL,
  epoch text COLLATE "C" NOT NULL,
  names text COLLATE "C" NOT NULL,
  payload bytea
) WITH (
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_vacuum_insert_threshold = -1
);
ALTER TABLE hybrid_layer_1.message ALTER payload SET STORAGE EXTERNAL; -- it may be encrypted: nothing to compress
CREATE INDEX IF NOT EXISTS message_queue ON hybrid_layer_1.message (queue, id);

-- The flush epoch of each prefix, "<incarnation>:<flushes>". Another incarnation: the data was lost.
CREATE UNLOGGED TABLE IF NOT EXISTS hybrid_layer_1.epoch (
  prefix text COLLATE "C" PRIMARY KEY,
  value text COLLATE "C" NOT NULL,
  born_ms bigint NOT NULL,
  was_lost boolean NOT NULL -- somebody knew of earlier data
);

-- Which processes and machines live, and until when unless they renew that. A machine has a registration and inboxes.
CREATE UNLOGGED TABLE IF NOT EXISTS hybrid_layer_1.alive (
  name text COLLATE "C" PRIMARY KEY,
  until_ms bigint NOT NULL,
  registration text COLLATE "C" NOT NULL DEFAULT '',
  inboxes bigint NOT NULL DEFAULT 1
) WITH (fillfactor = 50);

-- The members of groups. A part is an inbox with its "!", a machine "@<MACHINE>!", or a normal channel; `name` is what
-- follows the "!". `k` is the lock of the part's queue. Of a machine `until_ms` is T, which names its registration.
CREATE UNLOGGED TABLE IF NOT EXISTS hybrid_layer_1.member (
  grp text COLLATE "C" NOT NULL,
  part text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  addressee text COLLATE "C" NOT NULL, -- the process or "@<MACHINE>"; empty for a normal channel
  k bigint NOT NULL,
  until_ms bigint NOT NULL,
  PRIMARY KEY (grp, part, name)
) WITH (fillfactor = 70);

-- What was published and is too large for a notification.
CREATE UNLOGGED TABLE IF NOT EXISTS hybrid_layer_1.body (
  id bigint PRIMARY KEY DEFAULT nextval('hybrid_layer_1.body_id_seq'),
  until_ms bigint NOT NULL,
  head text COLLATE "C" NOT NULL,
  payload bytea NOT NULL
);
ALTER TABLE hybrid_layer_1.body ALTER payload SET STORAGE EXTERNAL;

-- Which sessions listen to the channel of a group, for the process of the number `k`.
CREATE UNLOGGED TABLE IF NOT EXISTS hybrid_layer_1.listener (
  channel text COLLATE "C" NOT NULL,
  k bigint NOT NULL,
  pid int NOT NULL,
  PRIMARY KEY (channel, k, pid)
);

-- What processes have reported that they counted: their sums, and by reporter the number of the last report.
CREATE UNLOGGED TABLE IF NOT EXISTS hybrid_layer_1.counter (
  prefix text COLLATE "C" NOT NULL,
  field text COLLATE "C" NOT NULL,
  n bigint NOT NULL,
  until_ms bigint NOT NULL,
  PRIMARY KEY (prefix, field)
);
CREATE UNLOGGED TABLE IF NOT EXISTS hybrid_layer_1.report (
  reporter text COLLATE "C" PRIMARY KEY,
  last bigint NOT NULL,
  until_ms bigint NOT NULL
);
