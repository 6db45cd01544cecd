-- The daily table counts what the fact table holds, component by component.
select component_type, facts.units, days.units as counted_units
from (
    select component_type, count(*) as units
    from {{ ref('fct_production') }}
    group by component_type
) as facts
full join (
    select component_type, sum(total_units) as units
    from {{ ref('fact_production_quality') }}
    group by component_type
) as days using (component_type)
where facts.units is distinct from days.units
