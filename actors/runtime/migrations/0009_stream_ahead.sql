-- While tables of a source are copied, its other tables run ahead of the stream's position.
alter table ballpoint.streams add column ahead_lsn pg_lsn;
comment on column ballpoint.streams.ahead_lsn is
    'while tables are copied: everything that was committed in the source before it is in the tables that are not';
