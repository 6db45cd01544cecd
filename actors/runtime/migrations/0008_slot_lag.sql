-- How far the slot of each stream is behind, as its source said at `lag_at`; null before the first look.
alter table ballpoint.streams
    add column lag_bytes bigint,
    add column lag_seconds double precision,
    add column retained_bytes bigint,
    add column lag_at timestamptz;
comment on column ballpoint.streams.lag_bytes is
    'log between the source''s present position and what is confirmed to be in the warehouse';
comment on column ballpoint.streams.lag_seconds is
    'since the source last had what is confirmed as its newest; 0: nothing is waiting';
comment on column ballpoint.streams.retained_bytes is
    'log that the source keeps on its disk for the slot';
