-- What each plant is told about its own batches: reverse ETL writes these rows back into its database.
with batches as (
    select
        units.component_type,
        units.machine_id,
        units.batch_id,
        count(*) as total_units,
        {{ percent_of('count(*) filter (where units.is_passed)', 'count(*)') }} as quality_score,
        {{ percent_of('count(units.defect_type)', 'count(*)') }} as defect_share,
        max(units._airbyte_extracted_at) as _airbyte_extracted_at
    from {{ ref('fct_production') }} as units
    group by units.component_type, units.machine_id, units.batch_id
)

select
    batches.component_type,
    batches.machine_id,
    batches.batch_id,
    batches.total_units,
    batches.quality_score,
    batches.defect_share,
    batches.defect_share > {{ var('hold_above_percent') }} as hold,
    batches._airbyte_extracted_at
from batches
