-- Write-backs: what was planned for a table of a source, who approved it, and what became of it.

-- One row a plan. `request` is what was asked for and is not done yet; `intent` says which
-- transaction of the target does it, written before that transaction commits, so that a restart can
-- ask the target what became of it.
create table ballpoint.plans (
    id uuid primary key,
    sync text not null,
    source text not null,
    target text not null,
    mode text not null,
    origin text not null check (origin in ('sync', 'proposal')),
    state text not null default 'planning'
        check (state in ('planning', 'planned', 'approved', 'rejected', 'applied', 'undone', 'failed')),
    request text check (request in ('plan', 'apply', 'undo')),
    requested_by text not null,
    reason text not null default '',
    evidence jsonb not null default 'null',
    -- Columns that a proposal sets, by key: [{"key": {…}, "set": {…}}, …]; null for a whole sync.
    proposal jsonb,
    -- The sync as it stood in its file when this was planned.
    definition jsonb not null default 'null',
    -- SHA-256 over everything that will be done: definition, ddl and rows.
    hash text,
    ddl text[] not null default '{}',
    added bigint not null default 0,
    changed bigint not null default 0,
    removed bigint not null default 0,
    unchanged bigint not null default 0,
    invalid bigint not null default 0,
    skipped bigint not null default 0,
    error text,
    approved_by text,
    approved_at timestamptz,
    comment text,
    intent text check (intent in ('apply', 'undo')),
    intent_xid bigint,
    intent_system text,
    written bigint,
    read_back jsonb,
    traceparent text not null default '',
    created_at timestamptz not null default clock_timestamp(),
    applied_at timestamptz,
    undone_at timestamptz
);
create index plans_by_sync on ballpoint.plans (sync, created_at desc);
create index plans_requested on ballpoint.plans (created_at) where request is not null;

-- The rows that a plan is about, in key order; unchanged ones are only counted.
create table ballpoint.plan_rows (
    plan_id uuid not null references ballpoint.plans (id) on delete cascade,
    seq bigint not null,
    kind text not null check (kind in ('added', 'changed', 'removed', 'invalid')),
    key jsonb not null,
    old jsonb,
    new jsonb,
    problem text,
    primary key (plan_id, seq)
);
create index plan_rows_by_kind on ballpoint.plan_rows (plan_id, kind, seq);

-- Who did what when. Rows are only ever added.
create table ballpoint.audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    who text not null,
    action text not null,
    sync text not null,
    plan_id uuid,
    detail jsonb not null default 'null'
);
create index audit_by_plan on ballpoint.audit (plan_id, id);
