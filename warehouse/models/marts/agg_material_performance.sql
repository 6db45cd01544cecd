select
    units.material,
    count(*) as total_units,
    count(*) filter (where units.is_passed) as passed_units,
    count(*) filter (where not units.is_passed) as failed_units,
    {{ percent_of('count(*) filter (where units.is_passed)', 'count(*)') }} as pass_rate,
    avg(units.durability_score) as avg_durability,
    avg(units.color_match_rating) as avg_color_match,
    avg(units.length_mm) as avg_length,
    avg(units.wall_thickness_mm) as avg_thickness,
    count(*) filter (where units.durability_score >= 85) as high_durability_units,
    count(*) filter (where units.durability_score >= 70 and units.durability_score < 85) as medium_durability_units,
    count(*) filter (where units.durability_score < 70) as low_durability_units,
    max(units._airbyte_extracted_at) as _airbyte_extracted_at
from {{ ref('fct_production') }} as units
where units.component_type = 'bodies'
group by units.material
