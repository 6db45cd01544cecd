-- What is known of each source's tables, and which of them wait.

-- One row a table that was ever seen. `shape` is what the raw table follows; `seen` the one that it is
-- held back for.
create table ballpoint.source_tables (
    source text not null,
    table_schema text not null,
    table_name text not null,
    shape jsonb not null,
    hold text check (hold in ('quarantined', 'paused', 'ignored', 'gone')),
    reason text,
    seen jsonb,
    since timestamptz not null default clock_timestamp(),
    primary key (source, table_schema, table_name)
);
comment on column ballpoint.source_tables.since is
    'when the hold began, or when the shape was first followed';

alter table ballpoint.incidents
    drop constraint incidents_kind_check,
    add constraint incidents_kind_check check
        (kind in ('source', 'table', 'build', 'metrics', 'write_back', 'actor', 'freshness'));
