with hours as (
    select
        units.component_type,
        units.production_hour,
        count(*) as total_units,
        count(*) filter (where units.is_passed) as passed_units,
        count(*) filter (where not units.is_passed) as failed_units,
        max(units._airbyte_extracted_at) as _airbyte_extracted_at
    from {{ ref('fct_production') }} as units
    group by units.component_type, units.production_hour
)

select
    hours.component_type || '-' || to_char(hours.production_hour at time zone 'UTC', 'YYYYMMDDHH24') as trend_key,
    hours.component_type,
    hours.production_hour,
    hours.total_units,
    hours.passed_units,
    hours.failed_units,
    {{ percent_of('hours.passed_units', 'hours.total_units') }} as pass_rate,
    -- The last four hours of the clock, not the last four rows: an hour without units makes the window no longer.
    {{ percent_of('sum(hours.passed_units) over last_four_hours', 'sum(hours.total_units) over last_four_hours') }}
        as moving_avg_pass_rate,
    hours._airbyte_extracted_at
from hours
window last_four_hours as (
    partition by hours.component_type
    order by hours.production_hour
    range between interval '3 hours' preceding and current row
)
