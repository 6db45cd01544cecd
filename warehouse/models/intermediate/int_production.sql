-- Every inspected unit of the three plants in one shape: what only some of them measure is null for the others.
{%- set components = ['refills', 'bodies', 'springs'] -%}
{%- set shared_columns = [
    'id', 'timestamp', 'line_id', 'machine_id', 'batch_id', 'shift_id', 'operator_id', 'quality_status',
    'cycle_time_seconds', 'first_pass_yield', 'defect_type', 'rework_required',
    'material_cost_per_unit', 'labor_cost_per_unit', 'energy_cost_per_unit',
    'temperature_celsius', 'humidity_percent', 'oee', 'availability', 'performance', 'quality_rate'
] -%}
{#- Column, its type, and the components that have it. -#}
{%- set own_columns = [
    ['ink_viscosity_pas', 'numeric', ['refills']],
    ['write_distance_km', 'numeric', ['refills']],
    ['tip_diameter_mm', 'numeric', ['refills']],
    ['ink_color', 'text', ['refills']],
    ['flow_consistency', 'numeric', ['refills']],
    ['durability_score', 'numeric', ['bodies']],
    ['color_match_rating', 'numeric', ['bodies']],
    ['length_mm', 'numeric', ['bodies']],
    ['wall_thickness_mm', 'numeric', ['bodies']],
    ['diameter_mm', 'numeric', ['springs']],
    ['tensile_strength_mpa', 'numeric', ['springs']],
    ['compression_ratio', 'numeric', ['springs']],
    ['material', 'text', ['bodies', 'springs']]
] %}

with all_units as (
    {%- for component in components %}
    {% if not loop.first %}union all{% endif %}
    select
        units.component_type,
        {%- for column in shared_columns %}
        units.{{ column }},
        {%- endfor %}
        {%- for column in own_columns %}
        {% if component in column[2] %}cast(units.{{ column[0] }} as {{ column[1] }}){% else %}cast(null as {{ column[1] }}){% endif %} as {{ column[0] }},
        {%- endfor %}
        units.created_at,
        units.updated_at,
        units._airbyte_extracted_at
    from {{ ref('stg_' ~ component) }} as units
    {%- endfor %}
)

select
    units.component_type || '-' || units.id as unit_key,
    units.*,
    cast({{ plant_time('units.timestamp') }} as date) as production_date,
    date_trunc('hour', units.timestamp) as production_hour,
    extract(isodow from {{ plant_time('units.timestamp') }}) in (6, 7) as is_weekend,
    units.quality_status = 'ok' as is_passed,
    units.material_cost_per_unit + units.labor_cost_per_unit + units.energy_cost_per_unit as total_cost_per_unit
from all_units as units
