-- Schedules, what they and others set off, what is wrong, and who is told of it.

-- What caused a command, and the row into which the payload of a failed one went.
alter table ballpoint.work
    add column trigger text not null default 'manual',
    add column moved_to bigint;

-- A run is a command's execution with all its attempts: it waits as `retrying` between two of them.
alter table ballpoint.runs
    add column scope text not null default '',
    add column work_id bigint unique,
    add column attempt integer not null default 1,
    add column row_count bigint,
    drop constraint runs_status_check,
    add constraint runs_status_check check
        (status in ('running', 'retrying', 'success', 'nothing_new', 'failed', 'interrupted'));
alter table ballpoint.run_steps
    add column attempt integer not null default 1;

-- What the configuration says at the latest start. `next_at` is business time.
create table ballpoint.schedules (
    name text primary key,
    cron text not null,
    timezone text not null,
    full_refresh boolean not null,
    next_at timestamptz not null
);

-- One row each time a schedule was due: the row is what makes a fire happen once. It is written with
-- the commands of its first stage, and moved on with those of each later one. `due_at` is business time.
create table ballpoint.schedule_fires (
    schedule text not null,
    due_at timestamptz not null,
    run_id uuid not null,
    full_refresh boolean not null,
    missed integer not null,
    stage text not null default 'sync'
        check (stage in ('sync', 'build', 'refresh_metrics', 'done')),
    work_ids bigint[] not null,
    fired_at timestamptz not null default clock_timestamp(),
    primary key (schedule, due_at)
);
create index schedule_fires_open on ballpoint.schedule_fires (due_at) where stage <> 'done';
comment on column ballpoint.schedule_fires.missed is
    'earlier times that passed while nothing ran, and that this fire makes up for';

-- Since when the warehouse may lack something that a source has; business time, null: it lacks nothing.
create table ballpoint.freshness (
    source text primary key,
    unanswered_since timestamptz,
    behind_since timestamptz
);

-- What does not work. One row from the first failure to the recovery, and on if it comes back soon.
create table ballpoint.incidents (
    id uuid primary key,
    kind text not null check (kind in ('source', 'build', 'metrics', 'actor', 'freshness')),
    subject text not null,
    severity text not null check (severity in ('warning', 'error')),
    state text not null default 'open' check (state in ('open', 'closed')),
    causes text[] not null,
    error text not null,
    count integer not null default 1,
    opened_at timestamptz not null default clock_timestamp(),
    changed_at timestamptz not null default clock_timestamp(),
    closed_at timestamptz,
    notified text not null default 'nothing' check (notified in ('nothing', 'open', 'closed'))
);
create unique index incidents_one_open on ballpoint.incidents (kind, subject) where state = 'open';
create index incidents_by_time on ballpoint.incidents (opened_at desc);
comment on column ballpoint.incidents.causes is
    'each failure that is open; the incident closes when the last of them is gone';
comment on column ballpoint.incidents.notified is
    'which state was announced last; what lasts long enough and differs is announced next';

-- Messages to be delivered at least once; the id goes with the message.
create table ballpoint.alerts (
    id uuid primary key,
    incident uuid not null references ballpoint.incidents (id) on delete cascade,
    says text not null check (says in ('open', 'closed')),
    body json not null,
    state text not null default 'queued' check (state in ('queued', 'sent', 'dead')),
    attempt integer not null default 0,
    run_after timestamptz not null default clock_timestamp(),
    last_error text,
    created_at timestamptz not null default clock_timestamp(),
    sent_at timestamptz
);
create index alerts_queued on ballpoint.alerts (created_at) where state = 'queued';
