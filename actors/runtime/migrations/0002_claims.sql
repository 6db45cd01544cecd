-- The fence of a work row: each claim has a number of its own. `attempt` is not one, because an
-- interruption gives its attempt back.
alter table ballpoint.work add column claim bigint not null default 0;
