-- Write-backs as the last step of a scheduled run, and those that fail as incidents.

alter table ballpoint.schedule_fires
    drop constraint schedule_fires_stage_check,
    add constraint schedule_fires_stage_check check
        (stage in ('sync', 'build', 'refresh_metrics', 'write_backs', 'done'));

alter table ballpoint.incidents
    drop constraint incidents_kind_check,
    add constraint incidents_kind_check check
        (kind in ('source', 'build', 'metrics', 'write_back', 'actor', 'freshness'));
