{{
    config(
        materialized='incremental',
        unique_key='unit_key',
        incremental_strategy='delete+insert',
        indexes=[
            {'columns': ['unit_key'], 'unique': true},
            {'columns': ['component_type', '_airbyte_extracted_at']},
            {'columns': ['timestamp']}
        ]
    )
}}

-- A source is loaded on its own, so each component has its own high-water mark: a unit that lands late is newer than
-- its component's mark whatever the other sources have landed meanwhile, and whatever day it was made.
select units.*
from {{ ref('int_production') }} as units
{%- if is_incremental() %}
where
    {%- for component in ['refills', 'bodies', 'springs'] %}
    {% if not loop.first %}or {% endif -%}
    (units.component_type = '{{ component }}' and units._airbyte_extracted_at > (
        select coalesce(max(built._airbyte_extracted_at), '-infinity')
        from {{ this }} as built
        where built.component_type = '{{ component }}'
    ))
    {%- endfor %}
{%- endif %}
