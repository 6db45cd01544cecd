-- Up to where the log of each source is in the warehouse; written in the transaction of the rows (R7).
create table ballpoint.streams (
    source text primary key,
    slot text not null,
    system_id text not null,
    timeline bigint not null,
    end_lsn pg_lsn not null,
    -- The source's clock, at the last transaction that is in the warehouse.
    committed_at timestamptz,
    updated_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);
comment on column ballpoint.streams.end_lsn is
    'everything that was committed in the source before it is in the warehouse';
