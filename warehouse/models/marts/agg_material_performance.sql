select
    units.material,
    count(*) as total_units,
    count(*) filter (where units.is_passed) as passed_units,
    count(*) filter (where not units.is_passed) as failed_units,
    {{ percent_of('count(*) filter (where units.is_passed)', 'count(*)') }} as pass_rate,
    round(avg(units.durability_score), 4) as avg_durability,
    round(avg(units.color_match_rating), 4) as avg_color_match,
    round(avg(units.length_mm), 4) as avg_length,
    round(avg(units.wall_thickness_mm), 4) as avg_thickness,
    count(*) filter (where units.durability_score >= 85) as high_durability_units,
    count(*) filter (where units.durability_score >= 70 and units.durability_score < 85) as medium_durability_units,
    count(*) filter (where units.durability_score < 70) as low_durability_units,
    max(units._airbyte_extracted_at) as _airbyte_extracted_at
from {{ ref('fct_production') }} as units
where units.component_type = 'bodies'
group by units.material
