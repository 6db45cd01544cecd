-- What a restart needs, and what an answer can be traced back through.

-- Commands (R2). At most one queued and one running row for each kind and scope.
create table ballpoint.work (
    id bigint generated always as identity primary key,
    kind text not null,
    scope text not null,
    payload jsonb not null,
    state text not null default 'queued'
        check (state in ('queued', 'running', 'done', 'failed', 'dead')),
    attempt integer not null default 0,
    run_after timestamptz not null default clock_timestamp(),
    lease_until timestamptz,
    last_error text,
    traceparent text not null default '',
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp()
);
create unique index work_one_queued on ballpoint.work (kind, scope) where state = 'queued';
create unique index work_one_running on ballpoint.work (kind, scope) where state = 'running';
comment on column ballpoint.work.state is
    'failed: this attempt ended and its payload went into a later row; dead: given up';

-- Where each table of each source stands; written in the transaction of the rows (R7).
create table ballpoint.checkpoints (
    source text not null,
    table_schema text not null,
    table_name text not null,
    position jsonb not null,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (source, table_schema, table_name)
);

-- One row an execution of a stage.
create table ballpoint.runs (
    id uuid primary key,
    kind text not null,
    trigger text not null,
    status text not null default 'running'
        check (status in ('running', 'success', 'nothing_new', 'failed', 'interrupted')),
    error text,
    traceparent text not null default '',
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz
);
create index runs_by_start on ballpoint.runs (started_at desc);

-- One row a table loaded, a model built, a test run.
create table ballpoint.run_steps (
    run_id uuid not null references ballpoint.runs (id) on delete cascade,
    step integer not null,
    name text not null,
    status text not null default 'running'
        check (status in ('running', 'success', 'skipped', 'failed', 'interrupted')),
    row_count bigint,
    error text,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    primary key (run_id, step)
);

-- What happened. handled_at is null until the orchestrator has looked at the event.
create table ballpoint.events (
    id bigint generated always as identity primary key,
    payload jsonb not null,
    traceparent text not null default '',
    at timestamptz not null default clock_timestamp(),
    handled_at timestamptz
);
create index events_unhandled on ballpoint.events (id) where handled_at is null;

-- Conversations and their messages. json, not jsonb: a question may hold any character, and the
-- order of an answer's columns is kept.
create table ballpoint.conversations (
    id text primary key,
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp()
);
create table ballpoint.messages (
    conversation_id text not null references ballpoint.conversations (id) on delete cascade,
    seq integer not null,
    role text not null,
    content json not null,
    at timestamptz not null default clock_timestamp(),
    primary key (conversation_id, seq)
);

-- The evidence behind each answer.
create table ballpoint.proofs (
    id text primary key,
    body json not null,
    created_at timestamptz not null default clock_timestamp()
);
