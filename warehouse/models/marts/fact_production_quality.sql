select
    md5(units.component_type || '|' || units.line_id || '|' || units.production_date) as quality_key,
    units.component_type,
    units.line_id,
    units.production_date,
    cast(units.production_date as timestamp) at time zone '{{ var("plant_timezone") }}' as day_start,
    count(*) as total_units,
    count(*) filter (where units.is_passed) as passed_units,
    count(*) filter (where not units.is_passed) as failed_units,
    {{ percent_of('count(*) filter (where units.is_passed)', 'count(*)') }} as pass_rate,
    {{ percent_of('count(*) filter (where units.is_passed)', 'count(*)') }} as avg_quality_score,
    max(units._airbyte_extracted_at) as _airbyte_extracted_at
from {{ ref('fct_production') }} as units
group by units.component_type, units.line_id, units.production_date
